"""What a schedule is, and when it ticks: pure, by the time that it is given."""

from __future__ import annotations

import itertools
import math
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from cronsim import CronSim, CronSimError

Missed = Literal["skip", "run_once"]
Overlap = Literal["skip", "enqueue"]
Source = Literal["http", "file"]
# What a schedule's jobs are tagged with, its name as the value.
TAG = "schedule"
# Who submits the jobs of the schedules that stand in a file.
FILE_KEY = "schedules-file"
# Later than this a tick was missed: a worker's restart takes less.
LATE_SECONDS = 60
MAX_CRON = 200
FIELDS = (
    "has five fields: minute, hour, day of the month, month, day of the week"
    " (each *, numbers, names, ranges, lists, steps; L, LW, 5L and MON#2 besides)"
)
NEVER = "names a day that never comes"
# What a search for the latest tick looks back, one after the other: none looks at more than a
# few dozen ticks of a schedule that has more than a few dozen in the one before.
_LOOKS_BACK = [timedelta(hours=1), timedelta(days=1), timedelta(days=40), timedelta(days=400)]


class Schedule(NamedTuple):
    """`job` is `{type, params, options}` as a submission. One of `cron` and `interval_ms` is set.

    An interval counts from its anchor, which Redis keeps beside it: it does not drift.
    """

    name: str
    job: dict[str, Any]
    cron: str | None = None
    interval_ms: int | None = None
    time_zone: str = "UTC"
    missed: Missed = "skip"
    overlap: Overlap = "skip"

    @property
    def timing(self) -> str:
        """Equal for schedules that tick at the same times."""
        return f"{self.cron}|{self.interval_ms}|{self.time_zone}"

    @property
    def path(self) -> str:
        return f"/v1/schedules/{self.name}"

    @property
    def jobs_path(self) -> str:
        """The list of its jobs."""
        return f"/v1/jobs?tag={TAG}:{self.name}"

    def after(self, at_ms: int, anchor_ms: int) -> Iterator[int]:
        """Its ticks later than that, in order."""
        if self.interval_ms is not None:
            first = max(1, (at_ms - anchor_ms) // self.interval_ms + 1)
            for count in itertools.count(first):
                yield anchor_ms + count * self.interval_ms
            return
        assert self.cron is not None
        yield from _cron_ticks(self.cron, self.time_zone, at_ms)

    def latest(self, since_ms: int, until_ms: int, anchor_ms: int) -> int:
        """Its last tick of those up to `until_ms`, of which `since_ms` is one."""
        if self.interval_ms is not None:
            since_last = (until_ms - anchor_ms) % self.interval_ms
            return max(since_ms, until_ms - since_last)
        for look in [*_LOOKS_BACK, None]:
            start = since_ms
            if look is not None:
                start = max(since_ms, until_ms - round(look.total_seconds() * 1000))
            last = None
            for tick in self.after(start, anchor_ms):
                if tick > until_ms:
                    break
                last = tick
            if last is not None or start == since_ms:
                return since_ms if last is None else last
        return since_ms


class Decision(NamedTuple):
    """What is to become of a tick that is due: run as that of `run_ms`, or not at all."""

    next_ms: int
    run_ms: int | None = None
    is_missed: bool = False


def decide(
    schedule: Schedule, due_ms: int, now_ms: int, anchor_ms: int, *, was_put_off: bool
) -> Decision:
    """`due_ms` is the tick that it waited for. Of several that were missed one runs at most.

    What was put off, as its queue was full, is not missed until the next tick comes.
    """
    next_ms = next(schedule.after(now_ms, anchor_ms))
    if due_ms > now_ms:
        # The clock was wrong, far ahead, and has been put right.
        return Decision(next_ms)
    latest = schedule.latest(due_ms, now_ms, anchor_ms)
    is_in_time = now_ms - latest <= LATE_SECONDS * 1000 or (was_put_off and latest == due_ms)
    if is_in_time or schedule.missed == "run_once":
        return Decision(next_ms, latest)
    return Decision(next_ms, is_missed=True)


def check_cron(text: str) -> None:
    """Raises ValueError with what is wrong with it, in words."""
    if len(text) > MAX_CRON or len(text.split()) != 5:
        raise ValueError(FIELDS)
    try:
        found = next(_cron(text, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ValueError(f"{str(error).lower()}: {FIELDS}") from None
    if found is None:
        raise ValueError(NEVER)


def check_time_zone(name: str) -> None:
    """Raises ValueError for what the time zone database does not name."""
    if name not in _zones():
        raise ValueError("is no time zone of the IANA database, like Europe/Berlin")


class Skip(NamedTuple):
    """The last tick that made no job, and why: `missed`, or `overlap` with the job before."""

    at: datetime
    reason: str


class ScheduleView(NamedTuple):
    """A schedule as it stands. `fault`: why its tick waits, in words."""

    schedule: Schedule
    source: Source
    created_by: str
    created_at: datetime
    updated_at: datetime
    next_runs: list[datetime]
    last_runs: Sequence[str] = ()
    last_skip: Skip | None = None
    fault: str | None = None


class SchedulePage(NamedTuple):
    """Schedules in order of name. `next_cursor` None: there are no more."""

    data: list[ScheduleView]
    next_cursor: str | None


def from_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(
        microsecond=milliseconds % 1000 * 1000
    )


@lru_cache
def _zones() -> frozenset[str]:
    # That of the machine: each may have another.
    return frozenset(zoneinfo.available_timezones()) - {"localtime"}


def _cron_ticks(text: str, time_zone: str, after_ms: int) -> Iterator[int]:
    """A tick in the hour that a change to summer time leaves out comes once, at its end; one in
    the hour that comes twice comes once, unless the hour is `*`: those go on, every so many
    minutes, in both.
    """
    start = from_ms(after_ms).astimezone(zoneinfo.ZoneInfo(time_zone))
    for found in _cron(text, start):
        tick = math.floor(found.timestamp() * 1000)
        # One that starts in the second of two equal hours is given those of the first.
        if tick > after_ms:
            yield tick


def _cron(text: str, start: datetime) -> Iterator[datetime]:
    minute, hour, *rest = text.split()
    if re.fullmatch(r"\*(/0*1)?", hour) is None:
        # cronsim 2.8 treats a field that begins with a star as one that goes by elapsed time:
        # what is not every hour would be left out, or run twice, when clocks change.
        minute = re.sub(r"(^|,)\*", r"\g<1>0-59", minute)
        hour = re.sub(r"(^|,)\*", r"\g<1>0-23", hour)
    else:
        hour = "*"
    # A list that begins with a star would be taken for one, too; the star is all of it anyway.
    return CronSim(" ".join([minute, hour, *rest]), start)
