"""One open connection to Redis: a command out, its reply in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import (
    ConnectionError,  # noqa: A004 - redis-py's own
    InvalidResponse,
    TimeoutError,  # noqa: A004
)

# Hears a reply, or why there is none.
Replied = Callable[[Any, Exception | None], None]
_MORE = object()
ENDED = "the connection to Redis has ended"


class Wire(asyncio.Protocol):
    """Commands out, replies in, by hiredis: less than half of what redis-py's streams cost.

    redis-py 8.1 opens the connection (TLS, AUTH, SELECT, Sentinel); from then on it is ours.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        # Kept, as a writer closes its transport when nobody holds it any more.
        self._writer = writer
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)
        # redis-py's stream may have stopped it.
        if not (self._transport.is_closing() or self._transport.is_reading()):
            self._transport.resume_reading()
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            replyError=BaseParser.parse_error, protocolError=InvalidResponse, notEnoughData=_MORE
        )
        self._waiting: asyncio.Future[Any] | None = None
        self._done: Replied | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost: Exception | None = None

    async def ask(self, packed: bytes, seconds: float) -> Any:
        """Send one packed command; its reply. Raises an error reply, or why there is none."""
        if self.has_ended:
            raise self._lost or ConnectionError(ENDED)
        self._waiting = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._lose_patience)
        self._transport.write(packed)
        try:
            reply = await self._waiting
        finally:
            timer.cancel()
            self._waiting = None
        if isinstance(reply, Exception):
            raise reply
        return reply

    @property
    def is_free(self) -> bool:
        """Whether a command may be sent."""
        return not self.has_ended and self._waiting is None and self._done is None

    @property
    def has_ended(self) -> bool:
        """Whether it is known that there can be no reply: nothing has to be sent to learn that.

        One that ended before it was ours told redis-py's stream so, and not us; and uvloop raises
        RuntimeError when something is written to what it has closed.
        """
        return self._lost is not None or self._transport.is_closing()

    def begin(self, packed: bytes, seconds: float, done: Replied) -> None:
        """Send one packed command; `done` hears its reply, or an error reply, or why there is none.

        Calls in a row share a timer: setting and cancelling one for each costs as much as sending.
        """
        self._transport.write(packed)
        self._done = done
        self._until = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._until:
            self._wait(seconds)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
        except InvalidResponse as error:
            self._lost = ConnectionError(f"no Redis reply: {error}")
            self._fail(self._lost)
            return
        if reply is _MORE:
            return
        if self._done is not None:
            done, self._done = self._done, None
            if isinstance(reply, Exception):
                done(None, reply)
            else:
                done(reply, None)
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lost = ConnectionError(ENDED)
        self._fail(self._lost)

    def _lose_patience(self) -> None:
        self._fail(TimeoutError("no reply in time"))

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._done is not None:
            left = self._until - self._loop.time()
            if left > 0:
                self._wait(left)
            else:
                self._lose_patience()

    def _fail(self, error: Exception) -> None:
        if self._done is not None:
            done, self._done = self._done, None
            done(None, error)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
