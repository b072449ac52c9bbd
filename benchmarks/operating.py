"""What an operator waits for beside 200,000 failed jobs: `python -m benchmarks.operating`.

Every endpoint and command that shows or counts them, some times each; then operations on all of
them, and queues that are emptied, while another client submits. Beside the answer's time stands
the longest call that the server made of it, during which nobody else is served.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import redis

from app.queue.connection import connect
from benchmarks import processes
from benchmarks.circumstances import circumstances, leave
from benchmarks.contenders import ROOT
from benchmarks.failed_jobs import CAUSES, QUEUES, Filler
from benchmarks.figures import Figure, table
from benchmarks.load import API_KEY
from benchmarks.operating_commands import Typed, commands, typed
from benchmarks.operating_requests import Known, Request, of_operation, requests
from benchmarks.processes import StartError

JOBS, QUICK_JOBS = 200_000, 5_000
GOAL_MS, GOAL_BLOCKED_MS = 300.0, 10.0
# What takes the server longer is told.
_SLOW_US = 200
_OPERATION_SECONDS = 1800.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """A request's seconds, and the server's longest call for it in milliseconds."""

    request: Request
    seconds: Figure
    blocked_ms: float


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to many jobs; how submissions fared meanwhile, in seconds."""

    name: str
    jobs: int
    seconds: float
    blocked_ms: float
    submissions: list[float]


@dataclass(frozen=True, slots=True)
class Scene:
    """A running service over a filled server."""

    client: httpx2.Client
    store: redis.Redis
    folder: Path
    environment: Mapping[str, str]
    # Their paths, in the order in which they were begun.
    operations: list[str] = field(default_factory=list)

    @contextmanager
    def blocked(self) -> Iterator[list[float]]:
        """At the end of the block it holds the server's longest call in it, in milliseconds."""
        found: list[float] = []
        self.store.slowlog_reset()
        yield found
        entries: Any = self.store.slowlog_get(1024)
        found.append(max((each["duration"] / 1000 for each in entries), default=0.0))

    def look(self, request: Request, rounds: int) -> Look:
        times = []
        with self.blocked() as blocked:
            for _ in range(rounds):
                begin = time.perf_counter()
                answer = self.client.request(request.method, request.path, json=request.body)
                times.append(time.perf_counter() - begin)
                if answer.status_code not in {200, 503}:
                    raise StartError(f"{request.name}: {answer.status_code} {answer.text[:500]}")
        return Look(request, Figure.of(times), blocked[0])

    def type(self, line: Sequence[str], rounds: int) -> Typed:
        """A command, once more than it is measured: at first its files are compiled."""
        typed(line, self.folder, self.environment)
        with self.blocked() as blocked:
            times = [typed(line, self.folder, self.environment) for _ in range(rounds)]
        seconds, used = zip(*times, strict=True)
        return Typed(_told(line), Figure.of(seconds), Figure.of(used), blocked[0])

    def operate(self, name: str, action: str, **asked: Any) -> Act:
        """An operation from its request to its end."""

        def act() -> int:
            started = self.client.post(f"/v1/failures/{action}", json=asked)
            path = started.raise_for_status().headers["location"]
            self.operations.append(path)
            deadline = time.monotonic() + _OPERATION_SECONDS
            while (shown := self.client.get(path).json())["state"] != "finished":
                if time.monotonic() > deadline:
                    raise StartError(f"an operation does not end: {shown}")
                time.sleep(_POLL_SECONDS)
            return int(shown["done"])

        return self.timed(name, act)

    def empty(self) -> Act:
        """All that waits is canceled, queue by queue."""

        def act() -> int:
            answers = [
                self.client.delete(f"/v1/queues/{queue}/jobs?confirm={queue}") for queue in QUEUES
            ]
            return sum(int(each.raise_for_status().json()["canceled"]) for each in answers)

        return self.timed("empty the queues", act)

    def timed(self, name: str, act: Callable[[], int]) -> Act:
        with self.blocked() as blocked, self._submitting() as submissions:
            begin = time.perf_counter()
            count = act()
            seconds = time.perf_counter() - begin
        return Act(name, count, seconds, blocked[0], submissions)

    @contextmanager
    def _submitting(self) -> Iterator[list[float]]:
        """Another client submits, one job after the other, for the time of the block."""
        times: list[float] = []
        ended = threading.Event()
        job = {"type": "data.profile", "params": {"rows": [{"a": 1}]}, "options": {"delay": 86400}}

        def submit() -> None:
            with httpx2.Client(base_url=self.client.base_url, headers=_HEADERS) as client:
                while not ended.wait(0.01):
                    begin = time.perf_counter()
                    client.post("/v1/jobs", json=job).raise_for_status()
                    times.append(time.perf_counter() - begin)

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            yield times
        finally:
            ended.set()
            thread.join()


_HEADERS = {"Authorization": f"Bearer {API_KEY}"}


def main() -> None:
    """Measure, print the page, and write it."""
    options = _options()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, leave)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scene = _scene(stack, Path(folder), options.jobs)
        known = Known.of(scene.store, _schedule(scene.client))
        looks = [scene.look(each, options.rounds) for each in requests(known)]
        lines = [scene.type(each, options.rounds) for each in commands(known)]
        share = options.jobs // 5
        acts = [
            scene.operate("discard by a filter", "discard", error="timeout"),
            scene.operate("retry all of a type", "retry", type="log.write"),
            scene.operate("retry the rest", "retry", status="failed"),
            scene.empty(),
        ]
        looks += [scene.look(each, options.rounds) for each in of_operation(scene.operations[-1])]
        if sum(act.jobs for act in acts[:3]) != options.jobs:
            raise StartError(f"of {options.jobs} jobs in fifths of {share} not all were moved")
    text = _page(looks, lines, acts, options.jobs, options.rounds)
    sys.stdout.write(text)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "operating.md").write_text(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operating", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_JOBS:,} jobs, three rounds")
    parser.add_argument("--jobs", type=int, help=f"failed jobs ({JOBS:,})")
    parser.add_argument("--rounds", type=int, help="how often each request is made (11)")
    parser.add_argument("--output", type=Path, help="folder of the page")
    options = parser.parse_args()
    options.jobs = options.jobs or (QUICK_JOBS if options.quick else JOBS)
    options.rounds = options.rounds or (3 if options.quick else 11)
    return options


