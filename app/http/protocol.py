"""HTTP on one connection: uvicorn's protocol with bounds on its patience, and less work a request.

uvicorn 0.54 bounds neither the time nor the size of a request's head for httptools: half-sent
heads stay open for ever and count as connections. Its own refusals are plain text without a
request id, and an answer to the first of several pipelined requests, written when the connection
is closed, is logged as an error of ours, twice. To be dropped when it has them.
"""

from __future__ import annotations

import asyncio
import http
import urllib.parse
from functools import partial
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app.http.answers import Answer
from app.http.bodies import BODY_WHOLE
from app.http.faults import MalformedRequestError, OverloadedError
from app.http.middleware import Edge, new_request_id, signed
from app.http.problems import problem_answer

HEADERS_SECONDS = 10.0
MAX_HEADER_BYTES = 64 * 1024
# What decides how an answer is framed; such a one is left to uvicorn.
_FRAMING = {b"connection", b"transfer-encoding"}


class Cycle(RequestResponseCycle):
    """uvicorn's, which writes the head of an answer of known length together with its body.

    And checks its headers at once, instead of each by itself (measured: 15 µs an answer).
    """

    _head: bytes | None = None

    def answer(self, answer: Answer) -> bool:
        """Write a whole answer now, if that can be; nothing to a client that has gone."""
        if self.disconnected:
            return True
        headers = signed(answer.headers, self.scope)  # type: ignore[arg-type]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        message = {"type": "http.response.start", "status": answer.status, "headers": headers}
        if self.flow.write_paused or not self._takes_head(message):
            return False
        head, self._head = self._head, None
        assert head is not None
        self._write(head + answer.body)
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
        elif not self.disconnected:
            self._write(head + body)

    def _write(self, whole: bytes) -> None:
        self.transport.write(whole)
        self.expected_content_length = 0
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class PatientProtocol(HttpToolsProtocol):
    """One connection. It is closed when a head is late or too large, or nothing comes at all.

    The parser's callbacks are uvicorn's without what we have switched off (WebSocket, access
    log), and without a timer set and cancelled for each request.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_is_due = True
    _head_bytes = 0
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    _cycles: tuple[Cycle, ...] = ()
    # Begun with its head, and with its body still to come in the same piece of data.
    _held: Cycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._answer_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        super().data_received(data)
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(held, self.app)
        if not self._head_is_due:
            return
        if self._head_timer is None:
            self._expect_head()
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._head_is_due = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        scope, parser, url = self.scope, self.parser, self.url
        version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        parsed = httptools.parse_url(url)
        path = parsed.path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = parsed.path
        scope["query_string"] = parsed.query or b""
        limit = self.limit_concurrency
        app = self.app if limit is None or len(self.connections) <= limit else _OVERLOADED
        before = self.cycle
        self.cycle = cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._cycles = (cycle,)
            if app is self.app and scope["method"] == "POST":
                self._held = cycle
            else:
                self._start_asgi_task(cycle, app)
        else:
            # Pipelined: it has to wait for its turn.
            self._cycles = (*(each for each in self._cycles if not each.response_complete), cycle)
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def on_message_complete(self) -> None:
        self.scope[BODY_WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()
        held = self._held
        if held is not None:
            self._held = None
            reply = partial(self._reply, held)
            if not self.app.begin(held.scope, bytes(held.body), reply):
                self._start_asgi_task(held, self.app)

    def _reply(self, cycle: Cycle, answer: ASGIApp) -> None:
        if isinstance(answer, Answer) and cycle.answer(answer):
            cycle.on_response = _nothing  # or it would hold us, and we it
        else:
            edge: Any = Edge(answer)
            self._start_asgi_task(cycle, edge)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_if_idle)

    def send_400_response(self, msg: str) -> None:
        if not any(each.response_started for each in self._cycles if not each.response_complete):
            self.transport.write(_refusal(msg))
        self._answer_no_more()
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for WebSocket gets plain HTTP, which is no news to an operator."""

    def _answer_no_more(self) -> None:
        for each in self._cycles:
            each.disconnected = True
            each.message_event.set()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEADERS_SECONDS, self._lose_patience)

    def _head_arrived(self) -> None:
        self._head_is_due = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _look_if_idle(self) -> None:
        """One timer serves many requests: it looks at how long nothing came, and goes on."""
        self._idle_timer = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._look_if_idle)
        else:
            self._lose_patience()

    def _lose_patience(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _nothing() -> None:
    pass


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    raise OverloadedError


_OVERLOADED: Any = Edge(_overloaded)


def _refusal(reason: str) -> bytes:
    """The answer to what is no request, and so has no path to route it by."""
    request_id = new_request_id()
    answer = problem_answer(MalformedRequestError(reason), {"path": ""}, request_id.decode())
    headers = [
        *answer.headers,
        (b"x-request-id", request_id),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    status = http.HTTPStatus(answer.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", answer.body])
