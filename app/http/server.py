"""uvicorn as we run it: what it listens on, and how much patience it has with clients."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
# Each holds a file descriptor, of which many hosts give 1,024.
MAX_CONNECTIONS = 900
HEADERS_SECONDS = 10.0
MAX_HEADER_BYTES = 64 * 1024


class CannotListenError(Exception):
    """The address cannot be had; the message is one sentence for whoever started us."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with a bound on the time and the size of a request's head.

    uvicorn 0.54 has neither for httptools: half-sent heads stay open for ever and count as
    connections. To be dropped when it has them.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
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
        super().on_headers_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for WebSocket gets plain HTTP, which is no news to an operator."""

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


def serve(app: ASGIApp, sock: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those under way."""
    server = uvicorn.Server(
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
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )

    def stop(*_: Any) -> None:
        server.should_exit = True

    # uvicorn takes the signals over and, when done, raises them again: they must not kill us.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[sock]))
