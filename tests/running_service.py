"""The whole service as processes: Valkey, mail catcher, one worker and the web, with keys."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from app.keyring import ApiKey
from tests.conftest import ValkeyServer, free_port, poll_until
from tests.harness import WorkerProcess
from tests.http_doubles import bearer, key
from tests.preloaded import ForkedProcess

# Who may do everything.
MASTER = "m"


@dataclass(frozen=True)
class RunningService:
    """Where it is, and a client of it that may do everything."""

    url: str
    client: httpx2.Client
    valkey: ValkeyServer
    worker: WorkerProcess
    folder: Path

    def is_ready(self) -> bool:
        with suppress(httpx2.TransportError):
            return self.client.get("/readyz").status_code == 200
        return False

    def ended(self, job: dict[str, Any], seconds: float = 30.0) -> dict[str, Any]:
        """The job, once it has ended."""
        path = f"/v1/jobs/{job['id']}"
        poll_until(
            lambda: self.client.get(path).json()["ended_at"], seconds=seconds, what=f"{path} ends"
        )
        shown: dict[str, Any] = self.client.get(path).json()
        return shown


@contextmanager
def running_service(
    folder: Path, *keys: ApiKey, job_modules: str = "", **settings: str
) -> Iterator[RunningService]:
    """Ready, with a key MASTER and those given, for the time of the block."""
    port, smtp_port = free_port(), free_port()
    everything = [key(MASTER, "submit", "read", "operate"), *keys]
    variables = {
        "PORT": str(port),
        "DATA_DIR": str(folder),
        "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
        "LOG_FORMAT": "json",
        "JOB_MODULES": job_modules,
        "API_KEYS": ",".join(f"{k.name}:{'+'.join(k.scopes)}:{k.digest}" for k in everything),
        **settings,
    }
    valkey = ValkeyServer(folder)
    valkey.start()
    processes: list[subprocess.Popen[bytes] | ForkedProcess] = []
    mails = folder / "inbox"
    mails.mkdir()
    try:
        arguments = ["--port", str(smtp_port), "--folder", str(mails)]
        processes.append(_run(folder, "app.dev.catcher", *arguments))
        poll_until(lambda: _listens(smtp_port), what="the mail catcher listens")
        worker = WorkerProcess(valkey.url, folder / "worker.log", **variables)
        processes.append(worker.process)
        processes.append(_run(folder, "app.main", **variables, REDIS_URL=valkey.url))
        url = f"http://localhost:{port}"
        with httpx2.Client(base_url=url, headers=bearer(MASTER), timeout=15) as client:
            service = RunningService(url, client, valkey, worker, folder)
            poll_until(service.is_ready, what="the service is ready")
            yield service
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        valkey.kill()


def _run(folder: Path, module: str, *arguments: str, **variables: str) -> ForkedProcess:
    return ForkedProcess(module, arguments, os.environ | variables, folder / f"{module}.log")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
