"""From what a client sent to a job on its way: all faults at once, nothing accepted by halves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from app.http.faults import Fault, InvalidRequestError
from app.http.refusals import NO_SENDER, refused_flat_job, refused_job, time_faults
from app.http.schemas import NO_OPTIONS, JobSubmission, NotifyOptions, Options
from app.queue.records.drafts import JobDraft
from app.queue.records.options import Concurrency, Notify
from app.queue.records.views import JobView
from jobs.catalog import Catalog, JobType, UnknownJobTypeError
from jobs.files import FileNeeds, NamesFiles

if TYPE_CHECKING:
    from app.settings import Settings

_EPOCH_YEAR = 1971
# Declared in jobs/notify.py.
NOTIFY = "email.notify"


@dataclass(frozen=True, slots=True)
class Terms:
    """What submissions are measured against: the job types, and what the settings decide."""

    catalog: Catalog
    sender: str | None
    retention_finished_seconds: int
    retention_failed_seconds: int

    @classmethod
    def of(cls, settings: Settings, catalog: Catalog) -> Terms:
        return cls(
            catalog=catalog,
            sender=settings.sender,
            retention_finished_seconds=settings.retention_finished_seconds,
            retention_failed_seconds=settings.retention_failed_seconds,
        )


# Not frozen: that would take longer than all else that is done with it.
@dataclass(slots=True)
class Origin:
    """Whose submission it is, of which request, and when it came."""

    key_name: str
    request_id: str
    at: datetime
    # False: `depends_on` may name only what the same key submitted.
    sees_all: bool = True
    # With an idempotency key it may be a request of long ago once more: what has passed since
    # is judged by Redis, which knows.
    may_repeat: bool = False


def draft_job(body: Any, terms: Terms, origin: Origin) -> JobDraft:
    """A job from `{type, params, options}`. Raises InvalidRequestError with all faults."""
    try:
        submission = JobSubmission.model_validate(body)
        job_type = terms.catalog.get(submission.type)
        params = _validate_params(job_type, submission.params, terms)
        draft = _draft(job_type, params, submission.options, terms, origin)
        draft.params_pointer = "/params"
        return draft
    except (ValidationError, UnknownJobTypeError, InvalidRequestError):
        raise refused_job(body, terms, origin.at) from None


def draft_flat_job(job_type: JobType, body: Any, terms: Terms, origin: Origin) -> JobDraft:
    """A job of a known type from its params with `options` among them."""
    if not isinstance(body, dict):
        raise InvalidRequestError([Fault("", "must be an object")])
    raw = {name: value for name, value in body.items() if name != "options"}
    try:
        options = Options.model_validate(body["options"]) if "options" in body else NO_OPTIONS
        params = _validate_params(job_type, raw, terms)
        return _draft(job_type, params, options, terms, origin)
    except (ValidationError, InvalidRequestError):
        raise refused_flat_job(job_type, body, terms, origin.at) from None


def view_of(draft: JobDraft) -> JobView:
    """A job as it stands when Redis has just acknowledged it."""
    return JobView(
        id=draft.id,
        type=draft.type,
        queue=draft.queue,
        priority=draft.priority,
        status=draft.status,
        attempt=0,
        max_attempts=draft.max_attempts,
        created_at=draft.created_at,
        enqueued_at=draft.enqueued_at,
        scheduled_at=draft.scheduled_at,
        ended_at=draft.created_at if draft.status == "canceled" else None,
        expires_at=draft.expires_at,
        reason=draft.reason,
        parent_ids=draft.depends_on,
        batch_id=draft.batch_id,
        tags=draft.tags,
        request_id=draft.request_id,
        submitted_by=draft.submitted_by,
        retention_seconds=draft.retention_seconds,
        notify=draft.notify,
    )


def _draft(
    job_type: JobType, params: BaseModel, options: Options, terms: Terms, origin: Origin
) -> JobDraft:
    if options.scheduled_at is not None or options.expires_at is not None:
        _check_times(options, origin)
    backoff = job_type.backoff
    concurrency = options.concurrency
    files = params.file_needs() if isinstance(params, NamesFiles) else None
    draft = JobDraft(
        type=job_type.name,
        params=params.model_dump(mode="json", by_alias=True, exclude_none=True),
        queue=job_type.queue,
        max_attempts=(
            options.max_attempts if options.max_attempts is not None else job_type.max_attempts
        ),
        backoff=options.backoff.over(backoff) if options.backoff is not None else backoff,
        timeout_seconds=(
            options.timeout if options.timeout is not None else job_type.timeout_seconds
        ),
        retention_seconds=(
            math.ceil(options.retention)
            if options.retention is not None
            else terms.retention_finished_seconds
        ),
        failure_retention_seconds=terms.retention_failed_seconds,
        created_at=origin.at,
        priority=options.priority if options.priority is not None else "default",
        scheduled_at=_start(options.scheduled_at, origin),
        delay_seconds=options.delay if options.delay else None,
        expires_at=_expiry(options.expires_at) if options.expires_at is not None else None,
        depends_on=_parents(options, files),
        allow_failure=options.allow_failure is True,
        concurrency=(
            Concurrency(concurrency.key, concurrency.limit) if concurrency is not None else None
        ),
        tags=dict(options.tags) if options.tags else {},
        dry_run=options.dry_run is True,
        request_id=origin.request_id,
        submitted_by=origin.key_name,
        sees_all=origin.sees_all,
        files=files,
    )
    if options.notify is not None:
        _add_notify(draft, options.notify, terms)
    return draft


def _add_notify(draft: JobDraft, wanted: NotifyOptions, terms: Terms) -> None:
    """The job that will be made of the outcome. Raises InvalidRequestError: no one can send it."""
    if terms.sender is None:
        raise InvalidRequestError([Fault("/options/notify", NO_SENDER)])
    job_type = terms.catalog.get(NOTIFY, internal=True)
    draft.notify = Notify(wanted.email, list(dict.fromkeys(wanted.on)), wanted.locale)
    draft.notifying = JobDraft(
        type=job_type.name,
        params={
            "from": terms.sender,
            "to": wanted.email,
            "locale": wanted.locale,
            "job_id": draft.id,
            "job_type": draft.type,
        },
        queue=job_type.queue,
        max_attempts=job_type.max_attempts,
        backoff=job_type.backoff,
        timeout_seconds=job_type.timeout_seconds,
        retention_seconds=terms.retention_finished_seconds,
        failure_retention_seconds=terms.retention_failed_seconds,
        dry_run=draft.dry_run,
        request_id=draft.request_id,
        submitted_by=draft.submitted_by,
    )


def _parents(options: Options, files: FileNeeds | None) -> list[str]:
    """Those that the options name, and those whose artifacts the params name."""
    parents = dict.fromkeys(options.depends_on or ())
    if files is not None:
        parents |= dict.fromkeys(each.job_id for each in files.named if each.job_id is not None)
    return list(parents)


def parent_pointer(draft: JobDraft, job_id: str, options: Any) -> str:
    """Where in the job's body this parent is named; `options` as the client sent them."""
    given = (options or {}).get("depends_on") or []
    if job_id in given:
        return f"/options/depends_on/{given.index(job_id)}"
    named = draft.files.named if draft.files is not None else []
    place = next(each.place for each in named if each.job_id == job_id)
    return pointer_of(draft, place, "job_id")


def pointer_of(draft: JobDraft, place: Sequence[str | int], field: str = "") -> str:
    """A place in the params, in the job's body."""
    parts = [*map(str, place), *([field] if field else [])]
    return draft.params_pointer + "".join(f"/{part}" for part in parts)


def _check_times(options: Options, origin: Origin) -> None:
    faults = time_faults(options, origin.at, may_repeat=origin.may_repeat)
    if faults:
        raise InvalidRequestError(faults)


def _start(at: datetime | None, origin: Origin) -> datetime | None:
    """When to run; None, which a time in the past means too: at once.

    A repeated request shows the time that it gave, as the first answer did.
    """
    if at is None or at.year < _EPOCH_YEAR or (at <= origin.at and not origin.may_repeat):
        return None
    return at.astimezone(UTC)


def _expiry(at: datetime) -> datetime:
    """To the millisecond, as it is kept."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _validate_params(job_type: JobType, raw: dict[str, Any], terms: Terms) -> BaseModel:
    return job_type.params.model_validate(raw, context={"sender": terms.sender})
