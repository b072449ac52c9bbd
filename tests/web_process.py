"""The web process as an operator runs it, and those of one test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.conftest import free_port, poll_until
from tests.harness import ROOT
from tests.preloaded import ForkedProcess

Start = Callable[..., "Web"]


class Web:
    """A running web process.

    With a PYTHONPATH, which changes what it loads, or if it is to be `by_itself`, it is started
    as an operator starts it, and else forked from one that has everything loaded.
    """

    def __init__(
        self, folder: Path, redis_url: str, *, by_itself: bool = False, **settings: str
    ) -> None:
        self.port = int(settings.pop("PORT", free_port()))
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": str(self.port),
            "REDIS_URL": redis_url, "DATA_DIR": str(folder), "LOG_FORMAT": "json",
        }  # fmt: skip
        self.log = folder / "web.log"
        self.process: ForkedProcess | subprocess.Popen[bytes]
        if by_itself or "PYTHONPATH" in settings:
            with self.log.open("w") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "app.main"],
                    cwd=folder, env=environment | settings, stderr=log,
                )  # fmt: skip
        else:
            self.process = ForkedProcess("app.main", [], environment | settings, self.log, folder)
        self.client = httpx2.Client(base_url=f"http://localhost:{self.port}", timeout=15)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


@contextmanager
def web_processes(folder: Path) -> Iterator[Start]:
    """What starts one at a Redis and waits for it, unless told not to; all end with the block."""
    running: list[Web] = []

    def run(redis_url: str, *, wait: bool = True, **settings: Any) -> Web:
        web = Web(folder, redis_url, **settings)
        running.append(web)
        if wait:
            poll_until(web.answers, what="the web process answers")
        return web

    try:
        yield run
    finally:
        for web in running:
            web.client.close()
            web.process.kill()
            web.process.wait()
