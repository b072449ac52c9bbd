"""What a mail server says: its replies as a stream, strictly in step with our commands."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast

MAX_REPLY_OCTETS = 32 * 1024
SERVICE_CLOSING = 421


class Reply(NamedTuple):
    """One reply; the lines of a long one are joined by spaces."""

    code: int
    text: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600


class SmtpTroubleError(Exception):
    """The dialogue could not be held. `code` is the job's error code; no address is in it."""

    def __init__(self, code: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent

    @property
    def is_ours(self) -> bool:
        """How we come is at fault: no mail will go this way until somebody mends it."""
        return self.code in {"smtp_auth", "smtp_tls"}


class ConnectionLostError(SmtpTroubleError):
    """The line is gone, or what came over it cannot be trusted any more."""

    def __init__(self, message: str) -> None:
        super().__init__("smtp_unreachable", message)


class ReplyStream(asyncio.Protocol):
    """Takes over an open transport; hands out one reply for each that is awaited.

    A reply that nobody asked for leaves the stream unclean for good: after it, no reply
    could be matched with its command.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._reply_octets = 0
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost: str | None = None
        self._quitting = False
        self.closed: asyncio.Future[None] = self._loop.create_future()
        transport.set_protocol(self)
        if transport.is_closing():
            self._lose("the mail server closed the connection")

    @property
    def is_clean(self) -> bool:
        """Open, with nothing unread: fit for the next command."""
        return not (
            self._lost is not None
            or self._replies
            or self._buffer
            or self._lines
            or self._transport.is_closing()
        )

    def send(self, octets: bytes) -> None:
        """Send a command or part of a message. Raises ConnectionLostError when out of step."""
        if not self.is_clean:
            raise ConnectionLostError(
                self._lost or "the mail server answered more than it was asked"
            )
        self._transport.write(octets)

    async def drain(self) -> None:
        """Wait until the other side has taken enough of what was sent."""
        if self._writable is not None and self._lost is None:
            await self._writable

    async def reply(self) -> Reply:
        """The next reply. Raises ConnectionLostError."""
        if not self._replies:
            if self._lost is not None:
                raise ConnectionLostError(self._lost)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
            if not self._replies:
                raise ConnectionLostError(self._lost or "the connection was lost")
        return self._replies.popleft()

    def quit(self, within_seconds: float) -> None:
        """Take leave: QUIT when in step, closed on the answer or when time is up."""
        if not self.is_clean:
            self._transport.abort()
            return
        self._transport.write(b"QUIT\r\n")
        self._quitting = True
        timer = self._loop.call_later(within_seconds, self._transport.abort)
        self.closed.add_done_callback(lambda _: timer.cancel())

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        if self._quitting:
            self._transport.close()
            return
        self._buffer += data
        self._reply_octets += len(data)
        while (end := self._buffer.find(b"\n")) >= 0 and self._lost is None:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._take_line(line.rstrip(b"\r"))
        if self._reply_octets > MAX_REPLY_OCTETS:
            self._lose("the mail server's answer has no end")
        if self._lost is not None:
            self._transport.abort()

    def eof_received(self) -> bool:
        self._lose("the mail server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("the connection to the mail server was lost")
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writable)
        self._writable = None

    def _take_line(self, line: bytes) -> None:
        code, separator = line[:3], line[3:4]
        if len(code) != 3 or not code.isdigit() or separator not in {b" ", b"-", b""}:
            self._lose("the mail server's answer is not SMTP")
            return
        self._lines.append(line[4:].decode("utf-8", "replace").strip())
        if separator != b"-":
            self._replies.append(Reply(int(code), " ".join(self._lines)))
            self._lines.clear()
            self._reply_octets = len(self._buffer)
            _wake(self._waiter)

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
        _wake(self._waiter)
        _wake(self._writable)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def as_stream_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """uvloop's and asyncio's TLS transports are Transports by behaviour, not by class."""
    return cast("asyncio.Transport", transport)
