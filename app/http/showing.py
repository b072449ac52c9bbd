"""The wire format of what goes out: how jobs, batches, events and job types are shown."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from app.http.answers import render
from app.http.submissions import view_of
from app.queue.records import (
    Attempt,
    BatchView,
    Concurrency,
    Event,
    JobDraft,
    JobError,
    JobView,
    Notify,
    Priority,
)
from jobs.catalog import Backoff, JobType

NO_LINK = "PUBLIC_URL is not set: a result that is too large to be attached is not linked"


def show_job(view: JobView, warnings: list[str], include: Collection[str] = ()) -> dict[str, Any]:
    """A job as the API shows it. Every field is there, null or empty where nothing is known."""
    path = f"/v1/jobs/{view.id}"
    told = warnings
    if view.notify is not None and not view.notify.has_link:
        told = [*warnings, NO_LINK]
    shown: dict[str, Any] = {
        "id": view.id,
        "type": view.type,
        "queue": view.queue,
        "status": view.status,
        "priority": view.priority,
        "attempt": view.attempt,
        "max_attempts": view.max_attempts,
        "created_at": view.created_at,
        "scheduled_at": view.scheduled_at,
        "enqueued_at": view.enqueued_at,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
        "expires_at": view.expires_at,
        "next_attempt_at": view.next_attempt_at,
        "position": view.position,
        # A warning is that nobody takes jobs of this queue now: then the last minutes tell nothing.
        "eta_seconds": view.eta_seconds if not warnings else None,
        "progress": view.progress,
        "result": view.result,
        "artifacts": [_show_artifact(path, each) for each in view.artifacts],
        "error": show_error(view.error),
        "attempts": [_show_attempt(attempt) for attempt in view.attempts],
        "reason": view.reason,
        "batch_id": view.batch_id,
        "parent_ids": view.parent_ids,
        "tags": view.tags,
        "request_id": view.request_id,
        "submitted_by": view.submitted_by,
        "warnings": told,
        "links": {
            "self": path,
            "events": f"{path}/events",
            "cancel": f"{path}/cancel",
            "retry": f"{path}/retry",
        },
    }
    if include:
        shown |= _show_included(view, include)
    return shown


def render_accepted(draft: JobDraft, warnings: list[str]) -> bytes:
    """The JSON of a job that Redis has just acknowledged, as `show_job` would show it.

    Nearly all that is said of a job that waits for nothing is the same for each of its type: it
    is written once, and filled in (measured: a sixth of the cost of writing it anew).
    """
    at = draft.created_at
    if not (draft.is_plain and at == draft.enqueued_at):
        return render(show_job(view_of(draft), warnings))
    known = _Known(
        draft.type, draft.queue, draft.priority, draft.max_attempts, draft.submitted_by,
        tuple(warnings),
    )  # fmt: skip
    form = _form(known)
    return form % {
        b"id": draft.id.encode(),
        b"request": (draft.request_id or "").encode(),
        b"at": f"{at.isoformat()[:-6]}Z".encode(),
    }


# Where the job's own goes in a form. No name or warning has a NUL in it.
_ID, _REQUEST_ID, _AT = "\0id\0", "\0request\0", "\0at\0"
_OWN = re.compile(rb"\\u0000(id|request|at)\\u0000")
_EPOCH = datetime.fromtimestamp(0, UTC)


class _Known(NamedTuple):
    """What many jobs have in common when they are acknowledged."""

    job_type: str
    queue: str
    priority: Priority
    max_attempts: int
    submitted_by: str | None
    warnings: tuple[str, ...]


@lru_cache(maxsize=256)
def _form(known: _Known) -> bytes:
    view = JobView(
        id=_ID, type=known.job_type, queue=known.queue, priority=known.priority,
        status="queued", attempt=0, max_attempts=known.max_attempts, created_at=_EPOCH,
        enqueued_at=_EPOCH, request_id=_REQUEST_ID, submitted_by=known.submitted_by,
    )  # fmt: skip
    at = {"created_at": _AT, "enqueued_at": _AT}
    form = render(show_job(view, list(known.warnings)) | at).replace(b"%", b"%%")
    return _OWN.sub(rb"%(\1)b", form)


def _show_artifact(path: str, artifact: dict[str, Any]) -> dict[str, Any]:
    shown = {name: artifact[name] for name in ("name", "size", "content_type", "sha256")}
    return shown | {"href": f"{path}/artifacts/{artifact['name']}"}


def _show_included(view: JobView, include: Collection[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if "params" in include:
        shown["params"] = view.params
    if "options" in include:
        shown["options"] = show_options(view)
    if "traceback" in include:
        shown["traceback"] = view.traceback
    return shown


def show_options(view: JobView) -> dict[str, Any]:
    """How the job is run, under the names of a submission's options."""
    return {
        "scheduled_at": view.scheduled_at,
        "expires_at": view.expires_at,
        "priority": view.priority,
        "max_attempts": view.max_attempts,
        "backoff": _show_backoff(view.backoff) if view.backoff is not None else None,
        "timeout": view.timeout_seconds,
        "retention": view.retention_seconds,
        "dry_run": view.dry_run,
        "depends_on": view.parent_ids,
        "allow_failure": view.allow_failure,
        "concurrency": _show_concurrency(view.concurrency),
        "notify": _show_notify(view.notify),
        "tags": view.tags,
    }


def _show_concurrency(concurrency: Concurrency | None) -> dict[str, Any] | None:
    return None if concurrency is None else {"key": concurrency.key, "limit": concurrency.limit}


def _show_notify(notify: Notify | None) -> dict[str, Any] | None:
    if notify is None:
        return None
    return {"email": notify.emails, "on": notify.on, "locale": notify.locale}


def show_batch(view: BatchView) -> dict[str, Any]:
    """A batch as the API shows it, with the first ten of its jobs that failed."""
    return {
        "id": view.id,
        "size": view.size,
        "counts": {status: count for status, count in view.counts.items() if count},
        "failures": [show_job(failed, []) for failed in view.failures],
        "created_at": view.created_at,
        "finished_at": view.finished_at,
        "submitted_by": view.submitted_by,
        "job_ids": view.job_ids,
        "links": {"self": f"/v1/batches/{view.id}", "jobs": f"/v1/jobs?batch_id={view.id}"},
    }


def show_event(event: Event) -> dict[str, Any]:
    """A line of a job's trail."""
    return {"id": event.id, "event": event.name, "at": event.at, "detail": event.detail}


def show_error(error: JobError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "class": error.error_class,
        "retryable": error.retryable,
        "fingerprint": error.fingerprint,
    }


def _show_attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "worker": attempt.worker,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "error": show_error(attempt.error),
    }


def show_job_type(job_type: JobType) -> dict[str, Any]:
    """A job type with its defaults and the JSON Schema of its params."""
    return {
        "name": job_type.name,
        "description": job_type.description,
        "queue": job_type.queue,
        "max_attempts": job_type.max_attempts,
        "timeout": job_type.timeout_seconds,
        "backoff": _show_backoff(job_type.backoff),
        "params": job_type.params.model_json_schema(),
    }


def _show_backoff(backoff: Backoff) -> dict[str, float]:
    return {
        "initial": backoff.initial,
        "factor": backoff.factor,
        "max": backoff.maximum,
        "jitter": backoff.jitter,
    }
