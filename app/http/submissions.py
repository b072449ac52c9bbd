"""From what a client sent to a job on its way: all faults at once, nothing accepted by halves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from app.http.faults import Fault, InvalidRequestError
from app.http.schemas import NO_OPTIONS, YEAR_SECONDS, JobSubmission, Options, faults_of
from app.queue.records import JobDraft, JobView
from jobs.catalog import Catalog, JobType, UnknownJobTypeError


@dataclass(frozen=True, slots=True)
class Terms:
    """What submissions are measured against: the job types, and what the settings decide."""

    catalog: Catalog
    sender: str | None
    retention_finished_seconds: int
    retention_failed_seconds: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose submission it is, of which request, and when it came."""

    key_name: str
    request_id: str
    at: datetime


def draft_job(body: Any, terms: Terms, origin: Origin) -> JobDraft:
    """A job from `{type, params, options}`. Raises InvalidRequestError."""
    try:
        submission = JobSubmission.model_validate(body)
    except ValidationError as error:
        faults = faults_of(error, body) + _faults_of_params(body, terms)
        raise InvalidRequestError(faults) from None
    try:
        job_type = terms.catalog.get(submission.type)
    except UnknownJobTypeError:
        raise InvalidRequestError([_unknown_type()]) from None
    try:
        params = _validate_params(job_type, submission.params, terms)
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error, submission.params, "/params")) from None
    return _draft(job_type, params, submission.options, terms, origin)


def draft_flat_job(job_type: JobType, body: Any, terms: Terms, origin: Origin) -> JobDraft:
    """A job of a known type from its params with `options` among them."""
    if not isinstance(body, dict):
        raise InvalidRequestError([Fault("", "must be an object")])
    raw = {name: value for name, value in body.items() if name != "options"}
    faults: list[Fault] = []
    options = NO_OPTIONS
    try:
        if "options" in body:
            options = Options.model_validate(body["options"])
    except ValidationError as error:
        faults += faults_of(error, body["options"], "/options")
    try:
        params = _validate_params(job_type, raw, terms)
    except ValidationError as error:
        faults += faults_of(error, raw)
    if faults:
        raise InvalidRequestError(faults)
    return _draft(job_type, params, options, terms, origin)


def view_of(draft: JobDraft) -> JobView:
    """A job as it stands when Redis has just acknowledged it."""
    return JobView(
        id=draft.id,
        type=draft.type,
        queue=draft.queue,
        priority=draft.priority,
        status="scheduled" if draft.scheduled_at is not None else "queued",
        attempt=0,
        max_attempts=draft.max_attempts,
        created_at=draft.created_at,
        enqueued_at=draft.enqueued_at,
        scheduled_at=draft.scheduled_at,
        request_id=draft.request_id,
        submitted_by=draft.submitted_by,
    )


def _draft(
    job_type: JobType, params: BaseModel, options: Options, terms: Terms, origin: Origin
) -> JobDraft:
    backoff = job_type.backoff
    return JobDraft(
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
        scheduled_at=_start(options.scheduled_at, origin.at),
        delay_seconds=options.delay if options.delay else None,
        dry_run=options.dry_run is True,
        request_id=origin.request_id,
        submitted_by=origin.key_name,
    )


def _start(at: datetime | None, now: datetime) -> datetime | None:
    """When to run; None: at once, which a time in the past means too."""
    if at is None or at <= now:
        return None
    if at - now > timedelta(seconds=YEAR_SECONDS):
        fault = Fault("/options/scheduled_at", "must be at most 1 year ahead")
        raise InvalidRequestError([fault])
    return at.astimezone(UTC)


def _validate_params(job_type: JobType, raw: dict[str, Any], terms: Terms) -> BaseModel:
    return job_type.params.model_validate(raw, context={"sender": terms.sender})


def _unknown_type() -> Fault:
    return Fault("/type", "there is no such job type; GET /v1/job-types lists them")


def _faults_of_params(body: Any, terms: Terms) -> list[Fault]:
    """What else is wrong, when the envelope is: the client gets to know all of it at once."""
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        return []
    if body["type"] not in terms.catalog:
        return [_unknown_type()]
    params = body.get("params", {})
    if not isinstance(params, dict):
        return []
    try:
        _validate_params(terms.catalog.get(body["type"]), params, terms)
    except ValidationError as error:
        return faults_of(error, params, "/params")
    return []
