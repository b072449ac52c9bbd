"""uvicorn as we run it: what it listens on, and how much patience it has with clients."""

from __future__ import annotations

import asyncio
import errno
import gc
import http
import resource
import signal
import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.faults import MalformedRequestError, OverloadedError
from app.http.middleware import Errors, RequestId, new_request_id
from app.http.problems import problem_answer
from app.http.waiting import Closing

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
# 1,000 clients that wait for their jobs, as many that follow events, and those in between.
MAX_CONNECTIONS = 4000
# Each holds a file descriptor, of which many hosts give 1,024 unless asked for more.
MAX_DESCRIPTORS = 65_536
SPARE_DESCRIPTORS = 124
HEADERS_SECONDS = 10.0
MAX_HEADER_BYTES = 64 * 1024


class CannotListenError(Exception):
    """The address cannot be had; the message is one sentence for whoever started us."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with a bound on the time and the size of a request's head, and with problems.

    uvicorn 0.54 has neither bound for httptools: half-sent heads stay open for ever and count
    as connections. Its own refusals are plain text without a request id, and an answer to the
    first of several pipelined requests, written when the connection is closed, is logged as
    an error of ours, twice. To be dropped when it has them.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _cycles: tuple[RequestResponseCycle, ...] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._answer_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        app, limit = self.app, self.limit_concurrency
        if limit is not None and len(self.connections) > limit:
            self.app = _OVERLOADED
        self.limit_concurrency = None  # uvicorn's own answer
        try:
            super().on_headers_complete()
        finally:
            self.app, self.limit_concurrency = app, limit
        self._cycles = tuple(each for each in self._cycles if not each.response_complete)
        if self.cycle is not None:
            self._cycles += (self.cycle,)

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
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEADERS_SECONDS, self._lose_patience)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _lose_patience(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    raise OverloadedError


_OVERLOADED: Any = RequestId(Errors(_overloaded))


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


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises CannotListenError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # Here and not later: two processes may both bind, and only one of them listen.
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListenError(
                f"Port {port} of {host} is in use by another program; set PORT to a free one."
            ) from error
        raise CannotListenError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    sock.setblocking(False)
    return sock


class ClosingServer(uvicorn.Server):
    """uvicorn's, which says that it is about to end before it waits for requests under way."""

    def __init__(self, config: uvicorn.Config, closing: Closing) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.begin()
        await super().shutdown(sockets)


def connections_allowed() -> int:
    """As many as there may be file descriptors for, after asking for all that we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, soft - SPARE_DESCRIPTORS))


def serve(app: ASGIApp, sock: socket.socket, closing: Closing | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those under way.

    Those that only wait are told by `closing` to stop waiting.
    """
    server = ClosingServer(
        uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Nothing here depends on the client's address, but for keyless local use, where
            # a proxy's word must not be taken.
            proxy_headers=False,
            limit_concurrency=connections_allowed(),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        ),
        closing if closing is not None else Closing(),
    )

    def stop(*_: Any) -> None:
        server.should_exit = True

    # uvicorn takes the signals over and, when done, raises them again: they must not kill us.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    # What is here now stays as long as the process: without this the collector walks all of it
    # time and again (measured: 17 % of the CPU of a submission).
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[sock]))
