"""The wire format, in and out: what a submission may say, and how a job is shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from app.http.faults import Fault
from app.queue.records import Attempt, JobError, JobView
from jobs.catalog import Backoff, JobType

DAY_SECONDS = 24 * 3600
YEAR_SECONDS = 365 * DAY_SECONDS
MAX_FAULTS = 50

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

# What pydantic says of these is about Python.
_WORDS = {
    "extra_forbidden": "there is no such field",
    "missing": "is needed",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _require_rfc3339(value: object) -> object:
    # pydantic would take numbers and dates too, and read them as the client did not mean.
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 time with its zone, like 2030-01-31T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_require_rfc3339, json_schema_input_type=str)]
Number = Annotated[float, Field(strict=True)]


class BackoffOptions(BaseModel):
    """Waiting before the next attempt; what is absent is the job type's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    initial: Annotated[Number | None, Field(ge=0, le=DAY_SECONDS)] = None
    factor: Annotated[Number | None, Field(ge=1, le=10)] = None
    max: Annotated[Number | None, Field(ge=0, le=DAY_SECONDS)] = None
    jitter: Annotated[Number | None, Field(ge=0, le=1)] = None

    def over(self, default: Backoff) -> Backoff:
        return Backoff(
            initial=self.initial if self.initial is not None else default.initial,
            factor=self.factor if self.factor is not None else default.factor,
            maximum=self.max if self.max is not None else default.maximum,
            jitter=self.jitter if self.jitter is not None else default.jitter,
        )


class Options(BaseModel):
    """How a job is run; null is the same as absent. Durations are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay: Annotated[Number | None, Field(ge=0, le=YEAR_SECONDS)] = None
    scheduled_at: Time | None = None
    priority: Literal["high", "default", "low"] | None = None
    max_attempts: Annotated[int | None, Field(strict=True, ge=1, le=25)] = None
    backoff: BackoffOptions | None = None
    timeout: Annotated[Number | None, Field(gt=0, le=DAY_SECONDS)] = None
    retention: Annotated[Number | None, Field(ge=0, le=30 * DAY_SECONDS)] = None
    dry_run: Annotated[bool | None, Field(strict=True)] = None

    @model_validator(mode="after")
    def _check_start(self) -> Options:
        if self.delay is not None and self.scheduled_at is not None:
            raise ValueError("delay and scheduled_at exclude each other")
        return self


NO_OPTIONS = Options()


class JobSubmission(BaseModel):
    """The body of POST /v1/jobs."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(strict=True)]
    params: dict[str, Any] = {}
    options: Options = NO_OPTIONS


def faults_of(error: ValidationError, raw: object, base: str = "") -> list[Fault]:
    """A validation error as pointers into what the client sent; never its values.

    `base` is the pointer of `raw` in the body.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Fault(
            base + _pointer(fault["loc"], raw),
            _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, ")[:300]),
        )
        for fault in found[:MAX_FAULTS]
    ]


def _pointer(location: Sequence[int | str], raw: Any) -> str:
    """RFC 6901. pydantic also names variants of a union, which are no places in the body."""
    pointer = ""
    for index, part in enumerate(location):
        found = _child(raw, part)
        is_absent_field = isinstance(raw, dict) and index == len(location) - 1
        if found:
            raw = found[0]
        elif not (is_absent_field and _FIELD.fullmatch(str(part))):
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _child(raw: Any, part: int | str) -> list[Any]:
    """What stands there, as a list of one; empty when nothing does."""
    if isinstance(raw, list) and isinstance(part, int):
        return raw[part : part + 1]
    if isinstance(raw, dict) and part in raw:
        return [raw[part]]
    return []


def show_job(view: JobView, warnings: list[str], include: Collection[str] = ()) -> dict[str, Any]:
    """A job as the API shows it. Every field is there, null or empty where nothing is known."""
    path = f"/v1/jobs/{view.id}"
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
        "position": None,
        "eta_seconds": None,
        "progress": None,
        "result": view.result,
        "artifacts": [_show_artifact(path, each) for each in view.artifacts],
        "error": show_error(view.error),
        "attempts": [_show_attempt(attempt) for attempt in view.attempts],
        "reason": view.reason,
        "batch_id": None,
        "parent_ids": view.parent_ids,
        "tags": {},
        "request_id": view.request_id,
        "submitted_by": view.submitted_by,
        "warnings": warnings,
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
        shown["options"] = {
            "scheduled_at": view.scheduled_at,
            "expires_at": view.expires_at,
            "priority": view.priority,
            "max_attempts": view.max_attempts,
            "backoff": _show_backoff(view.backoff) if view.backoff is not None else None,
            "timeout": view.timeout_seconds,
            "retention": view.retention_seconds,
            "dry_run": view.dry_run,
        }
    if "traceback" in include:
        shown["traceback"] = view.traceback
    return shown


def show_error(error: JobError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "code": error.code,
        "message": error.message,
        "class": error.error_class,
        "retryable": error.retryable,
        "fingerprint": None,
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
