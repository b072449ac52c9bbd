"""What comes in: a job that is submitted or edited, a key used before, an upload."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.queue.records.names import Priority, Status, queue_name
from app.queue.records.options import Concurrency, Notify
from jobs.catalog import Backoff
from jobs.files import FileNeeds


def new_job_id() -> str:
    """35 characters of hex: microseconds since 1970, then 88 random bits.

    Sorts by creation time, cannot be guessed.
    """
    try:
        rest = _random_parts.pop()
    except IndexError:
        # A call of the kernel for each would cost more than all else of it.
        drawn = os.urandom(11 * _DRAWN_AT_ONCE).hex()
        _random_parts.extend(drawn[at : at + 22] for at in range(22, len(drawn), 22))
        rest = drawn[:22]
    return f"{time.time_ns() // 1000:013x}{rest}"


_DRAWN_AT_ONCE = 128
# Taken and added to in one step each, by any thread; a forked child draws its own.
_random_parts: list[str] = []
os.register_at_fork(after_in_child=_random_parts.clear)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key for a request, and a digest of that request (method, path, parsed body)."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a request was answered. `is_final`: all that it asked for had ended by then."""

    status: int
    is_final: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Replay:
    """The request came before: its job or batch, and its answer where that was kept."""

    id: str
    answer: KeptAnswer | None = None


@dataclass(slots=True)
class JobDraft:
    """A checked submission, on its way to Redis. Times are aware UTC, durations seconds.

    `params` is what the type's model made of the client's, as JSON values.
    `scheduled_at` and `delay_seconds` None mean: as soon as a worker is free. A delay
    counts by Redis' clock; once Redis has acknowledged the job, `created_at`,
    `enqueued_at` and `scheduled_at` say what it recorded.
    """

    type: str
    params: dict[str, Any]
    queue: str
    max_attempts: int
    backoff: Backoff
    timeout_seconds: float
    retention_seconds: int
    failure_retention_seconds: int
    id: str = field(default_factory=new_job_id)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    priority: Priority = "default"
    scheduled_at: datetime | None = None
    delay_seconds: float | None = None
    enqueued_at: datetime | None = None
    expires_at: datetime | None = None
    depends_on: list[str] = field(default_factory=list)
    allow_failure: bool = False
    concurrency: Concurrency | None = None
    tags: dict[str, str] = field(default_factory=dict)
    dry_run: bool = False
    notify: Notify | None = None
    # The job that is made of it with the outcome; what only that says is missing in its params.
    notifying: JobDraft | None = None
    request_id: str | None = None
    submitted_by: str | None = None
    # False: `depends_on` may name only jobs that the same key submitted.
    sees_all: bool = True
    batch_id: str | None = None
    # What files its params name, and where in its body (`/params` or "") the params stand.
    files: FileNeeds | None = None
    params_pointer: str = ""
    # What became of it at once: `deferred` waits for parents, `canceled` had a failed one.
    status: Status = "queued"
    reason: str | None = None

    def recorded(self, created_at: datetime, status: Status | None = None) -> None:
        """Take what Redis recorded. Without a status: what it must have been at that time."""
        self.created_at = created_at
        if self.delay_seconds is not None:
            self.scheduled_at = created_at + timedelta(seconds=self.delay_seconds)
        if status is None:
            waits = self.scheduled_at is not None and self.scheduled_at > created_at
            status = "deferred" if self.depends_on else "scheduled" if waits else "queued"
        self.status = status
        self.reason = "parent_failed" if status == "canceled" else None
        self.enqueued_at = created_at if status == "queued" else None

    @property
    def is_plain(self) -> bool:
        """It waits for nothing and is part of nothing: it can be run at once, as nearly all."""
        return (
            self.scheduled_at is None
            and self.delay_seconds is None
            and self.expires_at is None
            and self.concurrency is None
            and self.notify is None
            and not (self.depends_on or self.tags or self.dry_run or self.batch_id)
        )

    @property
    def rq_queue(self) -> str:
        return queue_name(self.queue, self.priority)


@dataclass(frozen=True, slots=True)
class Edit:
    """What takes the place of a failed job's params, of its options, or of both.

    `draft` is the whole job as it is to be: of the same id, type and submitter.
    """

    draft: JobDraft
    has_params: bool
    has_options: bool


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still ask in its window of `window_seconds`; see `RATE_LIMIT`."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client has sent, as it stands in Redis; its bytes are in storage."""

    id: str
    size_bytes: int
    sha256: str
    content_type: str
    filename: str | None
    owner: str
    created_at: datetime
    expires_at: datetime
