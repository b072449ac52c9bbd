"""One connection to a mail server, over which mails go; opening.py opens it and signs in.

The mails themselves do not go through aiosmtplib 5.1: it arms a time-out and a lock for
each reply, hides from the caller which recipient got which, and drops what arrives
between two commands, so that one cannot tell a connection that is out of step.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import aclosing

from jobs.email.delivery import Delivery
from jobs.email.meaning import fault_of_ours
from jobs.email.message import OutgoingEmail
from jobs.email.mime import FileChangedError
from jobs.email.replies import (
    SERVICE_CLOSING,
    ConnectionLostError,
    Reply,
    ReplyStream,
    SmtpTroubleError,
)
from jobs.errors import JobError, PermanentError

CHUNK_OCTETS = 256 * 1024
QUIT_SECONDS = 1.0
_LINE_DOT = re.compile(rb"(?m)^\.")
_UNFIT_FOR_A_COMMAND = re.compile(rb"[\x00-\x20\x7f<>]")


class Connection:
    """An open, signed-in connection. One delivery at a time."""

    def __init__(
        self,
        transport: asyncio.Transport,
        extensions: Mapping[str, str],
        timeout_seconds: float,
    ) -> None:
        self._stream = ReplyStream(transport)
        self._transport = transport
        self._extensions = extensions
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._in_dialogue = False
        self._needs_reset = False
        self._closing = False
        self.deliveries = 0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Open and in step. False while a delivery runs, and for good when one broke off."""
        return self._stream.is_clean and not self._in_dialogue and not self._closing

    @property
    def said_goodbye(self) -> bool:
        """The server answered 421: it is closing this connection."""
        return self._closing

    @property
    def closed(self) -> asyncio.Future[None]:
        return self._stream.closed

    def supports(self, extension: str) -> bool:
        return extension in self._extensions

    def check(self, email: OutgoingEmail) -> None:
        """Raises SmtpTroubleError for a mail that this server says it cannot take."""
        if email.needs_smtputf8 and not self.supports("smtputf8"):
            raise SmtpTroubleError(
                "smtp_utf8_unsupported",
                "an address has letters beyond ASCII and the mail server has no SMTPUTF8",
                permanent=True,
            )
        size, most = email.size_bytes, self._extensions.get("size", "").strip()
        if most.isdecimal() and 0 < int(most) < size:
            raise SmtpTroubleError(
                "smtp_permanent",
                f"the mail has {size} bytes, and the mail server takes {int(most)}",
                permanent=True,
            )

    async def deliver(self, delivery: Delivery) -> None:
        """Hold the dialogue of one e-mail and note each reply in `delivery`.

        Raises SmtpTroubleError; what was settled before it stays settled. After that, or
        when cancelled anywhere, the connection is not usable any more.
        """
        self._in_dialogue = True
        self.deliveries += 1
        try:
            async with asyncio.timeout(None) as limit:
                await self._hold_dialogue(delivery, limit)
        except TimeoutError:
            raise SmtpTroubleError(
                "smtp_timeout", f"the mail server did not answer within {self._timeout_seconds:g} s"
            ) from None
        self._in_dialogue = False

    def quit(self) -> None:
        """Take leave politely, in the background."""
        self._stream.quit(QUIT_SECONDS)

    def abort(self) -> None:
        """Cut the line."""
        self._transport.abort()

    async def _hold_dialogue(self, delivery: Delivery, limit: asyncio.Timeout) -> None:
        if self.supports("pipelining"):
            data = await self._converse_at_once(delivery, limit)
        else:
            data = await self._converse(delivery, limit)
        if data is None:
            return
        if data.code != 354:
            if data.code < 400:
                raise ConnectionLostError(f"the mail server answered {data.code} to DATA")
            delivery.settle(data)
            return
        if None not in delivery.replies:
            # RFC 2920 section 3.1: it would take a mail for nobody. It gets an empty one.
            await self._ask(b".", limit)
            return
        if delivery.before_handover is not None:
            await delivery.before_handover(delivery.open_recipients)
        await self._send_source(delivery, limit)
        reply = await self._next_reply(limit)
        if not (reply.is_success or 400 <= reply.code < 600):
            # It neither took the mail nor refused it: nobody can tell.
            raise ConnectionLostError(f"the mail server answered {reply.code} to the message")
        delivery.settle(reply)
        self._needs_reset = not reply.is_success

    async def _converse(self, delivery: Delivery, limit: asyncio.Timeout) -> Reply | None:
        """One command at a time. The reply to DATA; None when it was not worth asking."""
        if self._needs_reset:
            self._check_reset(await self._ask(b"RSET", limit))
        reply = await self._ask(self._mail_command(delivery.email), limit)
        if not self._may_name_recipients(reply, delivery):
            return None
        for index, address in enumerate(delivery.email.recipients):
            reply = await self._ask(_rcpt_command(address), limit)
            if not delivery.take_recipient(index, reply):
                return None
        return await self._ask(b"DATA", limit) if None in delivery.replies else None

    async def _converse_at_once(self, delivery: Delivery, limit: asyncio.Timeout) -> Reply | None:
        """RFC 2920: everything up to DATA in one go, then as many replies as commands."""
        commands = [b"RSET"] if self._needs_reset else []
        commands.append(self._mail_command(delivery.email))
        commands += [_rcpt_command(address) for address in delivery.email.recipients]
        commands.append(b"DATA\r\n")
        self._stream.send(b"\r\n".join(commands))
        if self._needs_reset:
            self._check_reset(await self._next_reply(limit))
        taken = self._may_name_recipients(await self._next_reply(limit), delivery)
        for index in range(len(delivery.email.recipients)):
            if self._closing:
                return None
            reply = await self._next_reply(limit)
            # Those of a mail that was not taken only say so again.
            if taken and not delivery.take_recipient(index, reply):
                return None
        return None if self._closing else await self._next_reply(limit)

    def _may_name_recipients(self, reply: Reply, delivery: Delivery) -> bool:
        # Until the end of the message is taken, the server may hold half an envelope.
        self._needs_reset = True
        if reply.is_success:
            delivery.begun = True
            return True
        trouble = fault_of_ours(reply)
        if trouble is not None:
            raise trouble
        delivery.settle(reply)
        return False

    def _check_reset(self, reply: Reply) -> None:
        if not reply.is_success:
            raise ConnectionLostError(f"the mail server answered {reply.code} to RSET")
        self._needs_reset = False

    async def _send_source(self, delivery: Delivery, limit: asyncio.Timeout) -> None:
        email = delivery.email
        source = _stuff_dots(email.source)
        if email.rest or len(source) > CHUNK_OCTETS:
            await self._send_in_chunks(email, limit)
            source = b""
        delivery.handed_over = True
        self._stream.send(source + b".\r\n")

    async def _send_in_chunks(self, email: OutgoingEmail, limit: asyncio.Timeout) -> None:
        """All but the end: without it the server has no mail, whatever happens to a file."""
        try:
            async with aclosing(email.chunks()) as chunks:
                async for chunk in chunks:
                    octets = _stuff_dots(chunk)
                    for at in range(0, len(octets), CHUNK_OCTETS):
                        self._stream.send(octets[at : at + CHUNK_OCTETS])
                        limit.reschedule(self._loop.time() + self._timeout_seconds)
                        await self._stream.drain()
        except JobError as error:
            permanent = isinstance(error, PermanentError)
            raise SmtpTroubleError(error.code, str(error), permanent=permanent) from error
        except FileChangedError as error:
            raise SmtpTroubleError("file_missing", str(error), permanent=True) from error

    async def _ask(self, command: bytes, limit: asyncio.Timeout) -> Reply:
        self._stream.send(command + b"\r\n")
        return await self._next_reply(limit)

    async def _next_reply(self, limit: asyncio.Timeout) -> Reply:
        limit.reschedule(self._loop.time() + self._timeout_seconds)
        reply = await self._stream.reply()
        if reply.code == SERVICE_CLOSING:
            self._closing = True
        return reply

    def _mail_command(self, email: OutgoingEmail) -> bytes:
        command = b"MAIL FROM:<%s>" % _wire_address(email.sender)
        if self.supports("size"):
            command += b" SIZE=%d" % email.size_bytes
        if email.needs_smtputf8:
            # RFC 6531 section 3.1 has a server offer both; one that does not may refuse the word.
            command += b" BODY=8BITMIME" if self.supports("8bitmime") else b""
            command += b" SMTPUTF8"
        return command


def _rcpt_command(address: str) -> bytes:
    return b"RCPT TO:<%s>" % _wire_address(address)


def _wire_address(address: str) -> bytes:
    octets = address.encode()
    if _UNFIT_FOR_A_COMMAND.search(octets) is not None:
        raise ValueError("an envelope address has characters that no address has")
    return octets


def _stuff_dots(source: bytes) -> bytes:
    """RFC 5321 section 4.5.2. Nearly no mail has such a line; looking is cheap."""
    if source.startswith(b".") or b"\n." in source:
        return _LINE_DOT.sub(b"..", source)
    return source
