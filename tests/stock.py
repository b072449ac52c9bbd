"""RQ as it is installed: its classes over one connection, and its commands as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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
from tests.preloaded import ForkedProcess

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
        """Run `rq …` to its end and return what it wrote.

        Workers are started by themselves, as they load what our jobs need; all else is forked.
        """
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            if arguments[0] == "worker":
                with self.rq_worker(log, *arguments[1:]) as process:
                    ended = process.wait(timeout=60)
            else:
                command = ForkedProcess("rq.cli", self._given(*arguments), self._environment(), log)
                ended = command.wait(timeout=60)
            said = log.read_text()
        assert ended == status, said
        return said

    @contextmanager
    def rq_worker(self, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """`rq worker --serializer json …` for the time of the block."""
        given = self._given("worker", "--serializer", "json", *arguments)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "rq.cli", *given],
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

    def _given(self, name: str, *arguments: str) -> list[str]:
        return [name, "--url", self.url, *arguments]

    def _environment(self) -> dict[str, str]:
        return os.environ | {"REDIS_URL": self.url, "JOB_MODULES": JOB_MODULES}


@contextmanager
def stock_on(url: str) -> Iterator[Stock]:
    stock = Stock(url)
    try:
        yield stock
    finally:
        stock.close()
