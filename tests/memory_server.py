"""`python -m tests.memory_server`: our server over a queue in memory, for the tests of sockets.

Arguments are what it is to be told, NAME=VALUE; the first line that it writes is its port.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.http import protocol, server
from tests.conftest import poll_until
from tests.http_doubles import MemoryQueue, app_over, key, settings_with
from tests.preloaded import ForkedProcess


class MemoryServer:
    """It listens. Settings are `headers_seconds`, `grace_seconds`, `max_connections`,
    `max_body_bytes`, `keys` (`ss` may submit then and `rr` read), and attributes of its
    MemoryQueue.
    """

    def __init__(self, log: Path, *settings: str) -> None:
        self._log = log
        self.process = ForkedProcess("tests.memory_server", settings, {**os.environ}, log)
        poll_until(lambda: "\n" in log.read_text(), what="the server listens")
        self.port = int(log.read_text().partition("\n")[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def errors(self) -> str:
        """What it has written but its port."""
        return self._log.read_text().partition("\n")[2]


@contextmanager
def memory_server(folder: Path, *settings: str) -> Iterator[MemoryServer]:
    """One that listens, for the time of the block."""
    served = MemoryServer(folder / f"server-{len([*folder.iterdir()])}.log", *settings)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait()


def main() -> None:
    given = dict(each.split("=", 1) for each in sys.argv[1:])
    protocol.HEADERS_SECONDS = float(given.pop("headers_seconds", protocol.HEADERS_SECONDS))
    server.GRACE_SECONDS = int(given.pop("grace_seconds", server.GRACE_SECONDS))
    server.MAX_CONNECTIONS = int(given.pop("max_connections", server.MAX_CONNECTIONS))
    keys = [key("s", "submit"), key("r", "read")] if given.pop("keys", "") else []
    limits = {name: int(given.pop(name)) for name in {"max_body_bytes"} & given.keys()}
    queue = MemoryQueue()
    for name, value in given.items():
        setattr(queue, name, [value] if name == "capacity_warnings" else value)
    sock = server.listen("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    server.serve(app_over(queue, settings_with(keys, **limits)), sock)
