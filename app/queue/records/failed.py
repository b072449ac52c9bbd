"""Failed jobs by cause, and what is done with many of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple


@dataclass(slots=True)
class FailureGroup:
    """Failed jobs that look alike. `trend` counts failures for good, in whole minutes and hours.

    `is_regressed`: the cause had been cleared, by retrying or discarding its last job, and came
    back. `samples` are the ids of those that failed last.
    """

    fingerprint: str
    is_regressed: bool
    count: int
    type: str
    queue: str
    error_class: str
    message: str
    first_seen: datetime
    last_seen: datetime
    trend: dict[str, int]
    samples: list[str]


class FailurePage(NamedTuple):
    """Groups, that which failed last first. `next_cursor` None: there are no more."""

    data: list[FailureGroup]
    next_cursor: str | None


class FailureFilter(NamedTuple):
    """Which failed jobs are meant; None is any."""

    fingerprint: str | None = None
    type: str | None = None
    queue: str | None = None
    error: str | None = None
    tag: tuple[str, str] | None = None
    batch_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The jobs that fitted a filter at one moment; `id` names them for a while.

    `sample` are the ids of some of them.
    """

    id: str
    count: int
    sample: list[str]


class Order(NamedTuple):
    """What is to be done with a selection. `pace` None: as fast as it goes.

    `canary`: one job, then ten, then the rest, each time waiting for how they end.
    """

    action: Literal["retry", "discard"]
    pace: float | None = None
    canary: bool = False


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation as it stands; it is a job of the same id.

    `failed` jobs could not be moved, `skipped` ones had left the selection by themselves.
    """

    id: str
    action: str
    state: Literal["queued", "running", "paused", "finished", "stopped", "failed"]
    total: int
    done: int
    failed: int
    skipped: int
    stopped_by: str | None
    pace: float | None
    canary: bool
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    # What was asked for, in the words of the API.
    filter: dict[str, str] = field(default_factory=dict)
    # Where the job that it retried last waits or runs.
    queue: str | None = None
    # Canaries whose end it waits for.
    waits_for: list[str] = field(default_factory=list)


class OperationPage(NamedTuple):
    """Operations, the newest first. `next_cursor` None: there are no more."""

    data: list[OperationView]
    next_cursor: str | None
