"""What the dashboard reads: queues, pages of jobs, one job, workers.

Only commands that write nothing, and no RQ object: in RQ 3.0.0 reading writes
(`Queue.fetch_job` removes an id whose record is gone, `Worker.find_by_key` a worker whose
record is gone, `Worker.get_current_executions` stale entries), inflates without a bound and
takes some round trips a job; rq-dashboard 0.9.0 unpickles besides (`workers.json` is 500
while a worker is busy on a JSON job). A page costs three round trips here. The records may
be anyone's: what cannot be read is shown as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from app.queue import keys
from app.queue.dashboard import masking

# The registries in rq-dashboard's words, and the part of RQ's key that stands for each.
REGISTRY_KEYS = {
    "queued": "queue",
    "started": "wip",
    "finished": "finished",
    "failed": "failed",
    "scheduled": "scheduled",
    "deferred": "deferred",
    "canceled": "canceled",
}
DEFAULT_QUEUE = "default"
# A larger body is left where it is: the job's type is shown only if our submission noted it.
DATA_BYTES = 256 * 1024
EXECUTIONS_SHOWN = 100

_JOB_FIELDS = (
    "x_type", "origin", "status", "created_at", "enqueued_at", "started_at", "ended_at",
    "dependency_ids", "dependency_id",
)  # fmt: skip
_WORKER_FIELDS = (
    "queues", "state", "pid", "birth", "last_heartbeat", "version", "python_version",
    "successful_job_count", "failed_job_count", "total_working_time",
)  # fmt: skip


@dataclass(slots=True)
class StoredJob:
    """A job's record as far as the dashboard needs it. `label` says what kind of work."""

    id: str
    fields: dict[str, str]
    result: dict[bytes, bytes] = field(default_factory=dict)
    label: str = masking.UNREADABLE

    @property
    def traceback(self) -> str | None:
        """Why the last run failed; None for a job that has not failed."""
        if self.fields.get("status") not in {"failed", "stopped"}:
            return None
        stored = self.result.get(b"exc_string")
        return masking.shown_traceback(stored) if stored else "(no traceback was recorded)"

    @property
    def shown_result(self) -> Any:
        return masking.shown_result(self.label, self.result.get(b"return_value"))

    def time(self, name: str) -> str | None:
        return _time(self.fields.get(name))

    @property
    def parent_ids(self) -> list[str]:
        """RQ's `dependency_ids` is a JSON list; the older field holds one id."""
        many = masking.string_list(self.fields.get("dependency_ids"))
        one = self.fields.get("dependency_id")
        return many or ([one] if one else [])


def registry_key(registry: str, queue: str) -> str:
    return f"{keys.PREFIX}:{REGISTRY_KEYS[registry]}:{queue}"


def queue_names(client: Redis) -> list[str]:
    """Every queue that has had a job, in order of name."""
    prefix = registry_key("queued", "")
    found = [_text(key) for key in client.smembers(keys.QUEUES)]
    return sorted(key.removeprefix(prefix) for key in found if key.startswith(prefix))


def has_queue(client: Redis, name: str) -> bool:
    known = client.sismember(keys.QUEUES, registry_key("queued", name))
    return name == DEFAULT_QUEUE or bool(known)


def counts(client: Redis, queues: Sequence[str]) -> list[dict[str, int]]:
    """For each queue how many jobs each registry holds."""
    with client.pipeline(transaction=False) as pipe:
        for name in queues:
            for registry in REGISTRY_KEYS:
                key = registry_key(registry, name)
                _ = pipe.llen(key) if registry == "queued" else pipe.zcard(key)
        answers = _execute(pipe)
    width = len(REGISTRY_KEYS)
    rows = (answers[start : start + width] for start in range(0, len(answers), width))
    return [{name: n or 0 for name, n in zip(REGISTRY_KEYS, row, strict=True)} for row in rows]


def job_ids(
    client: Redis, queue: str, registry: str, offset: int, limit: int, *, newest_first: bool
) -> tuple[int, list[str]]:
    """How many jobs there are, and the ids of one page of them."""
    key = registry_key(registry, queue)
    listed = registry == "queued"
    with client.pipeline(transaction=False) as pipe:
        if listed:
            last = -offset - 1 if newest_first else offset + limit - 1
            pipe.llen(key)
            pipe.lrange(key, last - limit + 1, last)
        else:
            pipe.zcard(key)
            pipe.zrange(key, offset, offset + limit - 1, desc=newest_first)
        total, found = _execute(pipe)
    # A started job stands there as `job:execution`.
    ids = [_text(entry).partition(":")[0] for entry in found or []]
    return total or 0, ids[::-1] if listed and newest_first else ids


