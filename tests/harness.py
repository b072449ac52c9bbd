"""Real worker processes over a real Valkey, and what a test asks of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import redis

from app.queue.connection import Reachability, connect
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from app.queue.submitting import Submitter
from app.queue.views import Views
from jobs import catalog
from jobs.catalog import Backoff
from tests.conftest import ValkeyServer, poll_until
from tests.preloaded import ForkedProcess

ROOT = Path(__file__).parent.parent
JOB_MODULES = "tests.job_types"
# Keys outlive the retention by this, so that upkeep can read what to tidy (index.lua).
TIDY_SECONDS = 900
# And what is in the failed registry by this: it may be requeued up to its last moment there.
REQUEUED_SECONDS = 86400
ENDED = {"finished", "failed", "canceled", "stopped"}
T = TypeVar("T")


@cache
def job_types() -> catalog.Catalog:
    """All, with the tests' own; looked for once, as the tests make thousands of drafts."""
    return catalog.load([JOB_MODULES])


def draft(job_type: str, /, **params: Any) -> JobDraft:
    """A submission with the type's own defaults, as the HTTP side makes it."""
    found = job_types().get(job_type)
    return JobDraft(
        type=job_type,
        params=params,
        queue=found.queue,
        max_attempts=found.max_attempts,
        backoff=found.backoff,
        timeout_seconds=found.timeout_seconds,
        retention_seconds=3600,
        failure_retention_seconds=3600,
        request_id="a-request",
        submitted_by="shop",
    )


def quick(initial: float = 0.05) -> Backoff:
    return Backoff(initial=initial, factor=1.0, maximum=60.0, jitter=0.0)


def with_client(url: str, use: Callable[[Submitter, Views], Awaitable[T]]) -> T:
    """Run `use` with the queue side that the web process has."""

    async def run() -> T:
        client, reachability = connect(url), Reachability()
        submitter = Submitter(client, reachability, give_up_seconds=30.0)
        try:
            return await use(submitter, Views(client, reachability))
        finally:
            await submitter.aclose()
            await client.aclose()

    return asyncio.run(run())


def submit(url: str, *drafts: JobDraft) -> list[str]:
    """Submit together; the ids, in order, once Redis has acknowledged all."""

    async def use(submitter: Submitter, _: Views) -> list[str]:
        await asyncio.gather(*(submitter.submit(each) for each in drafts))
        return [each.id for each in drafts]

    return with_client(url, use)


def view(url: str, job_id: str) -> JobView:
    async def use(_: Submitter, views: Views) -> JobView | None:
        return await views.job(job_id)

    found = with_client(url, use)
    assert found is not None, f"job {job_id} is gone"
    return found


def wait_until_ended(url: str, *job_ids: str, seconds: float = 30.0) -> list[JobView]:
    """The jobs, once all have ended."""
    with redis.Redis.from_url(url) as client:

        def all_ended() -> bool:
            statuses = [client.hget(f"rq:job:{job_id}", "status") for job_id in job_ids]
            return all(status is not None and status.decode() in ENDED for status in statuses)

        poll_until(all_ended, seconds=seconds, what="the jobs end")
    return [view(url, job_id) for job_id in job_ids]


class WorkerProcess:
    """`python -m app.worker` in a session of its own; its log is kept.

    With a PYTHONPATH, which changes what it loads, it is started by itself and not forked.
    """

    def __init__(self, url: str, log: Path, *arguments: str, **environment: str) -> None:
        self.url = url
        self.log = log
        variables = {
            "REDIS_URL": url,
            "JOB_MODULES": JOB_MODULES,
            "SMTP_URL": "smtp://127.0.0.1:1",
            "LOG_LEVEL": "info",
            **environment,
        }
        self.process: ForkedProcess | subprocess.Popen[bytes]
        if "PYTHONPATH" not in environment:
            self.process = ForkedProcess("app.worker", arguments, os.environ | variables, log)
            return
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.worker", *arguments],
                cwd=ROOT,
                env=os.environ | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self) -> None:
        poll_until(self._is_registered, what="the worker is registered")

    def _is_registered(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended:\n{self.log.read_text()}")
        try:
            with redis.Redis.from_url(self.url) as client:
                keys: set[bytes] = client.smembers("rq:workers")
                pids = [client.hget(key, "pid") for key in keys]
        except redis.exceptions.RedisError:
            return False
        return str(self.pid).encode() in pids

    def kill(self) -> None:
        """SIGKILL for the worker alone; what it started has to go by itself."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def end(self) -> None:
        """Whatever state it is in: nothing of it remains."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@contextmanager
def worker(url: str, folder: Path, *arguments: str, **environment: str) -> Iterator[WorkerProcess]:
    """A ready worker for the time of the block."""
    process = WorkerProcess(url, folder / "worker.log", *arguments, **environment)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.end()


@dataclass(frozen=True)
class Service:
    """A Valkey and one worker on it."""

    valkey: ValkeyServer
    worker: WorkerProcess

    @property
    def url(self) -> str:
        return self.valkey.url

    def run(self, *drafts: JobDraft, seconds: float = 30.0) -> list[JobView]:
        """Submit together; the jobs, once all have ended."""
        return wait_until_ended(self.url, *submit(self.url, *drafts), seconds=seconds)

    def log_lines(self) -> list[dict[str, Any]]:
        """What the worker has logged so far, with LOG_FORMAT=json; other output is left out."""
        lines = self.worker.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def service(folder: Path, *arguments: str, **environment: str) -> Iterator[Service]:
    """A Valkey of its own and a worker that logs JSON: for the tests of a whole file."""
    valkey = ValkeyServer(folder)
    valkey.start()
    try:
        with worker(valkey.url, folder, *arguments, LOG_FORMAT="json", **environment) as process:
            yield Service(valkey, process)
    finally:
        valkey.kill()


def seem_dead(url: str, *pids: int) -> None:
    """As if these workers had been silent for a minute, while somebody kept watching."""
    with redis.Redis.from_url(url) as client:
        seconds, _ = client.time()
        names: Any = client.zrange("rq:recado:beats", 0, -1)
        for name in (each.decode() for each in names):
            if int(name.split(".")[-2]) in pids:
                client.zadd("rq:recado:beats", {name: (seconds - 60) * 1000})
        client.set("rq:recado:recovered_at", seconds * 1000)


def children_of(pid: int) -> list[int]:
    """The processes whose parent this is."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            # The second field is a name in brackets, which may have spaces in it.
            state, parent = (each / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(each.name))
    return found


def is_running(pid: int) -> bool:
    """False for a zombie too: it runs nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_journal(path: Path, word: str, count: int = 1) -> list[int]:
    """The pids of the first runs that noted the word, once there are so many."""
    poll_until(
        lambda: [line[1] for line in journal(path)].count(word) >= count,
        what=f"{count} x {word!r} in the journal",
    )
    return [pid for _, noted, _, pid in journal(path) if noted == word]


def journal(path: Path) -> list[tuple[str, str, int, int]]:
    """What the test jobs noted: id, word, attempt, pid."""
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(line[0], line[1], int(line[2]), int(line[3])) for line in lines]
