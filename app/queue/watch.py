"""Ends a coroutine that holds the worker's loop beyond its time-out.

No timer of the loop can: it is the loop that does not get its turn. A thread looks which job
has it, and a signal raises in that job's own code, out of a `time.sleep` too. What sits in a
C function that minds no signals cannot be ended; the heart gives up on it in the end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from app.logs import event

log = logging.getLogger("recado.worker")

# Not SIGALRM: that one ends a worker which does not leave in time, and nobody may handle it.
INTERRUPT = signal.SIGVTALRM
LOOK_SECONDS = 0.05
# The loop's own timer comes first, where the loop gets its turn.
SLACK_SECONDS = 0.05


class HeldTooLongError(BaseException):
    """Raised in the code of a job. No Exception: jobs catch those."""


@dataclass(frozen=True, slots=True)
class _Watched:
    job_id: str
    code: CodeType | None
    until: float


class LoopWatch(threading.Thread):
    """To be made and started in the main thread, whose loop it watches."""

    def __init__(self) -> None:
        super().__init__(name="loop-watch", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._watched: dict[asyncio.Task[Any], _Watched] = {}
        self._some = threading.Event()
        self._over = False

    def start(self) -> None:
        signal.signal(INTERRUPT, self._interrupt)
        super().start()

    def stop(self) -> None:
        self._over = True
        self._some.set()

    @contextmanager
    def watching(self, job_id: str, function: Any, seconds: float) -> Iterator[None]:
        """For the current task, which calls the job's function within."""
        task = asyncio.current_task()
        assert task is not None
        code = getattr(function, "__code__", None)
        self._watched[task] = _Watched(job_id, code, time.monotonic() + seconds)
        if not self._some.is_set():
            self._some.set()
        try:
            yield
        finally:
            del self._watched[task]

    def run(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self._over:
            if not self._watched:
                self._some.clear()
                if not self._watched:  # nothing came in between
                    self._some.wait()
            elif self._overdue() is not None and self._is_stuck():
                signal.pthread_kill(main, INTERRUPT)
            time.sleep(LOOK_SECONDS)

    def _is_stuck(self) -> bool:
        """Not a mere step of a job that is being cancelled and puts its things away."""
        turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # the loop has closed
            self._over = True
            return False
        return not turned.wait(LOOK_SECONDS)

    def _overdue(self) -> _Watched | None:
        """What has the loop right now, and should not any more."""
        task = asyncio.current_task(self._loop)
        found = None if task is None else self._watched.get(task)
        if found is None or time.monotonic() < found.until + SLACK_SECONDS:
            return None
        return found

    def _interrupt(self, _: int, frame: FrameType | None) -> None:
        """In the main thread, between two of its steps; raises only within the job's function."""
        found = self._overdue()
        if found is None or found.code is None:
            return
        while frame is not None:
            if frame.f_code is found.code:
                event(log, "job_held_the_loop", logging.ERROR, job_id=found.job_id)
                raise HeldTooLongError
            frame = frame.f_back
