"""What a claimed record asks for: our own job, a stock producer's, or nothing we would run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.queue.records.calls import PERFORM, inflate
from app.queue.transitions import Claimed
from jobs.catalog import Backoff, Catalog, JobType, UnknownJobTypeError
from jobs.errors import PermanentError

# What a stock producer may ask of a worker and ours does not do (RQ 3.0.0).
_REFUSED = {
    "success_callback_name": "a success callback",
    "failure_callback_name": "a failure callback",
    "stopped_callback_name": "a stopped callback",
    "repeats_left": "repeats",
    "group_id": "a group",
    "webhooks": "RQ webhooks",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A run of a registered type, as its record asks for it. Durations in seconds."""

    job_type: JobType
    params: Any
    timeout_seconds: float
    max_attempts: int
    failures_before: int
    backoff: Backoff
    retries_left: int | None
    retry_intervals: list[int]


def read_call(claimed: Claimed, catalog: Catalog) -> Call:
    """Find out what to run. Raises PermanentError, with a reason for the failed registry."""
    name, params = _function_and_params(claimed.fields.get("data", b""))
    try:
        job_type = catalog.get(name, internal=True)
    except UnknownJobTypeError:
        raise PermanentError(
            f"{name!r} is not a registered job type", code="unregistered_type"
        ) from None
    if claimed.fields.get("type") is None:
        for field, what in _REFUSED.items():
            if claimed.fields.get(field) not in {None, b"", b"0", b"[]"}:
                raise PermanentError(
                    f"the job asks for {what}, which this worker does not do",
                    code="unsupported_stock_feature",
                )
    failures = _number(claimed, "failures", 0)
    retries_left = _number(claimed, "retries_left", None)
    return Call(
        job_type=job_type,
        params=params,
        timeout_seconds=_timeout(claimed, job_type),
        max_attempts=_max_attempts(claimed, job_type, failures, retries_left),
        failures_before=failures,
        backoff=_backoff(claimed, job_type),
        retries_left=retries_left,
        retry_intervals=_intervals(claimed),
    )


def _function_and_params(data: bytes) -> tuple[str, Any]:
    try:
        call = json.loads(inflate(data))
    except (ValueError, RecursionError) as error:
        raise PermanentError(
            "its data is not JSON; jobs are enqueued with the JSON serializer",
            code="broken_record",
        ) from error
    if not (isinstance(call, list) and len(call) == 4 and isinstance(call[0], str)):
        raise PermanentError("its data is not a call as RQ writes it", code="broken_record")
    function, instance, arguments, named = call
    if function != PERFORM or instance is not None:
        raise PermanentError(
            f"it names the function {function[:200]!r}; only registered job types are run,"
            f" as {PERFORM}",
            code="unregistered_type",
        )
    fits = isinstance(arguments, list) and len(arguments) == 2 and isinstance(arguments[0], str)
    if not fits or named:
        raise PermanentError(
            f"{PERFORM} takes exactly the type's name and its params", code="broken_record"
        )
    return arguments[0], arguments[1]


def _number(claimed: Claimed, field: str, default: Any) -> Any:
    value = claimed.fields.get(field)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise PermanentError(f"its {field} is not a number", code="broken_record") from None


def _timeout(claimed: Claimed, job_type: JobType) -> float:
    for field in ("exact_timeout", "timeout"):
        value = claimed.fields.get(field)
        if value is None:
            continue
        try:
            seconds = float(value)
        except ValueError:
            continue
        if seconds > 0:
            return seconds
    return job_type.timeout_seconds


def _max_attempts(
    claimed: Claimed, job_type: JobType, failures: int, retries_left: int | None
) -> int:
    if claimed.fields.get("type") is None and retries_left is not None:
        return failures + 1 + retries_left
    return int(_number(claimed, "max_attempts", job_type.max_attempts))


def _backoff(claimed: Claimed, job_type: JobType) -> Backoff:
    text = claimed.fields.get("backoff")
    return (None if text is None else _read_backoff(text)) or job_type.backoff


@lru_cache
def _read_backoff(text: bytes) -> Backoff | None:
    try:
        return Backoff(*(float(each) for each in json.loads(text)))
    except (ValueError, TypeError):
        return None


def _intervals(claimed: Claimed) -> list[int]:
    text = claimed.fields.get("retry_intervals")
    if text is None:
        return []
    try:
        return [int(each) for each in json.loads(text)]
    except (ValueError, TypeError):
        return []


def stock_delay(call: Call) -> float | None:
    """The wait that a stock producer's Retry asks for, or None where it asks for none."""
    if not call.retry_intervals or not call.retries_left:
        return None
    index = max(len(call.retry_intervals) - call.retries_left, 0)
    return float(call.retry_intervals[index])
