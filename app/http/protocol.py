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
from collections import deque
from email.utils import formatdate
from typing import Any

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.answers import Answer
from app.http.bodies import BODY_WHOLE
from app.http.cycle import Cycle, Turn
from app.http.faults import MalformedRequestError, OverloadedError
from app.http.middleware import Edge, new_request_id
from app.http.problems import problem_answer

HEADERS_SECONDS = 10.0
MAX_HEADER_BYTES = 64 * 1024
# Requests on a connection that wait for those before them. One piece of data can hold thousands.
MOST_PIPELINED = 100


class PatientProtocol(HttpToolsProtocol):
    """One connection. It is closed when a head is late or too large, or nothing comes at all.

    The parser's callbacks are uvicorn's without what we have switched off (WebSocket, access
    log), and without a timer set and cancelled for each request.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_is_due = True
    _head_bytes = 0
    _body_is_due = False
    # Whether all of the data that is being looked at is of the head that is due: what stands
    # before a head may be a large body.
    _head_is_alone = True
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    # Its body may come in the same piece of data as its head.
    _held: Cycle | None = None

    def __init__(self, *, server_state: Turn, **parts: Any) -> None:
        super().__init__(server_state=server_state, **parts)
        self._turn = server_state
        # The last one before the data that is being looked at.
        self._last_known: RequestResponseCycle | None = None
        # Of requests that are not answered yet, in order; and the one before them, perhaps.
        self._cycles: deque[Cycle] = deque()

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
        self._last_known = self.cycle
        self._head_is_alone = not self._body_is_due
        rest: bytes | None = data
        while rest is not None and not self.transport.is_closing():
            rest = self._parse(rest)
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(held, self.app)
        if not self._head_is_due:
            return
        if self._head_timer is None:
            self._expect_head()
        self._head_bytes += len(data) if self._head_is_alone else 0
        if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def _parse(self, data: bytes) -> bytes | None:
        """Returns what has to be parsed anew."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            (taken,) = upgrade.args
            return None if self._is_tunnel() else self._without_upgrade() + data[taken:]
        except httptools.HttpParserError:
            reason = "Invalid HTTP request received."
            self.logger.warning(reason)
            self.send_400_response(reason)
        return None

    def _without_upgrade(self) -> bytes:
        """The head that was parsed last, for a parser that has seen nothing yet.

        Who would rather speak HTTP/2 (a JDK's client asks with each request) is answered in
        HTTP/1.1 (RFC 9110, 7.8); but httptools 0.9 takes the body for the other protocol's.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    def _is_tunnel(self) -> bool:
        return bool(self.parser.get_method() == b"CONNECT")

    def _is_asked_to_change(self) -> bool:
        return self.parser.should_upgrade() and not self._is_tunnel()

    def on_message_begin(self) -> None:
        self._head_is_due = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        self._body_is_due, self._head_is_alone = True, False
        if self._is_asked_to_change():
            return
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
            self._cycles.clear()
            if app is self.app and scope["method"] == "POST":
                self._held = cycle
            else:
                self._start_asgi_task(cycle, app)
        else:
            # Pipelined: it has to wait for its turn.
            while self._cycles and self._cycles[0].response_complete:
                self._cycles.popleft()
            if len(self._cycles) > MOST_PIPELINED:
                # What was taken in is not undone by this: it must not look refused.
                self._answer_no_more()
                self.transport.close()
                return
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        self._cycles.append(cycle)

    def on_message_complete(self) -> None:
        self._body_is_due = False
        if self._is_asked_to_change():
            return
        self.scope[BODY_WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()
        held = self._held
        if held is not None:
            self._held = None
            self._turn.look(lambda: self._begin(held))

    def _begin(self, cycle: Cycle) -> None:
        if cycle.disconnected:
            return  # it has left, or been refused for what came behind

        def reply(answer: ASGIApp) -> None:
            if not (isinstance(answer, Answer) and cycle.answer(answer, self._turn)):
                edge: Any = Edge(answer)
                self._start_asgi_task(cycle, edge)

        application: Any = self.app
        if application.begin(cycle.scope, bytes(cycle.body), reply):
            cycle.body_taken()
        else:
            self._start_asgi_task(cycle, application)

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
        if not (self.transport.is_closing() or self._is_under_way()):
            self.transport.write(_refusal(msg))
        self._answer_no_more()
        self.transport.close()

    def _is_under_way(self) -> bool:
        """Whether a request may have been taken in that a refusal would pass for the answer to."""
        waiting = [each for each in self._cycles if not each.response_complete]
        if any(each.response_started for each in waiting):
            return True
        known = self._last_known
        if known is None or known.response_complete or not waiting:
            return False
        # The first of them was here before this data, and perhaps all of it was.
        return not waiting[0].more_body

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


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    raise OverloadedError


_OVERLOADED: Any = Edge(_overloaded)


def _refusal(reason: str) -> bytes:
    """The answer to what is no request, and so has no path to route it by."""
    request_id = new_request_id()
    answer = problem_answer(MalformedRequestError(reason), {"path": ""}, request_id.decode())
    headers = [
        (b"date", formatdate(usegmt=True).encode()),
        *answer.headers,
        (b"x-request-id", request_id),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    status = http.HTTPStatus(answer.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", answer.body])