def jobs(client: Redis, ids: Iterable[str]) -> list[StoredJob | None]:
    """The records of these jobs, in order; None for one that is gone."""
    wanted = list(ids)
    with client.pipeline(transaction=False) as pipe:
        for job_id in wanted:
            pipe.hmget(keys.job(job_id), _JOB_FIELDS)
            pipe.hstrlen(keys.job(job_id), "data")
            pipe.xrevrange(keys.results(job_id), count=1)
        answers = _execute(pipe)
    found: list[StoredJob | None] = []
    unlabelled: list[StoredJob] = []
    for position, job_id in enumerate(wanted):
        values, data_bytes, results = answers[3 * position : 3 * position + 3]
        fields = _fields(_JOB_FIELDS, values)
        if not fields and not data_bytes:
            found.append(None)
            continue
        job = StoredJob(job_id, fields, results[0][1] if results else {})
        job.label = masking.job_label(fields.get("x_type"), None)
        if job.label == masking.UNREADABLE and 0 < data_bytes <= DATA_BYTES:
            unlabelled.append(job)
        found.append(job)
    _label(client, unlabelled)
    return found


def metadata(client: Redis, job_id: str) -> str:
    """RQ's `meta` of a job, masked, as JSON."""
    if client.hstrlen(keys.job(job_id), "meta") > masking.TEXT_BYTES:
        return masking.HIDDEN
    stored: Any = client.hget(keys.job(job_id), "meta")
    return masking.shown_metadata(stored)


def exist(client: Redis, ids: Sequence[str]) -> list[bool]:
    with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.exists(keys.job(job_id))
        return [bool(answer) for answer in _execute(pipe)]


def workers(client: Redis) -> list[dict[str, Any]]:
    """The registered workers in the shape of rq-dashboard's `workers.json`."""
    prefix = keys.worker("")
    found = [_text(key) for key in client.smembers(keys.WORKERS)]
    names = sorted(key.removeprefix(prefix) for key in found if key.startswith(prefix))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(prefix + name, _WORKER_FIELDS)
            pipe.smembers(f"{prefix}{name}:executions")
        answers = _execute(pipe)
    rows = []
    for position, name in enumerate(names):
        fields = _fields(_WORKER_FIELDS, answers[2 * position])
        if fields:
            executions = sorted(_text(entry) for entry in answers[2 * position + 1] or ())
            rows.append(_worker(name, fields) | {"current_job": _current_job(client, executions)})
    return sorted(rows, key=lambda row: (row["state"], row["queues"], row["name"]))


def _worker(name: str, fields: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "pid": fields.get("pid"),
        "queues": [queue for queue in fields.get("queues", "").split(",") if queue],
        "state": fields.get("state", "?"),
        "last_heartbeat": _time(fields.get("last_heartbeat")),
        "birth_date": _time(fields.get("birth")),
        "successful_job_count": fields.get("successful_job_count", "0"),
        "failed_job_count": fields.get("failed_job_count", "0"),
        "total_working_time": fields.get("total_working_time", "0"),
        "version": fields.get("version", ""),
        "python_version": fields.get("python_version", ""),
    }


def _current_job(client: Redis, executions: Sequence[str]) -> Any:
    """One of the jobs a worker is running; our worker runs many at once, so with a count."""
    with client.pipeline(transaction=False) as pipe:
        for composite in executions[:EXECUTIONS_SHOWN]:
            pipe.exists(f"{keys.PREFIX}:execution:{composite}")
        alive = _execute(pipe)
    running = [composite for composite, lives in zip(executions, alive, strict=False) if lives]
    if not running:
        return "idle"
    job_id = running[0].partition(":")[0]
    job = jobs(client, [job_id])[0]
    label = job.label if job is not None else masking.UNREADABLE
    more = f" and {len(running) - 1} more" if len(running) > 1 else ""
    return {
        "job_id": job_id,
        "description": label,
        "call_string": label + more,
        "created_at": job.time("created_at") if job is not None else None,
    }


def _label(client: Redis, unlabelled: Sequence[StoredJob]) -> None:
    with client.pipeline(transaction=False) as pipe:
        for job in unlabelled:
            pipe.hget(keys.job(job.id), "data")
        for job, data in zip(unlabelled, _execute(pipe), strict=True):
            job.label = masking.job_label(None, data)


def _execute(pipe: Any) -> list[Any]:
    """The answers, with None for a key that is of another type than RQ's."""
    answers = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, ResponseError) and not str(answer).startswith("WRONGTYPE"):
            raise answer
    return [None if isinstance(answer, ResponseError) else answer for answer in answers]


def _fields(names: Sequence[str], values: Sequence[bytes | None] | None) -> dict[str, str]:
    pairs = zip(names, values or (), strict=False)
    return {name: _text(value) for name, value in pairs if value}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _time(text: str | None) -> str | None:
    try:
        return datetime.fromisoformat(text).isoformat() if text else None
    except ValueError:
        return None
