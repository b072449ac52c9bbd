"""The connections to one mail server: kept open between e-mails, never handed on in doubt."""

from __future__ import annotations

import asyncio
import logging
import ssl

from jobs.email.admission import Admission
from jobs.email.connection import Connection
from jobs.email.delivery import Delivery
from jobs.email.mail_server import MailServer
from jobs.email.opening import connect
from jobs.email.replies import ConnectionLostError, SmtpTroubleError

IDLE_SECONDS = 60.0
MAX_DELIVERIES = 100
# A server that let nobody in is asked last for so long.
DOWN_SECONDS = 30.0

_log = logging.getLogger(__name__)


class ServerPool:
    """At most `connections` are open at once, each opened when needed, the latest used first
    (so that spare ones grow old and are closed). `timeout_seconds` is the wait for one
    reply, and for opening a connection.
    """

    def __init__(self, server: MailServer, *, connections: int, timeout_seconds: float) -> None:
        self._server = server
        self._slots = asyncio.Semaphore(connections)
        self._timeout_seconds = timeout_seconds
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._tls_context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._down_until = 0.0
        # Why it let nobody in when it was last asked.
        self._trouble: SmtpTroubleError | None = None
        self._admission = Admission(self._open_one, lambda: bool(self._open))

    def __str__(self) -> str:
        return str(self._server)

    @property
    def is_down(self) -> bool:
        """It has just let nobody in, or taken no mail."""
        is_down = asyncio.get_running_loop().time() < self._down_until
        return is_down or self._admission.is_refused

    async def deliver(self, delivery: Delivery) -> None:
        """Hand over one e-mail; every reply is in `delivery`. Raises SmtpTroubleError."""
        async with self._slots:
            connection = self._take_idle()
            if connection is not None and not await self._use(connection, delivery):
                # It had died, or was closed, while nobody looked. Nothing was said.
                connection = None
                delivery.start_again()
            if connection is None:
                await self._use(await self._admission.enter(), delivery, is_fresh=True)

    async def probe(self) -> SmtpTroubleError | None:
        """What is wrong with the server; None when it lets us in.

        Takes a slot like an e-mail does; when none is free, what they came to says it: mail is
        on its way, or all of them wait before a closed door.
        """
        if self._slots.locked():
            return None if self._open else self._trouble
        async with self._slots:
            found = await self._admission.probe()
            if isinstance(found, SmtpTroubleError):
                return found
            self._give_back(found)
        return None

    async def aclose(self) -> None:
        """Close every connection; an e-mail under way is cut off."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        closing = [connection.closed for connection in self._open]
        for connection in self._open:
            if connection in self._idle:
                connection.quit()
            else:
                connection.abort()
        self._idle.clear()
        if closing:
            await asyncio.wait(closing)

    async def _use(
        self, connection: Connection, delivery: Delivery, *, is_fresh: bool = False
    ) -> bool:
        """False: the connection, used before, was dead; another may be tried."""
        try:
            connection.check(delivery.email)
            await connection.deliver(delivery)
            await self._deliver_the_rest(connection, delivery)
        except ConnectionLostError:
            if is_fresh or delivery.begun:
                raise
            return False
        except SmtpTroubleError as error:
            if error.is_ours:
                self._admission.refuse(error)
            raise
        finally:
            self._give_back(connection)
            if delivery.begun:
                self._admission.take_mail()
        return is_fresh or delivery.begun or not connection.said_goodbye

    async def _deliver_the_rest(self, connection: Connection, delivery: Delivery) -> None:
        """To those who were too many for one mail, in as many as it takes."""
        part = delivery
        while connection.is_usable and (more := part.beyond_the_limit()) is not None:
            try:
                await connection.deliver(more)
            finally:
                delivery.adopt(more)
            part = more

    async def _open_one(self) -> Connection:
        if self._is_closed:
            raise ConnectionLostError("the worker is stopping")
        try:
            connection = await connect(self._server, self._tls, self._timeout_seconds)
        except SmtpTroubleError as error:
            self._down_until = asyncio.get_running_loop().time() + DOWN_SECONDS
            # Another of the same: this one's traceback holds the mail that met it.
            self._trouble = SmtpTroubleError(error.code, str(error))
            raise
        self._down_until, self._trouble = 0.0, None
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._open.discard(connection))
        _log.debug("smtp_connected", extra={"fields": {"server": str(self._server)}})
        return connection

    def _tls(self) -> ssl.SSLContext:
        # Reading the certificates of the system takes 10-30 ms: once, not each time.
        if self._tls_context is None:
            self._tls_context = ssl.create_default_context()
        return self._tls_context

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: Connection) -> None:
        """Keep it when it is certain where the dialogue stands; else cut the line."""
        if not connection.is_usable:
            connection.abort()
        elif self._is_closed or connection.deliveries >= MAX_DELIVERIES:
            connection.quit()
        else:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = loop.call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        # The list is in order of use: what has waited longest stands first.
        while self._idle and loop.time() - self._idle[0].idle_since >= IDLE_SECONDS:
            self._idle.pop(0).quit()
        self._sweeper = None
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0].idle_since + IDLE_SECONDS, self._sweep)
