"""Bursts of jobs on a filled queue, and jobs one by one, through somebody's worker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles

import redis

from benchmarks import processes
from benchmarks.contenders import ROOT
from benchmarks.peers.marks import MARK
from benchmarks.processes import Server
from benchmarks.work_contenders import PYTHON, WorkContender

# What runs at once: a burst is looked at over a multiple of it, so that waves do not count.
TOGETHER = 64
# Nothing has begun for so long: something is wrong.
QUIET_SECONDS = 30.0
FILL_SECONDS = 600.0


class BurstError(Exception):
    """A job was lost or run twice, or nothing moves; the message has the end of the log."""


@dataclass(frozen=True, slots=True)
class Burst:
    """The middle of a burst, without its beginning and its end. CPU in seconds a job."""

    contender: str
    jobs: int
    seconds: float
    rate: float
    worker_cpu: float
    valkey_cpu: float
    others_cores: float
    run_twice: int
    waits_a_mail: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """From the acknowledgement of a submission to the function's first line, in seconds."""

    contender: str
    rate: float
    jobs: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A Valkey, and everybody's Python. One contender is on it at a time."""

    valkey: Server
    client: redis.Redis
    folder: Path
    pythons: Mapping[str, Path]

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.valkey.port}/0"

    def environment(self, contender: WorkContender, marks: Path, smtp: int = 0) -> dict[str, str]:
        own = contender.environment(self.redis_url, smtp, self.folder)
        return {**own, "BENCHMARK_MARKS": str(marks)}

    def fill(self, contender: WorkContender, kind: str, jobs: int) -> None:
        """Queue so many, by the contender's own client."""
        self._run_client(contender, self.folder / "fill.marks", "fill", kind, str(jobs))

    def pace(self, contender: WorkContender, acks: Path, jobs: int, rate: float) -> None:
        self._run_client(contender, acks, "pace", "noop", str(jobs), "--rate", str(rate))

    def _run_client(self, contender: WorkContender, marks: Path, *arguments: str) -> None:
        done = subprocess.run(
            [*contender.filling(self.pythons[contender.name]), *arguments],
            cwd=contender.folder, env={**os.environ, **self.environment(contender, marks)},
            capture_output=True, text=True, timeout=FILL_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BurstError(f"{contender.label} was not filled:\n{done.stderr[-2000:]}")

    @contextmanager
    def workers(
        self, contender: WorkContender, marks: Path, *, count: int = 1, smtp: int = 0
    ) -> Iterator[list[int]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    processes.running(
                        [str(self.pythons[contender.name]), "-m", *contender.worker],
                        contender.folder,
                        self.environment(contender, marks, smtp),
                        self.folder / f"{contender.name}-{number}.log",
                    )
                )
                for number in range(count)
            ]

    def log_of(self, contender: WorkContender) -> str:
        return (self.folder / f"{contender.name}-0.log").read_text()[-3000:]


def burst(stage: Stage, contender: WorkContender, jobs: int, *, workers: int = 1) -> Burst:
    """No-op jobs on an otherwise empty Valkey, until each has run. Ours runs none twice."""
    marks = _fresh(stage.folder / f"{contender.name}.marks")
    processes.emptied(stage.client)
    stage.fill(contender, "noop", jobs)
    with stage.workers(contender, marks, count=workers) as pids:
        return _watched(stage, contender, marks, jobs, pids)


def mail_burst(stage: Stage, contender: WorkContender, jobs: int, milliseconds: int) -> Burst:
    """E-mails to a server that takes so long a reply, until it has each of them once."""
    marks = _fresh(stage.folder / "mail.marks")
    processes.emptied(stage.client)
    stage.fill(contender, "mail", jobs)
    port, log = processes.free_port(), stage.folder / "mail_server.log"
    command = [str(PYTHON), "-m", "benchmarks.mail_server", str(port), str(milliseconds)]
    environment = {"BENCHMARK_MARKS": str(marks), "BENCHMARK_REDIS_URL": stage.redis_url}
    with processes.running(command, ROOT, environment, log):
        processes.await_port(port, "the mail server", log)
        unused = _fresh(stage.folder / "unused.marks")
        with stage.workers(contender, unused, smtp=port) as pids:
            found = _watched(stage, contender, marks, jobs, pids)
    told = json.loads(log.read_text())
    return replace(found, waits_a_mail=told["replies"] / told["mails"])


