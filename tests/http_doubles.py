"""A queue side in memory that keeps to `app.http.ports`, and clients for the application."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx2
from starlette.applications import Starlette

from app.http.assembly import Parts, create_app
from app.http.events import PING_SECONDS
from app.http.submissions import view_of
from app.http.waiting import ENDED, Closing
from app.keyring import ApiKey
from app.queue.errors import (
    BadCursorError,
    IdempotencyMismatchError,
    IdempotencyPendingError,
    JobEndedError,
    JobNotEndedError,
    JobNotFailedError,
    JobNotFoundError,
    QueueUnavailableError,
    UnknownParentError,
)
from app.queue.figures import Emptied
from app.queue.records.drafts import Allowance, Edit, Idempotency, JobDraft, KeptAnswer, Replay
from app.queue.records.names import Status
from app.queue.records.views import BatchView, Event, JobFilter, JobView, Page
from app.settings import Settings
from app.storage import Storage
from jobs.catalog import Catalog
from jobs.catalog import load as load_catalog
from tests.figure_doubles import MemoryFigures
from tests.file_doubles import (
    MemoryUploads,
    NoActs,
    NoFailures,
    NoOperations,
    NoSchedules,
    NoStorage,
    NoSuppressed,
)

HOST = "http://localhost"
Heard = asyncio.Queue[Event | None]


@dataclass
class MemoryQueue:
    """Every port in one: what is submitted can be looked at, and is ended by the test."""

    drafts: list[JobDraft] = field(default_factory=list)
    views: dict[str, JobView] = field(default_factory=dict)
    trails: dict[str, list[Event]] = field(default_factory=dict)
    batches: dict[str, BatchView] = field(default_factory=dict)
    unavailable: str | None = None
    # Only submissions are refused: a queue is as deep as it may become.
    full: str | None = None
    not_ready: list[str] = field(default_factory=list)
    capacity_warnings: list[str] = field(default_factory=list)
    failure: Exception | None = None
    paused: set[str] = field(default_factory=set)
    acts: list[tuple[str, str, str]] = field(default_factory=list)
    filters: list[tuple[JobFilter, int, str | None]] = field(default_factory=list)
    pending_keys: set[str] = field(default_factory=set)
    allowances: list[Allowance] = field(default_factory=list)
    listeners: dict[str, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    # Runs when a job has just been accepted, as fast as a worker could be.
    on_submit: Callable[[JobDraft], None] | None = None
    answers: dict[tuple[str, str], KeptAnswer] = field(default_factory=dict)
    _used: dict[tuple[str | None, str], tuple[str, JobDraft | str]] = field(default_factory=dict)

    async def submit(
        self, draft: JobDraft, idempotency: Idempotency | None = None
    ) -> Replay | None:
        self._check()
        if self.full is not None:
            raise QueueUnavailableError(self.full, retry_after_seconds=30)
        await asyncio.sleep(0)
        first = self._before([draft], idempotency)
        if isinstance(first, JobDraft):
            _become(draft, first)
            return Replay(first.id, self._answer(draft, idempotency))
        self._accept(draft)
        if idempotency is not None:
            self._used[draft.submitted_by, idempotency.key] = (idempotency.fingerprint, draft)
        return None

    def begin(self, draft: JobDraft, done: Callable[[BaseException | None], None]) -> None:
        def submitted(task: asyncio.Task[Any]) -> None:
            done(task.exception())

        asyncio.create_task(self.submit(draft)).add_done_callback(submitted)

    async def recall(
        self, by: str, idempotency: Idempotency, draft: JobDraft | None = None
    ) -> Replay | None:
        self._check()
        used = self._used.get((by, idempotency.key))
        if used is None:
            return None
        if used[0] != idempotency.fingerprint:
            raise IdempotencyMismatchError
        first = used[1]
        kept = self.answers.get((by, idempotency.key))
        if isinstance(first, str):
            return Replay(first, kept)
        if draft is not None:
            _become(draft, first)
        return Replay(first.id, kept)

    async def keep_answer(self, idempotency: Idempotency, by: str, answer: KeptAnswer) -> None:
        self.answers.setdefault((by, idempotency.key), answer)

    def _answer(self, draft: JobDraft, idempotency: Idempotency | None) -> KeptAnswer | None:
        assert idempotency is not None
        return self.answers.get((str(draft.submitted_by), idempotency.key))

    async def submit_batch(
        self,
        batch_id: str,
        drafts: Sequence[JobDraft],
        idempotency: Idempotency | None = None,
        places: Sequence[int] | None = None,
    ) -> Replay | None:
        self._check()
        if self.full is not None:
            raise QueueUnavailableError(self.full, retry_after_seconds=30)
        await asyncio.sleep(0)
        if idempotency is not None and idempotency.key in self.pending_keys:
            raise IdempotencyPendingError
        first = self._before(drafts, idempotency)
        if isinstance(first, str):
            return Replay(first, self._answer(drafts[0], idempotency))
        by = drafts[0].submitted_by
        for draft in drafts:
            assert (draft.batch_id, draft.submitted_by) == (batch_id, by)
            self._accept(draft)
        self.batches[batch_id] = BatchView(
            id=batch_id, size=len(drafts), job_ids=[draft.id for draft in drafts], counts={},
            failures=[], created_at=drafts[0].created_at, finished_at=None, submitted_by=by,
            places=None if places is None else list(places),
        )  # fmt: skip
        if idempotency is not None:
            self._used[by, idempotency.key] = (idempotency.fingerprint, batch_id)
        return None

    def _before(
        self, drafts: Sequence[JobDraft], idempotency: Idempotency | None
    ) -> JobDraft | str | None:
        if idempotency is not None:
            used = self._used.get((drafts[0].submitted_by, idempotency.key))
            if used is not None:
                if used[0] != idempotency.fingerprint:
                    raise IdempotencyMismatchError
                return used[1]
        for job_index, draft in enumerate(drafts):
            for parent_index, parent_id in enumerate(draft.depends_on):
                parent = self.views.get(parent_id)
                if parent is None or not (
                    draft.sees_all or parent.submitted_by == draft.submitted_by
                ):
                    raise UnknownParentError(job_index, parent_index)
        return None

    def _accept(self, draft: JobDraft) -> None:
        if draft.delay_seconds is not None:
            draft.scheduled_at = draft.created_at + timedelta(seconds=draft.delay_seconds)
        if draft.depends_on:
            draft.status = "deferred"
        elif draft.scheduled_at is not None and draft.scheduled_at > draft.created_at:
            draft.status = "scheduled"
        else:
            draft.enqueued_at = draft.created_at
        self.drafts.append(draft)
        view = view_of(draft)
        view.params, view.backoff, view.timeout_seconds = (
            draft.params, draft.backoff, draft.timeout_seconds,
        )  # fmt: skip
        view.dry_run, view.concurrency = draft.dry_run, draft.concurrency
        view.allow_failure = draft.allow_failure
        self.views[draft.id] = view
        self.happen(draft.id, view.status)
        if self.on_submit is not None:
            self.on_submit(draft)

    def happen(self, job_id: str, name: str, **detail: Any) -> Event:
        """Something that a trail keeps, and that listeners hear."""
        trail = self.trails.setdefault(job_id, [])
        event = Event(str(len(trail) + 1), name, datetime.now(UTC), detail)
        trail.append(event)
        self.tell(job_id, event)
        return event

    def tell(self, job_id: str, event: Event | None) -> None:
        """Only to listeners; None: the subscription is lost."""
        for heard in list(self.listeners[job_id]):
            heard.put_nowait(event)

    def end(self, job_id: str, status: Status = "finished", result: Any = None) -> None:
        """The job ends; with a retention of 0 it is gone at once."""
        view = self.views[job_id]
        view.status, view.result, view.ended_at = status, result, datetime.now(UTC)
        if view.retention_seconds == 0:
            del self.views[job_id]
        batch = self.batches.get(view.batch_id or "")
        if batch is not None and all(
            each not in self.views or self.views[each].status in ENDED for each in batch.job_ids
        ):
            batch.finished_at = view.ended_at
        self.happen(job_id, status, attempt=1)

    async def job(self, job_id: str) -> JobView | None:
        self._check()
        return self.views.get(job_id)

    async def jobs(self, wanted: JobFilter, limit: int, cursor: str | None) -> Page:
        self._check()
        self.filters.append((wanted, limit, cursor))
        if cursor is not None and not cursor.isdigit():
            raise BadCursorError
        start = int(cursor) if cursor is not None else 0
        found = [view for view in reversed(self.views.values()) if _fits(view, wanted)]
        page = found[start : start + limit]
        more = len(found) > start + limit
        return Page(page, str(start + limit) if more else None)

    async def batch(self, batch_id: str) -> BatchView | None:
        self._check()
        view = self.batches.get(batch_id)
        if view is not None:
            view.counts = defaultdict(int)
            for job_id in view.job_ids:
                view.counts[self.views[job_id].status] += 1
            jobs = [self.views[job_id] for job_id in view.job_ids]
            view.failures = [each for each in jobs if each.status == "failed"][:10]
        return view

    async def trail(self, job_id: str) -> list[Event] | None:
        self._check()
        return None if job_id not in self.views else [*self.trails.get(job_id, [])]

    async def readiness(self, queues: list[str]) -> list[str]:
        self._check()
        return [*self.not_ready]

    async def session_secret(self) -> bytes:
        self._check()
        return b"s" * 32

    def known_warnings(self, queue: str) -> list[str] | None:
        self._check()
        return [*self.capacity_warnings]

    async def warnings(self, queue: str) -> list[str]:
        self._check()
        return [*self.capacity_warnings]

    async def cancel(self, job_id: str, by: str) -> Literal["canceled", "stopping"]:
        self._check()
        view = self.views.get(job_id)
        if view is None:
            raise JobNotFoundError(job_id)
        if view.status in ENDED:
            raise JobEndedError(view.status)
        self.acts.append(("cancel", job_id, by))
        if view.status == "started":
            return "stopping"
        view.reason = "requested"
        self.end(job_id, "canceled")
        return "canceled"

    async def retry(self, job_id: str, by: str, edit: Edit | None = None) -> None:
        self._check()
        view = self.views.get(job_id)
        if view is None:
            raise JobNotFoundError(job_id)
        if view.status not in {"failed", "stopped"}:
            raise JobNotFailedError(view.status)
        self.acts.append(("retry", job_id, by))
        view.status = "queued"

    async def delete(self, job_id: str, by: str) -> None:
        self._check()
        view = self.views.get(job_id)
        if view is None:
            raise JobNotFoundError(job_id)
        if view.status not in ENDED:
            raise JobNotEndedError(view.status)
        self.acts.append(("delete", job_id, by))
        del self.views[job_id]

    async def pause(self, queue: str, by: str) -> None:
        self._check()
        self.acts.append(("pause", queue, by))
        self.paused.add(queue)

    async def resume(self, queue: str, by: str) -> None:
        self._check()
        self.acts.append(("resume", queue, by))
        self.paused.discard(queue)

    async def paused_queues(self) -> list[str]:
        return sorted(self.paused)

    async def empty(self, queue: str, by: str) -> AsyncIterator[Emptied]:
        self._check()
        self.acts.append(("empty", queue, by))
        waiting = [each.id for each in self.views.values() if each.status == "queued"]
        for job_id in waiting:
            self.end(job_id, "canceled")
        yield Emptied(len(waiting), is_complete=True)

    @asynccontextmanager
    async def events(self, job_id: str) -> AsyncIterator[AsyncIterator[Event]]:
        self._check()
        heard: Heard = asyncio.Queue()
        self.listeners[job_id].append(heard)
        try:
            yield _heard(heard)
        finally:
            self.listeners[job_id].remove(heard)

    @asynccontextmanager
    async def ended(self, job_ids: Iterable[str]) -> AsyncIterator[MemoryWaiting]:
        self._check()
        ids = list(job_ids)
        heard: Heard = asyncio.Queue()
        waiting = MemoryWaiting(set(ids), heard)
        for job_id in ids:
            self.listeners[job_id].append(heard)
        try:
            yield waiting
        finally:
            for job_id in ids:
                self.listeners[job_id].remove(heard)

    def is_watched(self, job_id: str) -> bool:
        return bool(self.listeners[job_id])

    async def take(self, key_name: str) -> Allowance:
        """As a rate limiter; the test says what is left."""
        self._check()
        return self.allowances.pop(0)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.unavailable is not None:
            raise QueueUnavailableError(self.unavailable, retry_after_seconds=7)


class MemoryWaiting:
    """Counts down as the events of ended jobs come; see `app.http.ports.Waiting`."""

    def __init__(self, left: set[str], heard: Heard) -> None:
        self._left = left
        self._heard = heard
        self._ended = 0

    async def wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._ended < len(self._left):
                    event = await self._heard.get()
                    if event is None:
                        return False
                    self._ended += event.is_last
        except TimeoutError:
            return False
        return True

    def settle(self, job_id: str) -> None:
        self._left.discard(job_id)


def _become(draft: JobDraft, first: JobDraft) -> None:
    draft.id, draft.request_id = first.id, first.request_id
    draft.created_at, draft.enqueued_at = first.created_at, first.enqueued_at
    draft.scheduled_at, draft.status = first.scheduled_at, first.status


async def _heard(heard: Heard) -> AsyncIterator[Event]:
    while (event := await heard.get()) is not None:
        yield event


def _fits(view: JobView, wanted: JobFilter) -> bool:
    return (
        (wanted.status is None or view.status == wanted.status)
        and (wanted.batch_id is None or view.batch_id == wanted.batch_id)
        and (wanted.submitted_by is None or view.submitted_by == wanted.submitted_by)
    )


def settings_with(keys: Iterable[ApiKey] = (), **values: Any) -> Settings:
    """Settings of a test, whatever the environment says."""
    return Settings(_env_file=None, api_keys=list(keys), **values)


def key(name: str, *scopes: Any) -> ApiKey:
    """A key whose secret is its name doubled."""
    return ApiKey(name, frozenset(scopes), hashlib.sha256(f"{name}{name}".encode()).hexdigest())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}{name}"}


def app_over(
    queue: MemoryQueue,
    settings: Settings | None = None,
    catalog: Catalog | None = None,
    *,
    storage: Storage | None = None,
    uploads: MemoryUploads | None = None,
    figures: MemoryFigures | None = None,
    closing: Closing | None = None,
    ping_seconds: float = PING_SECONDS,
) -> Starlette:
    """The application over the queue in memory; it limits rates when the settings do."""
    settings = settings if settings is not None else settings_with()
    return create_app(
        settings,
        Parts(
            transitions=queue,
            views=queue,
            control=queue,
            watcher=queue,
            limiter=queue if settings.rate is not None else None,
            catalog=catalog if catalog is not None else load_catalog(),
            storage=storage if storage is not None else NoStorage(),
            uploads=uploads if uploads is not None else MemoryUploads(),
            suppressions=NoSuppressed(),
            failures=NoFailures(),
            operations=NoOperations(),
            schedules=NoSchedules(),
            audit=NoActs(),
            figures=figures if figures is not None else MemoryFigures(),
            closing=closing if closing is not None else Closing(),
            ping_seconds=ping_seconds,
        ),
    )


Connect = Callable[..., httpx2.AsyncClient]


def connect(app: Starlette, **options: Any) -> httpx2.AsyncClient:
    """A client on this machine, unless `client` says otherwise."""
    peer = options.pop("client", ("127.0.0.1", 40000))
    base_url = options.pop("base_url", HOST)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=peer), base_url=base_url, **options
    )


async def until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Ask until true, while the application goes on; fail when time is up."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


class Exchange:
    """One request driven by hand: the client reads as the answer comes, and may leave."""

    def __init__(self, app: Starlette, method: str, path: str, **headers: str) -> None:
        path, _, query = path.partition("?")
        lines = {"host": "localhost", **headers}
        self._scope = {
            "type": "http", "client": ("127.0.0.1", 40000), "root_path": "", "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "method": method,
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in lines.items()
            ],
        }  # fmt: skip
        self._app = app
        self._coming: asyncio.Queue[Any] = asyncio.Queue()
        self._answer: asyncio.Queue[Any] = asyncio.Queue()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Exchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.task is not None:
            self.leave()
            await self.task

    def start(self, body: bytes = b"") -> Exchange:
        self._coming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.task = asyncio.create_task(self._app(self._scope, self._coming.get, self._answer.put))
        return self

    def leave(self) -> None:
        self._coming.put_nowait({"type": "http.disconnect"})

    async def read(self, *, to: bytes | None = None, seconds: float = 30.0) -> bytes:
        """What has come, until these bytes or the end of the answer."""
        async with asyncio.timeout(seconds):
            while to is None or to not in self.body:
                message = await self._answer.get()
                if message["type"] == "http.response.start":
                    self.status = message["status"]
                    self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                    continue
                self.body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
        return self.body
