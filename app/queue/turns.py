"""Which queues a worker looks at, in which order, and where in each it goes on looking."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.queue.records.names import PRIORITIES, Priority, queue_name
from app.queue.transitions import Claim, Passed

# One place in so many is for a priority that has had to wait. With two of those, either gets
# one in twenty, however much waits above it.
FLOOR_JOBS = 10
# A job that went back to the front, behind others that wait there, is found by then at last;
# later in a queue so deep that the way through it takes more claims than this.
FORGET_SECONDS = 2.0
SHORT_WAY_CLAIMS = 10


@dataclass(frozen=True, slots=True)
class Look:
    """One claim's order. From the first `floor` queues it takes `floor_jobs` at most."""

    queues: list[str]
    floor: int
    floor_jobs: int
    passed: list[Passed]


class Turns:
    """Strict in priority, with a floor; within a priority each queue is first in its turn.

    Remembers what lies in front of each queue and no slot was free for, so that jobs behind
    it, which a slot is free for, are found without looking at all of it again.
    """

    def __init__(self, queues: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._by_priority = {
            priority: [queue_name(queue, priority) for queue in queues] for priority in PRIORITIES
        }
        self._clock = clock
        self._since_floor = 0
        self._floor: Priority = "low"
        self._passed: dict[tuple[str, str], str] = {}
        self._way_claims = 0
        self._forget_at = clock() + FORGET_SECONDS

    @property
    def names(self) -> list[str]:
        """All of them, in order of priority."""
        return [name for priority in PRIORITIES for name in self._by_priority[priority]]

    def next(self) -> Look:
        """The order of the next claim."""
        for priority, names in self._by_priority.items():
            self._by_priority[priority] = names[1:] + names[:1]
        floor: list[str] = []
        if self._since_floor >= FLOOR_JOBS:
            floor = self._by_priority[self._floor]
        passed = [Passed(*where, job_id) for where, job_id in self._passed.items()]
        return Look(floor + self.names, len(floor), self._since_floor // FLOOR_JOBS, passed)

    def took(self, look: Look, claim: Claim) -> None:
        """What that claim brought, and how far it looked."""
        if look.floor:
            self._since_floor -= look.floor_jobs * FLOOR_JOBS
            self._floor = "default" if self._floor == "low" else "low"
        self._since_floor += len(claim.jobs)
        for each in claim.passed:
            self._passed[each.queue, each.kind] = each.job_id
        # While there is more to look at, the way through a deep queue must not begin anew.
        if claim.has_more:
            self._way_claims += 1
            long_way = max(1.0, self._way_claims / SHORT_WAY_CLAIMS)
            self._forget_at = self._clock() + FORGET_SECONDS * long_way
        elif self._clock() >= self._forget_at:
            self._passed.clear()
            self._way_claims = 0
            self._forget_at = self._clock() + FORGET_SECONDS