def _scene(stack: ExitStack, folder: Path, jobs: int) -> Scene:
    server = stack.enter_context(processes.valkey(folder, "everysec"))
    url = f"redis://127.0.0.1:{server.port}/0"
    asyncio.run(_fill(url, jobs))
    port = processes.free_port()
    digest = hashlib.sha256(API_KEY.encode()).hexdigest()
    environment = {
        "HOST": "127.0.0.1", "PORT": str(port), "REDIS_URL": url, "DATA_DIR": str(folder),
        "STORAGE_URL": f"file:{folder}", "SMTP_URL": "smtp://127.0.0.1:9",
        "API_KEYS": f"benchmark:submit+read+operate:{digest}", "LOG_FORMAT": "json",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    worker = [sys.executable, "-m", "app.worker", "--queues", "none"]
    stack.enter_context(processes.running(worker, folder, environment, folder / "worker.log"))
    web = [sys.executable, "-m", "app.main"]
    stack.enter_context(processes.web(web, folder, environment, port, folder / "web.log"))
    store = redis.Redis(port=server.port)
    store.config_set("slowlog-log-slower-than", _SLOW_US)
    store.config_set("slowlog-max-len", 1024)
    client = httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers=_HEADERS, timeout=_OPERATION_SECONDS
    )
    return Scene(stack.enter_context(client), store, folder, environment)


def _schedule(client: httpx2.Client) -> str:
    """The name of one, which does not tick meanwhile."""
    job = {"type": "log.write", "params": {"message": "a"}}
    name = "nightly"
    schedule = {"name": name, "cron": "30 3 1 1 *", "time_zone": "UTC", "job": job}
    client.post("/v1/schedules", json=schedule).raise_for_status()
    return name


async def _fill(url: str, jobs: int) -> None:
    client = connect(url)
    await Filler(client).fail(jobs)
    await client.aclose()


def _page(
    looks: Sequence[Look], lines: Sequence[Typed], acts: Sequence[Act], jobs: int, rounds: int
) -> str:
    about = [
        f"- {jobs:,} failed jobs of {CAUSES} causes, made by the worker's own calls; medians of"
        f" {rounds} requests one after the other (lowest–highest), and of as many processes of"
        " each command",
        "- `blocked`: the longest call that Valkey made of it, during which it serves nobody else",
    ]
    within = f"within {GOAL_MS:.0f} ms"
    rows = [["request", "ms", within, "blocked, ms"]]
    for look in looks:
        rows.append([
            look.request.name, look.seconds.text(".1f", 1000), _passes(look.seconds),
            f"{look.blocked_ms:.1f}",
        ])  # fmt: skip
    processes_of = [["command", "ms", within, "of the processor, ms", "blocked, ms"]]
    for line in lines:
        processes_of.append([
            line.name, line.seconds.text(".0f", 1000), _passes(line.seconds),
            line.cpu.text(".0f", 1000), f"{line.blocked_ms:.1f}",
        ])  # fmt: skip
    done = [["act", "jobs", "jobs/s", "blocked, ms", "submissions meanwhile: p50, p99, ms"]]
    for act in acts:
        times = sorted(act.submissions) or [0.0]
        p50, p99 = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.99))
        done.append([
            act.name, f"{act.jobs:,}", f"{act.jobs / act.seconds:,.0f}", f"{act.blocked_ms:.1f}",
            f"{p50:.1f}, {p99:.1f}",
        ])  # fmt: skip
    slowest = max(looks, key=lambda look: look.seconds.middle)
    slowest_line = max(lines, key=lambda line: line.seconds.middle)
    blocked_ms = max(
        *(each.blocked_ms for each in looks), *(each.blocked_ms for each in lines),
        *(each.blocked_ms for each in acts),
    )  # fmt: skip
    goals = [
        ["goal", "measured", "reached"],
        [f"every page within {GOAL_MS:.0f} ms",
         f"{slowest.seconds.middle * 1000:.0f} ms: {slowest.request.name}",
         _passes(slowest.seconds)],
        [f"every command within {GOAL_MS:.0f} ms",
         f"{slowest_line.seconds.middle * 1000:.0f} ms: {slowest_line.name}",
         _passes(slowest_line.seconds)],
        [f"Valkey serves others again within {GOAL_BLOCKED_MS:.0f} ms",
         f"{blocked_ms:.1f} ms", "yes" if blocked_ms <= GOAL_BLOCKED_MS else "no"],
    ]  # fmt: skip
    text = ["# Operating", "", *circumstances("benchmarks.operating", about), "", *table(rows)]
    more = [*table(processes_of), "", *table(done), "", "## Goals", "", *table(goals), ""]
    return "\n".join([*text, "", *more])


def _passes(seconds: Figure) -> str:
    return "yes" if seconds.middle * 1000 <= GOAL_MS else "no"


def _told(line: Sequence[str]) -> str:
    """Without what differs from run to run."""
    words = [re.sub(r"^[0-9a-f]{16,}$", "…", each) for each in line]
    return " ".join(re.sub(r"^\d{4}-\d\d-.*Z$", "…", each) for each in words)


if __name__ == "__main__":
    main()
