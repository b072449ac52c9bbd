"""The wire format of what goes out: jobs, batches, job types, and what operators look at.

Commands show the same: nothing here loads more than the records.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.queue.records.failed import FailureGroup, OperationView
    from app.queue.records.options import Concurrency, Notify
    from app.queue.records.views import Attempt, BatchView, Event, JobError, JobView
    from app.schedule import ScheduleView
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


def show_group(group: FailureGroup) -> dict[str, object]:
    """A group as the API shows it."""
    return {
        "fingerprint": group.fingerprint,
        "state": "regressed" if group.is_regressed else "open",
        "count": group.count,
        "type": group.type,
        "queue": group.queue,
        "error": {"class": group.error_class, "message": group.message},
        "first_seen": group.first_seen,
        "last_seen": group.last_seen,
        "trend": group.trend,
        "samples": group.samples,
    }


def operation_path(view: OperationView) -> str:
    return f"/v1/operations/{view.id}"


def show_operation(view: OperationView, warnings: list[str]) -> dict[str, object]:
    """An operation as the API shows it."""
    path = operation_path(view)
    return {
        "id": view.id,
        "action": view.action,
        "state": view.state,
        "filter": view.filter,
        "total": view.total,
        "done": view.done,
        "failed": view.failed,
        "skipped": view.skipped,
        "stopped_by": view.stopped_by,
        "pace": view.pace,
        "canary": view.canary,
        "waits_for": view.waits_for,
        "created_by": view.created_by,
        "created_at": view.created_at,
        "finished_at": view.finished_at,
        "warnings": warnings,
        "links": {
            "self": path,
            "pause": f"{path}/pause",
            "resume": f"{path}/resume",
            "stop": f"{path}/stop",
        },
    }


def show_schedule(view: ScheduleView, warnings: list[str]) -> dict[str, object]:
    """A schedule as the API shows it."""
    schedule, skip = view.schedule, view.last_skip
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "interval": None if schedule.interval_ms is None else schedule.interval_ms / 1000,
        "time_zone": schedule.time_zone,
        "job": schedule.job,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "source": view.source,
        "created_by": view.created_by,
        "created_at": view.created_at,
        "updated_at": view.updated_at,
        "next_runs": view.next_runs,
        "last_runs": view.last_runs,
        "last_skip": None if skip is None else {"at": skip.at, "reason": skip.reason},
        "warnings": warnings,
        "links": {"self": schedule.path, "jobs": schedule.jobs_path},
    }
