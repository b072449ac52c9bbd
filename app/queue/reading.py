"""RQ's hash, our fields in it and the latest result, read back as a `JobView`."""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from app.queue.records.calls import INFLATED_BYTES, PERFORM, inflate
from app.queue.records.names import Status, split_queue_name
from app.queue.records.options import Concurrency, Notify
from app.queue.records.views import Attempt, Event, JobError, JobView
from app.queue.times import rq_time
from jobs.catalog import CATALOG, Backoff, JobType

# RQ 3.0 has more words for a job on its way to the queue than we tell our clients.
_STATUS = {"created": "queued", "ready_to_enqueue": "queued", "rate_limited": "queued"}
_OUTCOMES: dict[str, Any] = {
    "finished": "finished",
    "failed": "failed",
    "stopped": "stopped",
    "retry_scheduled": "retry",
    "interrupted": "interrupted",
    "recovered": "abandoned",
}
Hash = Mapping[bytes, bytes]
# It names a list of jobs: see index.lua.
TYPE_CHARACTERS = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def view_of(job_id: str, record: Hash, latest_result: Hash | None) -> JobView:
    """The job as a client sees it. A broken field becomes its default: looking never fails."""
    queue, priority = split_queue_name(_text(record, "origin") or "default")
    status = _text(record, "status") or "queued"
    name, params = _call(record.get(b"data", b""))
    result = latest_result if latest_result is not None else {}
    ended = status in {"finished", "failed", "canceled", "stopped"}
    job_type = _job_type(record)
    return JobView(
        id=job_id,
        type=_text(record, "x_type") or _text(record, "x_stock") or name,
        queue=queue,
        priority=priority,
        status=cast("Status", _STATUS.get(status, status)),
        attempt=_number(record, "x_attempt", 0),
        max_attempts=_number(record, "x_max", job_type.max_attempts if job_type else 1),
        created_at=_time(record, "created_at") or datetime.fromtimestamp(0, UTC),
        enqueued_at=_time(record, "enqueued_at"),
        scheduled_at=_microseconds(record, "x_at"),
        next_attempt_at=_microseconds(record, "x_next") if status == "scheduled" else None,
        started_at=_time(record, "started_at"),
        ended_at=_time(record, "ended_at") if ended else None,
        result=return_value_of(result) if status == "finished" else _json(record, "x_result"),
        artifacts=artifacts_of(job_id, _json(record, "x_artifacts")),
        error=_error(_json(record, "x_error")) if status != "finished" else None,
        attempts=attempts_of(record.get(b"x_trail", b"")),
        reason=_text(record, "x_reason") if status in {"canceled", "stopped"} else None,
        parent_ids=_strings(_json(record, "dependency_ids")),
        request_id=_text(record, "x_req"),
        submitted_by=_text(record, "x_by"),
        expires_at=_milliseconds(record, "x_expires"),
        batch_id=_text(record, "x_batch"),
        tags=_tags(_json(record, "x_tags")),
        progress=_progress(_json(record, "x_progress")),
        allow_failure=_text(record, "allow_dependency_failures") == "1",
        concurrency=_concurrency(record),
        params=params,
        backoff=_backoff(_json(record, "x_backoff")) or (job_type.backoff if job_type else None),
        timeout_seconds=_seconds(record, "x_timeout") or _seconds(record, "timeout"),
        retention_seconds=_number(record, "result_ttl", -1) if b"result_ttl" in record else None,
        dry_run=_number(record, "x_dry", 0) == 1,
        notify=_notify(_json(record, "x_notify")),
        traceback=_traceback(result) if status != "finished" else None,
    )


def raw_statuses(status: Status) -> list[str]:
    """What records say of a job that is shown as that, if they say anything."""
    return [status, *(raw for raw, shown in _STATUS.items() if shown == status)]


def type_of(data: bytes) -> str:
    """What a stock producer's job is listed under: its type, or the function that it names."""
    name, _ = _call(data)
    return name.encode("utf-8", "replace").decode()[:TYPE_CHARACTERS] or "unreadable"


def traceback_of(packed: bytes) -> str:
    """As RQ packs it in a result, or plain as older ones have it."""
    return _unpacked(packed) or packed.decode("utf-8", "replace")


def return_value_of(result: Hash) -> Any:
    """What a job has returned, as RQ keeps it in a result; None when it cannot be read."""
    with contextlib.suppress(ValueError, KeyError):
        return json.loads(base64.b64decode(result[b"return_value"]))
    return None


def attempts_of(trail: bytes) -> list[Attempt]:
    """The runs that a trail tells of, oldest first."""
    attempts: list[Attempt] = []
    for event in events_of(trail):
        at, name, detail = event.at, event.name, event.detail
        if name == "started":
            attempts.append(Attempt(_whole(detail.get("attempt")), detail.get("worker"), at))
        elif name in _OUTCOMES and attempts and attempts[-1].outcome is None:
            attempts[-1].ended_at = at
            attempts[-1].outcome = _OUTCOMES[name]
            attempts[-1].error = _error(detail)
    return attempts


