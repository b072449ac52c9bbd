"""The SMTP pool: connections kept open between e-mails, never handed on in doubt."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

from jobs.email.connection import Connection, Delivery, connect
from jobs.email.mail_server import MailServer
from jobs.email.message import OutgoingEmail
from jobs.email.outcome import conclude, masked
from jobs.email.replies import ConnectionLostError, SmtpTroubleError

IDLE_SECONDS = 60.0
MAX_DELIVERIES = 100

_log = logging.getLogger(__name__)


class SmtpPool:
    """The worker's `context.mail`. Belongs to one event loop.

    At most `connections` are open at once, each opened when needed, the latest used first
    (so that spare ones grow old and are closed). `timeout_seconds` is the wait for one
    reply, and for opening a connection. Raises ValueError for a `url` that is none.
    """

    def __init__(self, url: str, *, connections: int, timeout_seconds: float) -> None:
        self._server = MailServer.parse(url)
        self._slots = asyncio.Semaphore(connections)
        self._timeout_seconds = timeout_seconds
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._tls_context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(self, email: OutgoingEmail) -> dict[str, Any]:
        """Hand over one e-mail; see MailSender. Every recipient's reply is in the result,
        and in the `result` of a PermanentError or RetryLater."""
        trouble: SmtpTroubleError | None = None
        delivery = Delivery(email)
        async with self._slots:
            try:
                connection = self._take_idle()
                if connection is not None and not await self._use(connection, delivery):
                    # It had died, or was closed, while nobody looked. Nothing was said.
                    connection, delivery = None, Delivery(email)
                if connection is None:
                    await self._use(await self._connect(), delivery, is_fresh=True)
            except SmtpTroubleError as error:
                trouble = error
        return conclude(delivery, trouble, str(self._server))

    async def probe(self) -> str | None:
        """What is wrong with the mail server, in words; None when it lets us in.

        Takes a slot like an e-mail does; when none is free, mail is on its way and that says it.
        """
        if self._slots.locked():
            return None
        async with self._slots:
            try:
                self._give_back(await self._connect())
            except SmtpTroubleError as error:
                return masked(str(error))
        return None

    async def aclose(self) -> None:
        """Close every connection; an e-mail under way is cut off and raises RetryLater."""
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
            if delivery.email.needs_smtputf8 and not connection.supports("smtputf8"):
                raise SmtpTroubleError(
                    "smtp_utf8_unsupported",
                    "an address has letters beyond ASCII and the mail server has no SMTPUTF8",
                    permanent=True,
                )
            await connection.deliver(delivery)
        except ConnectionLostError:
            if is_fresh or delivery.begun:
                raise
            return False
        finally:
            self._give_back(connection)
        return is_fresh or delivery.begun or not connection.said_goodbye

    async def _connect(self) -> Connection:
        if self._is_closed:
            raise ConnectionLostError("the worker is stopping")
        if self._tls_context is None:
            # Reading the certificates of the system takes 10-20 ms: once, not each time.
            self._tls_context = ssl.create_default_context()
        connection = await connect(self._server, self._tls_context, self._timeout_seconds)
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._open.discard(connection))
        _log.debug("smtp_connected", extra={"fields": {"server": str(self._server)}})
        return connection

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