def latency(stage: Stage, contender: WorkContender, rate: float, seconds: float) -> Latency:
    """Jobs at a steady rate to a worker that is up."""
    jobs = int(rate * seconds)
    marks = _fresh(stage.folder / f"{contender.name}.marks")
    acks = _fresh(stage.folder / f"{contender.name}.acks")
    processes.emptied(stage.client)
    stage.fill(contender, "noop", 1)
    with stage.workers(contender, marks):
        _await_marks(stage, contender, marks, 1)
        stage.pace(contender, acks, jobs, rate)
        # The greeting of `fill`, that of `pace`, and the jobs.
        _await_marks(stage, contender, marks, jobs + 2)
    acknowledged = dict(_read(acks))
    # By number the last: job 0 was also the one that showed that the worker is up.
    begun = dict(_read(marks))
    waits = [begun[number] - at for number, at in acknowledged.items()]
    parts = quantiles(waits, n=100)
    return Latency(contender.name, rate, jobs, parts[49], parts[98])


def _watched(
    stage: Stage, contender: WorkContender, marks: Path, jobs: int, pids: list[int]
) -> Burst:
    begin = _await_marks(stage, contender, marks, jobs // 10)
    before = _clocks(stage, pids)
    end = _await_marks(stage, contender, marks, jobs - jobs // 10)
    after = _clocks(stage, pids)
    _await_marks(stage, contender, marks, jobs)
    if contender.peer is None:
        _await_ends(stage, jobs)
    found = _read(marks)
    begun: dict[int, float] = {}
    for number, at in found:
        begun.setdefault(number, at)
    twice = len(found) - len(begun)
    if begun.keys() != set(range(jobs)) or (twice and contender.peer is None):
        raise BurstError(f"{contender.label}: {jobs} jobs, {len(found)} runs of {len(begun)}")
    times = sorted(begun.values())
    first = jobs // 10
    last = first + (jobs * 8 // 10) // TOGETHER * TOGETHER or jobs - 1
    seconds = times[last] - times[first]
    wall, machine, worker, valkey = (b - a for a, b in zip(before, after, strict=True))
    return Burst(
        contender.name, jobs, seconds, (last - first) / seconds,
        worker / (end - begin), valkey / (end - begin),
        max(0.0, machine - worker - valkey) / wall,
        twice,
    )  # fmt: skip


def _clocks(stage: Stage, pids: list[int]) -> tuple[float, float, float, float]:
    return (
        time.monotonic(),
        processes.machine_cpu_seconds(),
        sum(processes.family_cpu_seconds(pid) for pid in pids),
        processes.cpu_seconds(stage.valkey.pid),
    )


def _await_marks(stage: Stage, contender: WorkContender, marks: Path, count: int) -> int:
    """How many there are, as soon as there are so many."""
    found, moved_at = 0, time.monotonic()
    while found < count:
        time.sleep(0.005)
        now = marks.stat().st_size // MARK.size
        if now != found:
            found, moved_at = now, time.monotonic()
        if time.monotonic() - moved_at > QUIET_SECONDS:
            raise BurstError(
                f"{contender.label} stands still at {found} of {count}:\n{stage.log_of(contender)}"
            )
    return found


def _await_ends(stage: Stage, jobs: int) -> None:
    """Ours must also have been told to Redis, each as finished."""
    deadline = time.monotonic() + QUIET_SECONDS
    while (found := sum(_finished(stage, name) for name in ("benchmark", "email"))) != jobs:
        if time.monotonic() > deadline:
            raise BurstError(f"of {jobs} jobs {found} are finished")
        time.sleep(0.01)


def _finished(stage: Stage, queue: str) -> int:
    return int(stage.client.zcard(f"rq:finished:{queue}"))


def _read(marks: Path) -> list[tuple[int, float]]:
    return [(number, at) for number, at in MARK.iter_unpack(marks.read_bytes())]


def _fresh(path: Path) -> Path:
    path.write_bytes(b"")
    return path