def events_of(trail: bytes) -> list[Event]:
    """The lines of a trail, oldest first; one that cannot be read is left out."""
    return [event for line in trail.splitlines() if (event := event_of(line)) is not None]


def event_of(line: bytes) -> Event | None:
    """`[number, microseconds, name, detail]` as an event, or None."""
    with contextlib.suppress(ValueError, TypeError, IndexError):
        number, at_us, name, *rest = json.loads(line)
        detail = rest[0] if rest and isinstance(rest[0], dict) else {}
        return Event(str(number), str(name), _from_microseconds(at_us), detail)
    return None


def _error(value: Any) -> JobError | None:
    if not isinstance(value, dict) or "code" not in value:
        return None
    return JobError(
        code=str(value["code"]),
        message=str(value.get("message", "")),
        error_class=str(value.get("class", "")),
        retryable=bool(value.get("retryable", False)),
        fingerprint=_printable(value.get("fingerprint")),
    )


def _printable(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _call(data: bytes) -> tuple[str, dict[str, Any] | None]:
    """The type's name and params; for anything else that RQ can hold, its function's name."""
    try:
        function, _, arguments, _ = json.loads(inflate(data))
        if function == PERFORM:
            name, params = arguments
            return str(name), params if isinstance(params, dict) else None
        return str(function), None
    except (ValueError, TypeError, RecursionError):
        return "unreadable", None


def _traceback(result: Hash) -> str | None:
    packed = result.get(b"exc_string")
    return None if packed is None else _unpacked(packed)


def _unpacked(traceback: bytes) -> str | None:
    with contextlib.suppress(ValueError, zlib.error):
        packed = base64.b64decode(traceback)
        return zlib.decompressobj().decompress(packed, INFLATED_BYTES).decode("utf-8", "replace")
    return None


def _text(record: Hash, field: str) -> str | None:
    value = record.get(field.encode())
    return value.decode("utf-8", "replace") if value else None


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _number(record: Hash, field: str, default: int) -> int:
    value = record.get(field.encode())
    if not value:
        return default  # most of a list's fields are: an exception for each would be the dearest
    try:
        return int(value)
    except ValueError:
        return default


def _tags(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): str(each) for key, each in value.items()}


def _progress(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {name: value.get(name) for name in ("current", "total", "unit", "message")}


def _concurrency(record: Hash) -> Concurrency | None:
    key = _text(record, "rate_limit_key")
    if key is None:
        return None
    # A name in front is the API key's: the client gave what follows it.
    own = key.partition(":")[2] if b"x_type" in record else key
    return Concurrency(own, _number(record, "rate_limit_concurrency", 1))


def _notify(value: Any) -> Notify | None:
    if not isinstance(value, dict):
        return None
    locale = value.get("locale")
    return Notify(
        emails=_strings(value.get("email")),
        on=_strings(value.get("on")),
        locale=locale if isinstance(locale, str) else None,
        has_link=value.get("link") is True,
    )


def _seconds(record: Hash, field: str) -> float | None:
    value = record.get(field.encode())
    if not value:
        return None
    with contextlib.suppress(ValueError):
        return float(value)
    return None


def _backoff(value: Any) -> Backoff | None:
    if value is None:
        return None
    with contextlib.suppress(TypeError, ValueError):
        return Backoff(*(float(each) for each in value))
    return None


def _job_type(record: Hash) -> JobType | None:
    """Of a job of ours: what is as its type has it is not recorded."""
    name = _text(record, "x_type")
    return CATALOG.get(name) if name is not None and name in CATALOG else None


def _json(record: Hash, field: str) -> Any:
    value = record.get(field.encode())
    if not value:
        return None
    with contextlib.suppress(ValueError):
        return json.loads(value)
    return None


def artifacts_of(job_id: str, value: Any) -> list[dict[str, Any]]:
    """What is whole of the list; a key must name something of this very job."""
    entries = value if isinstance(value, list) else []
    return [
        entry
        for entry in entries
        if isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in ("name", "content_type", "sha256"))
        and isinstance(entry.get("size"), int)
        and str(entry.get("key")).startswith(f"artifacts/{job_id}/")
    ]


def _strings(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _time(record: Hash, field: str) -> datetime | None:
    return rq_time(record.get(field.encode()))


def _milliseconds(record: Hash, field: str) -> datetime | None:
    return _time_of(_number(record, field, 0) * 1000)


def _microseconds(record: Hash, field: str) -> datetime | None:
    return _time_of(_number(record, field, 0))


def _time_of(microseconds: int) -> datetime | None:
    with contextlib.suppress(ValueError, OverflowError):  # of a year beyond 9999
        return _from_microseconds(microseconds) if microseconds else None
    return None


def _from_microseconds(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)
