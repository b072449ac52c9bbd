"""A job as RQ stores it <-> our model: what is submitted, claimed, and shown."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic_core import to_json

from jobs.catalog import Backoff
from jobs.files import FileNeeds

Status = Literal[
    "queued", "scheduled", "deferred", "started", "finished", "failed", "canceled", "stopped"
]
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
PERFORM = "app.worker.perform"
# The jobs that carry operations out have a queue of their own, which every worker listens to.
OPERATIONS_QUEUE = "operations"
# 291 kB of zlib can hold 572 MB: never inflate without a bound.
INFLATED_BYTES = 64 * 1024 * 1024


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


def queue_name(queue: str, priority: Priority) -> str:
    """The RQ queue of a priority: `email`, `email.high`, `email.low`."""
    return queue if priority == "default" else f"{queue}.{priority}"


def split_queue_name(name: str) -> tuple[str, Priority]:
    """The inverse of `queue_name`; any other dotted name is a queue of its own."""
    base, dot, suffix = name.rpartition(".")
    if dot and suffix == "high":
        return base, "high"
    if dot and suffix == "low":
        return base, "low"
    return name, "default"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` jobs of this key run at once. `key` is the client's word for it."""

    key: str
    limit: int


@dataclass(slots=True)
class Notify:
    """Who is to hear of a job's outcome, and of which; `locale` None: the default one."""

    emails: list[str]
    on: list[str]
    locale: str | None
    has_link: bool = False


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
class Act:
    """An entry of the audit trail: who did what to whom. `detail` holds facts, no values."""

    at: datetime
    key: str
    action: str
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ActPage:
    """Acts, the latest first. `next_cursor` None: there are no more."""

    data: list[Act]
    next_cursor: str | None


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


@dataclass(frozen=True, slots=True)
class FailurePage:
    """Groups, that which failed last first. `next_cursor` None: there are no more."""

    data: list[FailureGroup]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class FailureFilter:
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


@dataclass(frozen=True, slots=True)
class Order:
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


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Operations, the newest first. `next_cursor` None: there are no more."""

    data: list[OperationView]
    next_cursor: str | None


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


@dataclass(frozen=True, slots=True)
class Event:
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


@dataclass(frozen=True, slots=True)
class JobFilter:
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


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first. `next_cursor` None: there are no more."""

    jobs: list[JobView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may still ask in its window of `window_seconds`; see `RATE_LIMIT`."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that a server refused for good; None: what Redis has of it cannot be read."""

    address: str
    since: datetime | None
    until: datetime
    code: int | None
    reply: str | None


@dataclass(frozen=True, slots=True)
class SuppressionPage:
    """Suppressed addresses, the latest first. `next_cursor` None: there are no more."""

    data: list[Suppression]
    next_cursor: str | None


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


def encode_call(job_type: str, params: dict[str, Any]) -> bytes:
    """RQ's `data` field: `[func_name, instance, args, kwargs]` as JSON.

    Not compressed: RQ 3.0 reads raw JSON too (`Job.restore`), and zlib would be the
    largest single cost of a submission.
    """
    return to_json([PERFORM, None, [job_type, params], {}])


def inflate(data: bytes) -> bytes:
    """RQ's data: zlib, or plain as our own submissions are. Raises ValueError beyond a bound."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, INFLATED_BYTES)
    except zlib.error:
        return data
    if inflater.unconsumed_tail:
        raise ValueError("the data is too large when inflated")
    return plain
