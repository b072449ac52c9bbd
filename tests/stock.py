"""RQ as it is installed: its classes over one connection, and its commands as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from rq.job import Job
from rq.queue import Queue
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from tests.harness import JOB_MODULES, ROOT

PERFORM = "app.worker.perform"


class Stock:
    """A producer and an operator who know nothing of ours but the function's name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = redis.Redis.from_url(url)
        self.text: Any = redis.Redis.from_url(url, decode_responses=True)

    def close(self) -> None:
        self.connection.close()
        self.text.close()

    def queue(self, name: str = "default") -> Queue:
        return Queue(name, connection=self.connection, serializer=JSONSerializer)

    def enqueue(self, job_type: str, params: dict[str, Any], **options: Any) -> Job:
        return self.queue().enqueue(PERFORM, job_type, params, **options)

    def job(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)

    def failed(self, queue: str = "default") -> FailedJobRegistry:
        return FailedJobRegistry(queue, connection=self.connection, serializer=JSONSerializer)

    def rq(self, *arguments: str, status: int = 0) -> str:
        """Run `rq …` to its end and return what it wrote."""
        done = subprocess.run(
            self._command(*arguments),
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def rq_worker(self, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`rq worker --serializer json …` for the time of the block."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._command("worker", "--serializer", "json", *arguments),
                cwd=ROOT, env=self._environment(), stdout=output, stderr=output,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _command(self, *arguments: str) -> list[str]:
        name, *rest = arguments
        return [sys.executable, "-m", "rq.cli", name, "--url", self.url, *rest]

    def _environment(self) -> dict[str, str]:
        return os.environ | {"REDIS_URL": self.url, "JOB_MODULES": JOB_MODULES}


@contextmanager
def stock_on(url: str) -> Iterator[Stock]:
    stock = Stock(url)
    try:
        yield stock
    finally:
        stock.close()
