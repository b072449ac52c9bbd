"""What surrounds a job function's call, wherever it runs: params in, result or error out."""

from __future__ import annotations

import json
import traceback
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.catalog import JobType
from jobs.errors import JobError, PermanentError

TRACEBACK_CHARACTERS = 16_000
RESULT_BYTES = 1024 * 1024


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
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"the result is not JSON: {error}", code="bad_result") from error
    if size > RESULT_BYTES:
        raise PermanentError(
            f"the result has {size} bytes of JSON; at most {RESULT_BYTES}", code="bad_result"
        )
    return value


def describe_error(error: BaseException) -> dict[str, Any]:
    """An exception as JSON values: what crosses from a child process."""
    result = error.result if isinstance(error, JobError) else None
    try:
        check_result(result)
    except PermanentError:
        result = None
    return {
        "kind": "error",
        "code": error.code if isinstance(error, JobError) else "error",
        "message": _encodable(str(error)),
        "class": type(error).__qualname__,
        "permanent": isinstance(error, PermanentError),
        "delay_seconds": getattr(error, "delay_seconds", None),
        "result": result,
        "traceback": format_traceback(error),
    }


def format_traceback(error: BaseException) -> str:
    """The traceback, its end kept where it is too long."""
    text = _encodable("".join(traceback.format_exception(error)))
    return text if len(text) <= TRACEBACK_CHARACTERS else "…" + text[-TRACEBACK_CHARACTERS:]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
