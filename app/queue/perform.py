"""What surrounds a job function's call, wherever it runs: params in, result or error out."""

from __future__ import annotations

import json
import math
import traceback
from typing import Any

from pydantic import BaseModel, ValidationError

from app.queue.fingerprints import home_of, place_of
from jobs.catalog import JobType
from jobs.errors import JobError, PermanentError, RetryLater

TRACEBACK_CHARACTERS = 16_000
# It names a list of jobs: see index.lua.
CODE_CHARACTERS = 100
RESULT_BYTES = 1024 * 1024
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
# A job may ask for any wait; the longest that a submission may ask for is a year, too.
LONGEST_DELAY_SECONDS = 365 * 24 * 3600


def validate(job_type: JobType, params: Any, defaults: dict[str, Any]) -> BaseModel:
    """Stored params as the type's model. Raises PermanentError naming places, not values."""
    try:
        return job_type.params.model_validate(params, context=defaults)
    except ValidationError as error:
        places = ", ".join("/" + "/".join(map(str, each["loc"])) for each in error.errors()[:5])
        raise PermanentError(
            f"the params do not fit the job type: {places}", code="invalid_params"
        ) from None


def check_result(value: Any) -> Any:
    """The value itself, if it can be stored as JSON. Raises PermanentError."""
    if value is None:
        return None
    try:
        size = len(_encode(value).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"the result is not JSON: {error}", code="bad_result") from error
    if size > RESULT_BYTES:
        raise PermanentError(
            f"the result has {size} bytes of JSON; at most {RESULT_BYTES}", code="bad_result"
        )
    return value


def describe_error(error: BaseException, job_type: JobType | None = None) -> dict[str, Any]:
    """Whatever a job raised, as JSON values that UTF-8 can carry. Raises nothing.

    With its type it is told where in the job's own code that was.
    One that cannot be recorded would leave its job `started` for as long as the worker lives,
    and those that end in the same call.
    """
    result = error.result if isinstance(error, JobError) else None
    try:
        check_result(result)
    except PermanentError:
        result = None
    return {
        "kind": "error",
        "code": _encodable(str(error.code))[:CODE_CHARACTERS]
        if isinstance(error, JobError)
        else "error",
        "message": _message(error),
        "class": _encodable(type(error).__qualname__),
        "permanent": isinstance(error, PermanentError),
        "delay_seconds": _delay(error.delay_seconds) if isinstance(error, RetryLater) else None,
        "uses_attempt": getattr(error, "uses_attempt", True) is not False,
        "pauses_queue": getattr(error, "pauses_queue", False) is True,
        "result": result,
        "traceback": format_traceback(error),
        "place": _place(error, job_type),
    }


def format_traceback(error: BaseException) -> str:
    """The traceback, its end kept where it is too long."""
    text = _encodable("".join(traceback.format_exception(error)))
    return text if len(text) <= TRACEBACK_CHARACTERS else "…" + text[-TRACEBACK_CHARACTERS:]


def _place(error: BaseException, job_type: JobType | None) -> str:
    if job_type is None:
        return ""
    return _encodable(place_of(error.__traceback__, home_of(job_type.function)))


def _message(error: BaseException) -> str:
    try:
        return _encodable(str(error))
    except Exception:  # noqa: BLE001 - its own `__str__`, which may do anything
        return ""


def _delay(seconds: object) -> float | None:
    """None for what is no wait: it goes into a score, where infinity would never be due."""
    if not isinstance(seconds, int | float) or math.isnan(seconds):
        return None
    return float(max(0.0, min(seconds, LONGEST_DELAY_SECONDS)))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
