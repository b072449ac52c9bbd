"""What a run of benchmarks/worker.py has found, and the goals that it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.bursts import TOGETHER, Burst, Latency
from benchmarks.depths import Depth
from benchmarks.figures import Figure

SLOW_MS, FAST_MS = 50, 0
IDLE, HALF = "idle", "half load"


@dataclass(slots=True)
class WorkerResults:
    """One entry a round in each list. Parts that were not asked for stay empty."""

    noop: dict[str, list[Burst]] = field(default_factory=dict)
    mail: dict[tuple[str, int], list[Burst]] = field(default_factory=dict)
    latency: dict[tuple[str, str], list[Latency]] = field(default_factory=dict)
    depths: list[Depth] = field(default_factory=list)
    bytes_a_job: dict[str, float] = field(default_factory=dict)
    workers: dict[int, list[Burst]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reached:
    """A goal, what was measured (by round), and the same by CPU where that says something."""

    text: str
    bound: float
    at_least: bool
    measured: Figure
    by_cpu: float | None = None

    @property
    def is_met(self) -> bool:
        middle = self.measured.middle
        return middle >= self.bound if self.at_least else middle <= self.bound


def rate(burst: Burst) -> float:
    return burst.rate


def figure(bursts: Sequence[Burst], value: Callable[[Burst], float]) -> Figure:
    return Figure.of([value(each) for each in bursts])


def ratio(ours: Sequence[Burst], theirs: Sequence[Burst]) -> Figure:
    """Of the rates, each pair from one round, so that both had the same machine."""
    return Figure.of([mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)])


def wire_limit(burst: Burst, milliseconds: int) -> float:
    """E-mails a second that so many connections can carry when each reply takes its time."""
    return TOGETHER / (burst.waits_a_mail * milliseconds / 1000)


def goals(results: WorkerResults) -> list[Reached]:
    return [*_noop(results.noop), *_mail(results.mail), *_depth(results)]


def _noop(found: Mapping[str, Sequence[Burst]]) -> list[Reached]:
    return [
        Reached(
            f"no-op jobs/s × {label}", bound, True,
            ratio(found["recado"], found[name]), _cpu_ratio(found["recado"], found[name]),
        )
        for name, label, bound in (("saq", "SAQ", 2.5), ("huey", "huey", 1.0))
        if "recado" in found and name in found
    ]  # fmt: skip


def _cpu_ratio(ours: Sequence[Burst], theirs: Sequence[Burst]) -> float:
    """Of the workers' CPU a job: what a core each would do, hardly disturbed by others."""
    return (
        figure(theirs, lambda each: each.worker_cpu).middle
        / figure(ours, lambda each: each.worker_cpu).middle
    )


def _mail(found: Mapping[tuple[str, int], Sequence[Burst]]) -> list[Reached]:
    if not found:
        return []
    slow, fast = found["recado", SLOW_MS], found["recado", FAST_MS]
    of_limit = [each.rate / wire_limit(each, SLOW_MS) for each in slow]
    theirs = found["saq", FAST_MS]
    return [
        Reached(
            f"e-mails/s at {SLOW_MS} ms a reply, of the limit", 0.95, True, Figure.of(of_limit)
        ),
        Reached(
            "e-mails/s at 0 ms × SAQ", 1.2, True, ratio(fast, theirs), _cpu_ratio(fast, theirs)
        ),
    ]


def _depth(results: WorkerResults) -> list[Reached]:
    if not results.depths:
        return []
    first, *deeper = results.depths
    reached = [
        Reached(
            f"{what}/s at a depth of {each.depth:,}, of that at {first.depth:,}", 0.9, True,
            Figure.of([getattr(each, what) / getattr(first, what)]),
        )
        for each in deeper
        for what in ("claims", "submits")
    ]  # fmt: skip
    size = Figure.of([results.depths[-1].bytes_a_job])
    return [*reached, Reached("bytes a queued job, 1 KB e-mail", 2500, False, size)]
