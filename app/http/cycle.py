"""One request and its answer on a connection, and what those of one turn of the loop share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.http.answers import Answer
from app.http.faults import ShuttingDownError
from app.http.middleware import Edge, signed

# What decides how an answer is framed; such a one is left to uvicorn.
_FRAMING = {b"connection", b"transfer-encoding"}


class Turn(ServerState):
    """uvicorn's, with what is put off to the end of a turn of the loop.

    Whole requests are looked at one after the other once all have been read, and answers are
    written one after the other once all are made. To read, check, make and write for each in turn
    costs a fifth more (measured, 64 clients): the processor has forgotten each of them by the next.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: list[Callable[[], None]] = []
        self._last: list[Callable[[], None]] = []

    def look(self, begin: Callable[[], None]) -> None:
        """At a request, at the end of this turn."""
        if not self._first:
            asyncio.get_running_loop().call_soon(self._look)
        self._first.append(begin)

    def write(self, write: Callable[[], None]) -> None:
        """An answer, at the end of this turn."""
        if not self._last:
            asyncio.get_running_loop().call_soon(self._write)
        self._last.append(write)

    def _look(self) -> None:
        todo, self._first = self._first, []
        _do_each(todo)

    def _write(self) -> None:
        todo, self._last = self._last, []
        _do_each(todo)


def _do_each(todo: list[Callable[[], None]]) -> None:
    for each in todo:
        try:
            each()
        except Exception as error:  # noqa: BLE001 - one connection must not hold up another
            context = {"message": "a connection has failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


class Cycle(RequestResponseCycle):
    """uvicorn's, which writes the head of an answer of known length together with its body.

    And checks its headers at once, instead of each by itself (measured: 15 µs an answer).
    """

    _head: bytes | None = None

    async def run_asgi(self, app: Any) -> None:
        """uvicorn's, with an answer for whom it gives up on as the process ends.

        It cancels what is still under way then, answers that in plain text without a request id,
        and logs a traceback.
        """

        async def answered(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if not self.response_started:
                    # Cancelled once more, it is no longer listened to.
                    with suppress(asyncio.CancelledError):
                        await _SHUTTING_DOWN(scope, receive, send)
                if not self.response_complete:
                    self.transport.close()
                    self.disconnected = True

        await super().run_asgi(answered)

    def body_taken(self) -> None:
        """The body was read, and not by `receive`, which has only the client's leaving to tell now.

        Kept, it would stay for as long as the connection does.
        """
        self.body = bytearray()
        self.waiting_for_100_continue = False
        self.message_event.clear()

    def answer(self, answer: Answer, turn: Turn) -> bool:
        """Write a whole answer at the end of this turn; false if that cannot be."""
        headers = signed(answer.headers, self.scope)  # type: ignore[arg-type]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        if self.flow.write_paused or not self._takes_head(start):
            return False
        head, self._head = self._head, None
        assert head is not None
        whole = head + answer.body
        turn.write(lambda: self._write(whole))
        return True

    async def send(self, message: Any) -> None:
        head = self._head
        if head is not None:
            self._head = None
            await self._send_body(head, message)
        elif not self._takes_head(message):
            await super().send(message)

    def _takes_head(self, message: Message) -> bool:
        if self.response_started or message["type"] != "http.response.start":
            return False
        lines = [STATUS_LINE[message["status"]]]
        length = None
        for name, value in self.default_headers:  # the date, made anew each second
            lines += (name, b": ", value, b"\r\n")
        for name, value in message["headers"]:
            if name == b"content-length":
                length = value
            elif name in _FRAMING:
                return False
            lines += (name, b": ", value, b"\r\n")
        if length is None or self.scope["method"] == "HEAD" or self.disconnected:
            return False
        if HEADER_RE.search(b"".join(lines[1::4])) or HEADER_VALUE_RE.search(b"".join(lines[3::4])):
            return False
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(lines)
        self.expected_content_length = int(length)
        self.chunked_encoding = False
        self.response_started = True
        self.waiting_for_100_continue = False
        return True

    async def _send_body(self, head: bytes, message: Any) -> None:
        body = message.get("body", b"")
        if (
            message.get("more_body", False)
            or len(body) != self.expected_content_length
            or self.flow.write_paused
        ):
            if not self.disconnected:
                self.transport.write(head)
            await super().send(message)
        else:
            self._write(head + body)

    def _write(self, whole: bytes) -> None:
        if self.disconnected:
            return
        self.transport.write(whole)
        self.expected_content_length = 0
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        # It would hold its connection, which holds it.
        self.on_response = _nothing


def _nothing() -> None:
    pass


async def _shut_down(scope: Scope, receive: Receive, send: Send) -> None:
    raise ShuttingDownError


_SHUTTING_DOWN: Any = Edge(_shut_down)
