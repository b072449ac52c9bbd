"""The model against the server, key by key; and what must hold whatever happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.model_groups import UNMODELLED, wrong_groups
from tests.model_records import ENDED, INDEXED, Job, base_queue
from tests.model_state import State
from tests.model_world import Stored, words_of

# The server reads its own clock a little before or after we read ours.
_SLACK_MS = 100


def differences(model: State, stored: dict[str, Stored]) -> list[str]:
    """One line for each key that is not as the model has it."""
    expected = dict(_expected(model))
    lines = list(wrong_groups(model, stored))
    stored = {key: each for key, each in stored.items() if not key.startswith(UNMODELLED)}
    for key in sorted(expected.keys() | stored.keys()):
        if key == "rq:recado:bytes" and model.touched:
            continue
        if key.startswith("rq:recado:counts"):  # see test_counts.py
            continue
        if key == "rq:recado:walk_at":  # a time, beside that of the upkeep
            continue
        if key not in stored:
            lines.append(f"{key} is missing: {expected[key]}")
            continue
        found = _meaning(key, stored[key])
        if key == "rq:recado:bytes":
            found = {queue: count for queue, count in found.items() if count}
            expected.setdefault(key, {})
        if key not in expected:
            lines.append(f"{key} should not be there: {found}")
        elif found != expected[key]:
            lines.append(f"{key} is {_unlike(found, expected[key])}")
        elif not _expires_as(stored[key], model.expiry.get(key), model.now_ms):
            lines.append(f"{key} expires at {stored[key].expires_ms}, not {model.expiry.get(key)}")
    return lines


def _unlike(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in found.keys() | expected if found.get(key) != expected.get(key)]
        found, expected = ({key: each.get(key) for key in keys} for each in (found, expected))
    return f"{found}, not {expected}"


def _expires_as(stored: Stored, expected: int | None, now_ms: int) -> bool:
    if stored.expires_ms is None or expected is None:
        return stored.expires_ms is None and expected is None
    earliest, latest = stored.expires_ms
    return earliest - _SLACK_MS <= expected <= latest + _SLACK_MS


def _expected(model: State) -> Iterator[tuple[str, Any]]:
    for key, entries in model.lists.items():
        if entries:
            yield key, entries
    for key, scores in model.scores.items():
        if scores:
            yield key, {member: round(score, 3) for member, score in scores.items()}
    for key, members in model.sets.items():
        if members:
            yield key, set(members)
    for job in model.jobs.values():
        yield f"rq:job:{job.id}", job.facts()
    for composite, execution in model.executions.items():
        yield f"rq:execution:{composite}", [execution.worker, execution.stopped_by]
    for name, worker in model.workers.items():
        yield f"rq:worker:{name}", [worker.is_dead, worker.claim_seq, worker.end_seq]
    for batch, record in model.batches.items():
        yield f"rq:recado:batch:{batch}", [record.size, record.gone]
    for key, used in model.used_keys.items():
        yield f"rq:recado:idempotency:{key}", [used.first, used.status, used.pending, used.answer]
    for slot, limit in model.limits.items():
        yield f"rq:rl:{slot}", limit
    for key, count in model.claims.items():
        yield key, count
    yield from ((f"rq:recado:submitter:{name}", True) for name in model.submitted)
    yield from ((key, True) for key in (*model.flags, *model.seen))
    yield from _expected_singles(model)


def _expected_singles(model: State) -> Iterator[tuple[str, Any]]:
    if model.errors:
        yield "rq:recado:errors", model.errors
    if model.tagged:
        yield "rq:recado:tags", model.tagged
    if model.listens:
        yield "rq:recado:listens", model.listens
    if model.recovered_at is not None:
        yield "rq:recado:recovered_at", model.recovered_at
    if model.upkeep_at is not None:
        yield "rq:recado:upkeep_at", model.upkeep_at
        yield "rq:recado:sweep_at", True
    bytes_waiting: dict[str, int] = {}
    for job in model.jobs.values():
        if job.is_counted or (job.has_todo and job.batch):
            base = base_queue(job.queue)
            bytes_waiting[base] = bytes_waiting.get(base, 0) + job.size
    if bytes_waiting:
        yield "rq:recado:bytes", bytes_waiting


def _meaning(key: str, stored: Stored) -> Any:
    """What a key says, as the model has it: without what only RQ or a reader wants."""
    value = stored.value
    if stored.kind == "hash":
        return _meaning_of_hash(key, value)
    if key.startswith("rq:recado:i:"):
        return set(value)
    if stored.kind == "zset":
        return {member: round(score, 3) for member, score in value.items()}
    if stored.kind == "set":
        return set(value)
    if key.startswith(("rq:recado:claimed:", "rq:recado:recovered_at", "rq:recado:upkeep_at")):
        return int(value[0])
    return value if stored.kind == "list" else True


def _meaning_of_hash(key: str, fields: dict[str, str]) -> Any:
    if key.startswith("rq:job:"):
        return _facts(fields)
    if key.startswith("rq:execution:"):
        return [fields["worker_name"], fields.get("x_stop")]
    if key.startswith("rq:worker:"):
        seqs = [int(fields.get(name, 0)) for name in ("x_claim", "x_end")]
        return ["death" in fields, *seqs]
    if key.startswith("rq:recado:batch:"):
        gone = {
            name.removeprefix("gone:"): status
            for name, status in fields.items()
            if name.startswith("gone:")
        }
        return [int(fields["size"]), gone]
    if key.startswith("rq:recado:idempotency:"):
        return [fields["id"], fields["status"], "pending" in fields, fields.get("answer")]
    if key.startswith("rq:rl:"):
        return int(fields["concurrency"])
    if key == "rq:recado:listens":
        return fields
    if key == "rq:recado:errors":
        return {job_id: json.loads(lists) for job_id, lists in fields.items()}
    if key == "rq:recado:tags":
        return set(fields)
    return {name: int(count) for name, count in fields.items()}


def _facts(fields: dict[str, str]) -> dict[str, Any]:
    def number(name: str) -> int:
        return int(fields.get(name) or 0)

    return {
        "status": fields.get("status"),
        "origin": fields.get("origin"),
        "todo": "x_todo" in fields,
        "batch": fields.get("x_batch", ""),
        "counted": int(fields["x_size"]) if "x_size" in fields else None,
        "attempt": number("x_attempt"),
        "failures": number("x_failures"),
        "abandoned": number("x_abandoned"),
        "interrupted": "x_interrupted" in fields,
        "stopped_by": fields.get("x_stop"),
        "reason": fields.get("x_reason"),
        "error": json.loads(fields["x_error"])["code"] if fields.get("x_error") else None,
        "worker": fields.get("worker_name") or None,
        "progress": fields.get("x_progress"),
        "saved": fields.get("x_result"),
        "entry": fields.get("x_entry", ""),
        "stock_type": fields.get("x_stock", ""),
        "trail": words_of(fields.get("x_trail", "")),
    }


def broken_promises(model: State) -> list[str]:
    """What no order of events may bring about."""
    return [line for job in model.jobs.values() for line in _broken_of(model, job)] + [
        *(f"{job_id} is lost" for job_id in model.lost),
        *_broken_counts(model),
        *_broken_lists(model),
    ]


def _broken_of(model: State, job: Job) -> Iterator[str]:
    places = list(_places(model, job.id))
    wanted = {
        "queued": "queue", "rate_limited": "waits", "scheduled": "scheduled",
        "deferred": "deferred", "started": "runs",
    }.get(job.status or "")  # fmt: skip
    allowed = [[wanted]] if wanted is not None else [[], ["forgotten"]]
    if wanted == "runs":
        allowed.append(["forgotten"])
    if places not in allowed:
        yield f"{job.id} is {job.status}, and in {places}"
    attempts = [word for word in job.trail if word.startswith("started")]
    if attempts != [f"started {number}" for number in range(1, job.attempt + 1)]:
        yield f"{job.id} began {attempts}, and is at attempt {job.attempt}"
    # A retried job may end once more.
    since = len(job.trail) - [*reversed(job.trail), "retried"].index("retried")
    ends = [word for word in job.trail[since:] if word in ENDED]
    if job.id in model.touched:
        return
    if len(ends) > 1 or (ends and job.status != ends[0]):
        yield f"{job.id} is {job.status} and ended as {ends}"


def _places(model: State, job_id: str) -> Iterator[str]:
    for key, entries in model.lists.items():
        if key.endswith(":intermediate") and model.jobs[job_id].status != "queued":
            continue
        if key.startswith("rq:queue:"):
            yield from ("queue" for entry in entries if entry == job_id)
    for key, scores in model.scores.items():
        _, kind, *_ = key.split(":")
        if kind in {"scheduled", "deferred"} and job_id in scores:
            yield kind
        if key.endswith(":rate_limited") and job_id in scores:
            yield "waits"
        if kind == "wip":
            for composite, until in scores.items():
                if composite.partition(":")[0] == job_id:
                    if composite in model.executions:
                        yield "runs"
                    else:
                        # Past its horizon the record goes first; upkeep comes for the rest, or
                        # its worker's next beat.
                        is_held = any(
                            composite in model.sets.get(f"rq:worker:{name}:executions", {})
                            for name in model.scores.get("rq:recado:beats", {})
                        )
                        yield "forgotten" if until <= model.now + 1 or is_held else "wip"


def _broken_counts(model: State) -> Iterator[str]:
    for slot, limit in model.limits.items():
        allowed = model.scores.get(f"rq:rl:{slot}:allowed", {})
        running = [
            job.id
            for job in model.jobs.values()
            if job.slot == slot and job.status in {"queued", "started"}
        ]
        needless = set(allowed) - set(running) - model.touched
        if not set(running) <= set(allowed) or needless or len(allowed) > limit:
            yield f"slots of {slot}: {sorted(allowed)} hold one, {sorted(running)} may run"
    for composite, execution in model.executions.items():
        held = model.sets.get(f"rq:worker:{execution.worker}:executions", {})
        if composite not in held:
            yield f"{composite} is not among what its worker holds"
        if execution.worker not in model.scores.get("rq:recado:beats", {}):
            yield f"nobody would notice the silence of {execution.worker}, which runs {composite}"


def _broken_lists(model: State) -> Iterator[str]:
    for job in model.jobs.values():
        if job.status is None or not job.type or job.id in model.touched:
            continue
        wanted = {"all", f"type:{job.type}", f"by:{job.by}"}
        wanted |= {f"tag:{name}:{value}" for name, value in job.tags.items()}
        if job.error is not None and job.status != "finished":
            lists = model.errors[job.id]
            wanted |= {f"{kind}:{lists[kind]}" for kind in ("error", "fingerprint")}
        if job.status in INDEXED:
            wanted.add(f"status:{job.status}")
        found = {
            key.removeprefix("rq:recado:i:")
            for key, members in model.sets.items()
            if key.startswith("rq:recado:i:") and job.id in members
        }
        if found != wanted:
            yield f"{job.id} is listed under {sorted(found)}, not {sorted(wanted)}"
