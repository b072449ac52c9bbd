"""What the HTTP side asks of the queue side, so that neither imports the other's library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

from app.queue.figures import Depths, Emptied, Measures, Minute, QueueFigures, WorkerFigures
from app.queue.records.acts import ActPage
from app.queue.records.drafts import (
    Allowance,
    Edit,
    Idempotency,
    JobDraft,
    KeptAnswer,
    Replay,
    Upload,
)
from app.queue.records.failed import (
    FailureFilter,
    FailureGroup,
    FailurePage,
    OperationPage,
    OperationView,
    Order,
    Selection,
)
from app.queue.records.suppressed import Suppression, SuppressionPage
from app.queue.records.views import BatchView, Event, JobFilter, JobView, Page
from app.schedule import Schedule, SchedulePage, ScheduleView


class Submitter(Protocol):
    """Takes jobs. The real one is `app.queue.submitting.Submitter`."""

    async def submit(
        self, draft: JobDraft, idempotency: Idempotency | None = None
    ) -> Replay | None:
        """Return when Redis has acknowledged the job, never earlier.

        Not None: the key was used before for the same request, and the draft is now the
        first job as it was then. Raises QueueUnavailableError, IdempotencyMismatchError,
        UnknownParentError, ExpiredError.
        """
        ...

    def begin(self, draft: JobDraft, done: Callable[[BaseException | None], None]) -> None:
        """`submit` of a draft without an idempotency key, for who does not wait in a coroutine.

        `done` is called once Redis has acknowledged the job, or with what `submit` would have
        raised. If `begin` itself raises, nothing was submitted.
        """
        ...

    async def submit_batch(
        self,
        batch_id: str,
        drafts: Sequence[JobDraft],
        idempotency: Idempotency | None = None,
        places: Sequence[int] | None = None,
    ) -> Replay | None:
        """Accept all of 1 to 1,000 drafts, of one key, as one whole, or none.

        Each draft's `batch_id` is set. `places`: where in the request they stood, if some of
        it is left out. None: accepted. Else the key was used before for the same request.
        Raises as `submit` does, QueueFullError and IdempotencyPendingError.
        """
        ...

    async def recall(
        self, by: str, idempotency: Idempotency, draft: JobDraft | None = None
    ) -> Replay | None:
        """What became of the same request of this key when it came first; None: it has not yet.

        A draft is then the first job as it was. Raises as `submit_batch` does.
        """
        ...

    async def keep_answer(self, idempotency: Idempotency, by: str, answer: KeptAnswer) -> None:
        """What the first request was answered, for its replays. Raises nothing."""
        ...


class Reader(Protocol):
    """Tells how things stand. The real one is `app.queue.views.Views`.

    Every method raises QueueUnavailableError when Redis cannot be asked.
    """

    async def job(self, job_id: str) -> JobView | None: ...

    async def jobs(self, wanted: JobFilter, limit: int, cursor: str | None) -> Page:
        """A page, newest first; may be short and go on. Raises BadCursorError."""
        ...

    async def batch(self, batch_id: str) -> BatchView | None: ...

    async def trail(self, job_id: str) -> list[Event] | None:
        """The job's events so far, oldest first; None when there is no such job."""
        ...

    async def readiness(self, queues: list[str]) -> list[str]:
        """Why the service is not ready, in words; empty when it is."""
        ...

    async def session_secret(self) -> bytes:
        """The key that signs sessions: made once, the same for every web process."""
        ...

    def known_warnings(self, queue: str) -> list[str] | None:
        """What `warnings` would answer at once; None when it would have to look."""
        ...

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of a queue's capacity. Cached: cheap enough for a POST."""
        ...


class Control(Protocol):
    """Acts on jobs and queues. The real one is `app.queue.control.Control`.

    `by` is the acting key's name, for the trail.
    """

    async def cancel(self, job_id: str, by: str) -> Literal["canceled", "stopping"]:
        """Cancel before it runs; ask to stop while it does. Raises JobNotFoundError,
        JobEndedError."""
        ...

    async def retry(self, job_id: str, by: str, edit: Edit | None = None) -> None:
        """Run a failed or stopped job again. Raises JobNotFoundError, JobNotFailedError,
        QueueFullError; of what it is to wait for, UnknownParentError, FailedParentError."""
        ...

    async def delete(self, job_id: str, by: str) -> None:
        """Remove an ended job. Raises JobNotFoundError, JobNotEndedError."""
        ...

    async def pause(self, queue: str, by: str) -> None:
        """Workers claim nothing more from the queue, in any of its priorities."""
        ...

    async def resume(self, queue: str, by: str) -> None: ...

    async def paused_queues(self) -> list[str]: ...

    def empty(self, queue: str, by: str) -> AsyncIterator[Emptied]:
        """Cancel what waits in the queue as this begins, in pieces: how far it is, after each."""
        ...


class Figures(Protocol):
    """How queues and workers stand, in numbers. `app.queue.overview.Overview`.

    Every method raises QueueUnavailableError when Redis cannot be asked.
    """

    async def queues(self) -> list[QueueFigures]:
        """All that there are, in order of name."""
        ...

    async def queue(self, name: str) -> QueueFigures | None: ...

    async def minutes(self, name: str) -> list[Minute]:
        """The last hour of a queue, oldest first."""
        ...

    async def hour(self) -> list[Depths]:
        """What waited in the last hour, about once a minute, oldest first."""
        ...

    async def workers(self) -> list[WorkerFigures]:
        """Those that have not said good-bye, in order of name."""
        ...

    async def measures(self, types: Collection[str]) -> Measures:
        """All that is measured; of other types than these together."""
        ...


