"""Jobs as they are shown: one, a list, a batch, a trail."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from app.queue.records.names import Priority, Status

if TYPE_CHECKING:
    from app.queue.records.options import Concurrency, Notify
    from jobs.catalog import Backoff


@dataclass(slots=True)
class JobError:
    """Why a run, or the job, failed."""

    code: str
    message: str
    error_class: str
    retryable: bool
    fingerprint: str | None = None


@dataclass(slots=True)
class Attempt:
    """One run. `outcome` None: it is running."""

    number: int
    worker: str | None
    started_at: datetime
    ended_at: datetime | None = None
    outcome: (
        Literal["finished", "failed", "retry", "stopped", "interrupted", "abandoned"] | None
    ) = None
    error: JobError | None = None


@dataclass(slots=True)
class JobView:
    """A job as it stands in Redis. Anything a stock producer left out is None or a default.

    Each of `artifacts` is `{name, size, content_type, sha256, key}`, `key` naming it in storage.
    """

    id: str
    type: str
    queue: str
    priority: Priority
    status: Status
    attempt: int
    max_attempts: int
    created_at: datetime
    enqueued_at: datetime | None = None
    scheduled_at: datetime | None = None
    next_attempt_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    result: Any = None
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    error: JobError | None = None
    attempts: list[Attempt] = field(default_factory=list)
    reason: str | None = None
    parent_ids: list[str] = field(default_factory=list)
    request_id: str | None = None
    submitted_by: str | None = None
    batch_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Any] | None = None
    # 1: next in its queue. None: not waiting, or too far back to count.
    position: int | None = None
    eta_seconds: float | None = None
    allow_failure: bool = False
    concurrency: Concurrency | None = None
    params: dict[str, Any] | None = None
    backoff: Backoff | None = None
    timeout_seconds: float | None = None
    retention_seconds: int | None = None
    dry_run: bool = False
    notify: Notify | None = None
    traceback: str | None = None


class Event(NamedTuple):
    """One line of a job's trail. `id` orders events of a job; `detail` holds facts, no values.

    `name` is one of: queued scheduled deferred started progress retry_scheduled interrupted
    recovered finished failed canceled stopped, or `late` for an outcome that came too late.
    """

    id: str
    name: str
    at: datetime
    detail: dict[str, Any]

    @property
    def is_last(self) -> bool:
        return self.name in {"finished", "failed", "canceled", "stopped"}


@dataclass(slots=True)
class BatchView:
    """A batch as it stands. `counts` by status; `failures` are the first ten failed jobs."""

    id: str
    size: int
    job_ids: list[str]
    counts: dict[str, int]
    failures: list[JobView]
    created_at: datetime
    finished_at: datetime | None
    submitted_by: str | None
    # Where its jobs stood in the request, if it was one of which some were left out.
    places: list[int] | None = None


class JobFilter(NamedTuple):
    """Which jobs a list wants; None is any. `submitted_by` bounds what a key may see."""

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    tag: tuple[str, str] | None = None
    batch_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    submitted_by: str | None = None


class Page(NamedTuple):
    """Jobs, newest first. `next_cursor` None: there are no more."""

    jobs: list[JobView]
    next_cursor: str | None
