"""How queues and workers stand, in numbers: what operators and Prometheus are shown.

Plain values, which both sides of the house may know. Durations in seconds, times aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

# Of how long jobs waited and ran; as in counts.lua.
BOUNDS = ("0.005", "0.025", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "300",
          "900", "3600", "inf")  # fmt: skip
# What is counted of jobs, by queue and type.
EVENTS = (
    "submitted", "claimed", "finished", "failed", "canceled", "stopped", "retried", "recovered",
    "interrupted", "postponed",
)  # fmt: skip
ENDINGS = ("finished", "failed", "canceled", "stopped")


class QueueFigures(NamedTuple):
    """A queue, all of its priorities together.

    `oldest_age`: how long the job has waited that has waited longest; None where none waits.
    Rates are jobs a second over about the last minute, accepted and ended; None while nothing
    is known of that minute. `failed` is RQ's failed registry, which holds stopped jobs too.
    `pause_reason`: why it paused itself; None where an operator did it.
    """

    name: str
    depth: int
    oldest_age: float | None
    running: int
    scheduled: int
    deferred: int
    failed: int
    size_bytes: int
    rate_in: float | None
    rate_out: float | None
    workers: int
    paused: bool
    pause_reason: str | None

    def shown(self) -> dict[str, Any]:
        """As it is told, over HTTP and by commands."""
        shown = self._asdict()
        shown["bytes"] = shown.pop("size_bytes")
        return shown


class WorkerFigures(NamedTuple):
    """A worker that is registered, ours or a stock one.

    `is_alive`: it has been heard of lately enough. `slots` None: it does not say, and runs one
    job at a time. `running` are ids of jobs, a hundred at most; `running_count` is all.
    """

    name: str
    queues: Sequence[str]
    state: str
    is_alive: bool
    running: Sequence[str]
    running_count: int
    slots: int | None
    heartbeat_age: float | None
    started_at: datetime | None
    pid: int | None
    host: str | None
    version: str | None
    successful_count: int
    failed_count: int
    mail_fault: str | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """How long something took, as a histogram: how often up to each of BOUNDS, not summed up."""

    counts: Sequence[int]
    sum_seconds: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Estimated within a bucket, as Prometheus does; None where there was nothing."""
        wanted, seen, lower = share * self.count, 0, 0.0
        if not self.count:
            return None
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            if seen + count >= wanted and count:
                if bound == "inf":
                    break
                return lower + (float(bound) - lower) * (wanted - seen) / count
            seen += count
            lower = float(bound) if bound != "inf" else lower
        return lower


class Minute(NamedTuple):
    """What happened in a queue from `at` on, for `seconds`: about a minute."""

    at: datetime
    seconds: float
    accepted: int
    ended: Mapping[str, int]
    retried: int
    wait: Times
    run: Times


class Depths(NamedTuple):
    """What waited at a moment, by queue; where nothing did, the queue is not named."""

    at: datetime
    depths: Mapping[str, int]
    oldest_ages: Mapping[str, float]


class Emptied(NamedTuple):
    """How far the emptying of a queue is. `is_complete`: nothing waits of what did as it began."""

    canceled: int
    is_complete: bool


class Counted(NamedTuple):
    """What has happened since ever in one queue to jobs of one type."""

    queue: str
    type: str
    events: Mapping[str, int]
    wait: Times
    run: Times


class Measures(NamedTuple):
    """All that is measured, at one moment. Memory in bytes; `memory_limit` 0: there is none."""

    queues: Sequence[QueueFigures] = ()
    workers: Sequence[WorkerFigures] = ()
    counted: Sequence[Counted] = ()
    submissions: Times = Times((0,) * len(BOUNDS), 0.0)
    memory_used: int = 0
    memory_limit: int = 0
    is_suspended: bool = False
    schedules_put_off: int = 0