class Watcher(Protocol):
    """Hears of events as they happen, over one subscription of the process.

    The real one is `app.queue.events.Watcher`.
    """

    def events(self, job_id: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Inside the block, events from now on; read the trail inside it, too, to miss none.

        The iterator ends when the subscription is lost; then the trail has to be read again.
        """
        ...

    def ended(self, job_ids: Iterable[str]) -> AbstractAsyncContextManager[Waiting]:
        """Listen for these jobs' ends, before they are submitted or looked at."""
        ...


class Waiting(Protocol):
    """Who waits for jobs to end."""

    async def wait(self, seconds: float) -> bool:
        """True once all have ended since the block began; false when the time is up."""
        ...

    def settle(self, job_id: str) -> None:
        """This one has ended, as somebody who looked has seen."""
        ...


class UploadRecords(Protocol):
    """What is known of uploads. The real one is `app.queue.uploads.UploadRecords`.

    Every method raises QueueUnavailableError when Redis cannot be asked.
    """

    async def check(self) -> None:
        """Return when a record could be added now."""
        ...

    async def add(self, upload: Upload) -> None:
        """Return when Redis has acknowledged it."""
        ...

    async def get(self, upload_id: str) -> Upload | None:
        """The record, expired or not."""
        ...

    async def remove(self, upload_id: str) -> None: ...

    async def hold(self, holds: Sequence[tuple[str, str]], now: datetime) -> None:
        """Upload and job: keep the one until the other is done. Said before it is submitted."""
        ...

    async def retire(self, upload_id: str, now: datetime) -> bool:
        """True: jobs still need it, so it is only hidden, and goes when they are done."""
        ...


class SuppressionRecords(Protocol):
    """Addresses that were refused for good. `app.queue.suppressions.SuppressionList`.

    Every method raises QueueUnavailableError when Redis cannot be asked.
    """

    async def page(self, limit: int, cursor: str | None) -> SuppressionPage:
        """The latest first. Raises BadCursorError."""
        ...

    async def find(self, address: str) -> Suppression | None: ...

    async def remove(self, address: str, by: str) -> bool:
        """False: it was not there. `by` is the acting key's name."""
        ...


class FailureRecords(Protocol):
    """Failed jobs by cause. `app.queue.failures.FailureGroups`. Raises QueueUnavailableError."""

    async def page(self, limit: int, cursor: str | None) -> FailurePage:
        """That which failed last first. Raises BadCursorError."""
        ...

    async def group(self, fingerprint: str) -> FailureGroup | None: ...


class OperationRecords(Protocol):
    """Acting on many failed jobs. `app.queue.operations.Operations`.

    Every method raises QueueUnavailableError; `by` is the acting key's name.
    """

    async def select(self, wanted: FailureFilter) -> Selection:
        """The failed jobs that fit now, under a name that is good for a while."""
        ...

    async def count(self, wanted: FailureFilter) -> int:
        """How many failed jobs fit now."""
        ...

    async def start(
        self, chosen: str | FailureFilter, order: Order, by: str, request_id: str
    ) -> OperationView:
        """Begin with a selection, or with what fits a filter now. Raises SelectionNotFoundError."""
        ...

    async def page(self, limit: int, cursor: str | None) -> OperationPage:
        """The newest first. Raises BadCursorError."""
        ...

    async def view(self, operation_id: str) -> OperationView:
        """Raises OperationNotFoundError."""
        ...

    async def act(
        self, operation_id: str, act: Literal["pause", "resume", "stop"], by: str
    ) -> OperationView:
        """Raises OperationNotFoundError, OperationEndedError."""
        ...


class ScheduleRecords(Protocol):
    """What runs again and again. `app.queue.schedules.Schedules`.

    Every method raises QueueUnavailableError; `by` is the acting key's name.
    """

    async def page(self, limit: int, cursor: str | None) -> SchedulePage:
        """In order of name. Raises BadCursorError."""
        ...

    async def view(self, name: str) -> ScheduleView:
        """Raises ScheduleNotFoundError."""
        ...

    async def create(self, schedule: Schedule, by: str, request_id: str) -> ScheduleView:
        """Raises ScheduleExistsError, TooManySchedulesError."""
        ...

    async def replace(
        self, schedule: Schedule, by: str, request_id: str
    ) -> tuple[ScheduleView, bool]:
        """True: there was none. Raises ScheduleFromFileError, TooManySchedulesError."""
        ...

    async def delete(self, name: str, by: str) -> None:
        """Raises ScheduleNotFoundError, ScheduleFromFileError."""
        ...


class AuditRecords(Protocol):
    """Who did what. `app.queue.audit.AuditTrail`. Raises QueueUnavailableError."""

    async def page(self, limit: int, cursor: str | None) -> ActPage:
        """The latest first. Raises BadCursorError."""
        ...


class RateLimiter(Protocol):
    """Counts requests of a key over all web processes. `app.queue.rates.RateLimiter`."""

    async def take(self, key_name: str) -> Allowance:
        """Count one request. Raises QueueUnavailableError."""
        ...
