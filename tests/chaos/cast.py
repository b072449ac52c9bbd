"""The processes that things happen to, and what has happened to them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from tests.chaos import clock
from tests.harness import ROOT, WorkerProcess, children_of, is_running

SHIFT_SECONDS = 120
GRACE_SECONDS = 1.0
EXIT_SECONDS = 30.0
Kind = Literal["killed", "child killed", "frozen", "asked to leave"]


@dataclass
class Hit:
    """What was done to which processes. `left_at`: when a worker that was asked had gone."""

    kind: Kind
    pids: set[int]
    at: float
    left_at: float | None = None


@dataclass
class Cast:
    """Two to four workers and one web process before a proxy, and all hits on them."""

    folder: Path
    redis_url: str
    random: Random
    worker_variables: dict[str, str]
    web_variables: dict[str, str]
    grace_seconds: float = GRACE_SECONDS
    workers: list[WorkerProcess] = field(default_factory=list)
    started: set[Path] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    hits: list[Hit] = field(default_factory=list)
    leaving: list[asyncio.Task[None]] = field(default_factory=list)
    web: subprocess.Popen[bytes] | None = None
    hired: int = 0
    slowest_exit: float = 0.0
    bad_exits: list[str] = field(default_factory=list)

    @property
    def at_work(self) -> list[WorkerProcess]:
        """Those that a fault may happen to."""
        self.workers = [each for each in self.workers if each.process.poll() is None]
        return [each for each in self.workers if each.pid not in self.frozen]

    @property
    def ready(self) -> list[WorkerProcess]:
        """Those of them that have begun to take jobs."""
        return [each for each in self.at_work if self._has_started(each)]

    def _has_started(self, worker: WorkerProcess) -> bool:
        if worker.log not in self.started and "worker_started" in worker.log.read_text():
            self.started.add(worker.log)
        return worker.log in self.started

    def hire(self) -> WorkerProcess:
        """One more worker; every second one lives two minutes ahead."""
        self.hired += 1
        shift = SHIFT_SECONDS * (self.hired % 2)
        variables = clock.environment(self.folder / f"clock-{shift}", shift)
        made = WorkerProcess(
            self.redis_url,
            self.folder / f"worker-{self.hired}.log",
            *("--grace", str(self.grace_seconds), "--concurrency", "8", "--processes", "2"),
            **variables,
            **self.worker_variables,
        )
        self.workers.append(made)
        return made

    def hire_up_to(self, count: int) -> None:
        while len(self.at_work) < count:
            self.hire()

    def open_web(self) -> None:
        with (self.folder / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                [sys.executable, "-m", "app.main"],
                cwd=ROOT,
                env=os.environ | self.web_variables,
                stdout=log,
                stderr=log,
            )

    def kill_web(self) -> None:
        assert self.web is not None
        self.web.kill()
        self.web.wait()

    async def deploy_web(self) -> None:
        """SIGTERM, and another in its place when the port is free again."""
        assert self.web is not None
        self.web.terminate()
        await asyncio.to_thread(self.web.wait, EXIT_SECONDS)
        self.open_web()

    # Faults

    def kill_tree(self, victim: WorkerProcess) -> None:
        """SIGKILL for the worker and all that it started, at the same time."""
        pids = _tree(victim.pid)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.hits.append(Hit("killed", {victim.pid}, time.time()))
        victim.process.wait()

    def kill_child(self) -> bool:
        """SIGKILL for a process that runs a `def` job; false when there is none now."""
        children = [
            child
            for each in self.at_work
            for nursery in children_of(each.pid)
            for child in children_of(nursery)
        ]
        if not children:
            return False
        pid = self.random.choice(sorted(children))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.hits.append(Hit("child killed", {pid}, time.time()))
        return True

    async def freeze(self, victim: WorkerProcess, seconds: float) -> None:
        """SIGSTOP for the worker; it goes on afterwards as if nothing had been."""
        self.frozen.add(victim.pid)
        self.hits.append(Hit("frozen", {victim.pid}, time.time()))
        victim.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            victim.process.send_signal(signal.SIGCONT)
            self.frozen.discard(victim.pid)

    def ask_to_leave(self, victim: WorkerProcess) -> None:
        """SIGTERM for every process of the worker at once, as a platform does at a deploy."""
        self.workers.remove(victim)
        for pid in _tree(victim.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        hit = Hit("asked to leave", {victim.pid}, time.time())
        self.hits.append(hit)
        self.leaving.append(asyncio.create_task(self._see_off(victim, hit)))

    async def _see_off(self, victim: WorkerProcess, hit: Hit) -> None:
        try:
            status = await asyncio.to_thread(victim.process.wait, EXIT_SECONDS)
            # Asked before it could hear, it has gone the way of every young process.
            if status != 0 and self._has_started(victim):
                self.bad_exits.append(f"{victim.log.name}: status {status}")
        except subprocess.TimeoutExpired:
            self.bad_exits.append(f"{victim.log.name}: still there after {EXIT_SECONDS} s")
            victim.end()
        hit.left_at = time.time()
        self.slowest_exit = max(self.slowest_exit, hit.left_at - hit.at)

    async def see_all_off(self) -> None:
        """Everybody goes, asked nicely."""
        for each in self.at_work:
            self.ask_to_leave(each)
        await asyncio.gather(*self.leaving)

    def end(self) -> None:
        """Whatever has happened: nothing remains."""
        for each in self.workers:
            pids = _tree(each.pid)
            each.end()
            for pid in filter(is_running, pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.web is not None:
            self.kill_web()


def _tree(pid: int) -> list[int]:
    """Children first: what they are is not known any more when their parent has gone."""
    return [each for child in children_of(pid) for each in _tree(child)] + [pid]
