"""The executions that this process holds, and the slots that they take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.queue.claimed import Call
from app.queue.transitions import Claimed
from jobs.errors import PermanentError


@dataclass(slots=True)
class Run:
    """One execution in this process. `stop` is resolved with why it must end early.

    `call` None: it cannot be run, and `refusal` says why.
    """

    claimed: Claimed
    stop: asyncio.Future[str]
    started: float
    type_name: str
    in_process: bool = False
    call: Call | None = None
    refusal: PermanentError | None = None
    task: asyncio.Task[None] | None = None

    def end_early(self, why: str) -> None:
        if not self.stop.done():
            self.stop.set_result(why)


class Runs:
    """By their composite, until Redis knows the outcome. A slot is free as soon as a run ends."""

    def __init__(self, concurrency: int, processes: int) -> None:
        self._slots = {False: concurrency, True: processes}
        self._busy = {False: 0, True: 0}  # coroutines, processes
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def composites(self) -> list[str]:
        return list(self._runs)

    @property
    def free_slots(self) -> tuple[int, int]:
        """For coroutines, for processes."""
        return (
            max(0, self._slots[False] - self._busy[False]),
            max(0, self._slots[True] - self._busy[True]),
        )

    def add(self, run: Run) -> None:
        self._runs[run.claimed.composite] = run
        if run.call is not None:
            # Not when its task gets its turn: the next claim counts free slots before that.
            self._busy[run.in_process] += 1

    def free_slot(self, run: Run) -> None:
        self._busy[run.in_process] -= 1

    def remove(self, run: Run) -> None:
        del self._runs[run.claimed.composite]

    def end_early(self, why: str, matches: Callable[[Run], bool] = lambda _: True) -> None:
        for run in list(self._runs.values()):
            if matches(run):
                run.end_early(why)

    async def wait(self, seconds: float, hurry: asyncio.Event | None = None) -> bool:
        """True when nothing runs any more; false when the time is up, or a hurry began."""
        hurrying = asyncio.create_task(hurry.wait()) if hurry is not None else None
        deadline = time.monotonic() + seconds
        try:
            while tasks := {run.task for run in self._runs.values() if run.task is not None}:
                left = deadline - time.monotonic()
                if left <= 0 or (hurrying is not None and hurrying.done()):
                    return False
                waiting: set[asyncio.Task[Any]] = {*tasks}
                if hurrying is not None:
                    waiting.add(hurrying)
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if all(task.done() for task in tasks):
                    return True
            return True
        finally:
            if hurrying is not None:
                hurrying.cancel()
