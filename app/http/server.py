"""uvicorn as we run it: what it listens on, how many it serves, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import signal
import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from app import logs
from app.http.cycle import Turn
from app.http.protocol import PatientProtocol
from app.http.waiting import Closing

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
# 1,000 clients that wait for their jobs, as many that follow events, and those in between.
MAX_CONNECTIONS = 4000
# Each holds a file descriptor, of which many hosts give 1,024 unless asked for more.
MAX_DESCRIPTORS = 65_536
SPARE_DESCRIPTORS = 124


class CannotListenError(Exception):
    """The address cannot be had; the message is one sentence for whoever started us."""


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
        self.server_state = Turn()
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

    async def run() -> None:
        with logs.gathered(asyncio.get_running_loop()):
            await server.serve(sockets=[sock])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
