"""The heart once more, as a model in plain Python: what there is, and the moves that several
transitions share.

It holds what the server should hold, key by key, and knows nothing of Redis' commands or of
Lua: `model_check` compares the two after each step. Sets are dicts, which keep their order as
a small set of the server does (a listpack), so that "one after the other" is the same order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

DAY = 86400
HORIZON = 3600
TIDY_SECONDS = 900
ENDED = {"finished", "failed", "canceled", "stopped"}
FAILED = {"failed", "canceled", "stopped"}
INDEXED = FAILED | {"scheduled", "deferred"}


def base_queue(queue: str) -> str:
    """Without a priority."""
    return queue.removesuffix(".high").removesuffix(".low")


@dataclass
class Job:
    """A record. `status` None: staged, so no job yet. `type` empty: a stock producer's."""

    id: str
    queue: str
    type: str = ""
    by: str = ""
    size: int = 0
    slot: str = ""
    limit: int = 0
    allow: bool = False
    parents: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    place: str = "q"
    at: float = 0.0
    expires_ms: int | None = None
    ttl: int | None = None
    failure_ttl: int | None = None
    timeout: int = 180
    batch: str = ""
    has_todo: bool = False
    status: str | None = None
    due_us: int | None = None
    is_counted: bool = False
    attempt: int = 0
    failures: int = 0
    abandoned: int = 0
    is_interrupted: bool = False
    stopped_by: str | None = None
    reason: str | None = None
    error: str | None = None
    worker: str | None = None
    progress: str | None = None
    trail: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What its hash should say."""
        return {
            "status": self.status,
            "origin": self.queue,
            "todo": self.has_todo,
            "batch": self.batch,
            "counted": self.size if self.is_counted else None,
            "attempt": self.attempt,
            "failures": self.failures,
            "abandoned": self.abandoned,
            "interrupted": self.is_interrupted,
            "stopped_by": self.stopped_by,
            "reason": self.reason,
            "error": self.error,
            "worker": self.worker,
            "progress": self.progress,
            "trail": self.trail,
        }


@dataclass
class Execution:
    """One run. `stopped_by`: who wants it to stop."""

    worker: str
    stopped_by: str | None = None


@dataclass
class WorkerRecord:
    """What Redis knows of a worker."""

    queues: list[str]
    claim_seq: int = 0
    end_seq: int = 0
    end_answer: list[str] = field(default_factory=list)
    is_dead: bool = False


@dataclass
class BatchRecord:
    size: int
    gone: dict[str, str] = field(default_factory=dict)


@dataclass
class UsedKey:
    """An idempotency key. `pending`: of a large batch, whose jobs may not all be in yet."""

    fingerprint: str
    first: str
    us: str
    request: str
    status: str
    pending: bool = False
    answer: str | None = None


class State:
    """Everything there is, and time. `expiry`: when the server forgets a key by itself, in ms."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.is_full = False
        self.jobs: dict[str, Job] = {}
        self.executions: dict[str, Execution] = {}
        self.workers: dict[str, WorkerRecord] = {}
        self.batches: dict[str, BatchRecord] = {}
        self.used_keys: dict[str, UsedKey] = {}
        self.submitted: dict[str, tuple[int, Any]] = {}
        self.limits: dict[str, int] = {}
        # What workers that were not buried yet said that they listen to.
        self.listens: dict[str, str] = {}
        # Jobs whose tags are noted beside them.
        self.tagged: set[str] = set()
        # Where jobs are listed by their error, noted beside them too.
        # Jobs that a stock tool moved: it knows nothing of our lists, budgets and trails.
        self.touched: set[str] = set()
        self.errors: dict[str, dict[str, str]] = {}
        self.claims: dict[str, int] = {}
        self.flags: set[str] = set()
        # When an id was first seen between a queue and its start, by the key that says so.
        self.seen: dict[str, float] = {}
        self.lists: defaultdict[str, list[str]] = defaultdict(list)
        self.scores: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.sets: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.recovered_at: int | None = None
        self.upkeep_at: int | None = None
        self.swept = False
        self.expiry: dict[str, int] = {}
        # Jobs whose dependents come next, and, where a ttl stands, then their own retention.
        self.just_ended: list[tuple[str, str, int | None]] = []

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    @property
    def now(self) -> float:
        return float(f"{self.now_us // 10**6}.{self.now_us % 10**6:06d}")

    def pass_time(self, microseconds: int) -> None:
        """Also backwards. What is due to be forgotten is."""
        self.now_us += microseconds
        for key in [key for key, at in self.expiry.items() if at <= self.now_ms]:
            self.drop(key)

    def expire(self, key: str, seconds: int) -> None:
        self.expiry[key] = self.now_ms + seconds * 1000

    def drop(self, key: str) -> None:
        """The key is no more, of whatever kind it was."""
        self.expiry.pop(key, None)
        self.flags.discard(key)
        for each in (self.lists, self.scores, self.sets, self.claims, self.seen):
            each.pop(key, None)
        for prefix, records in (
            ("rq:job:", self.jobs),
            ("rq:execution:", self.executions),
            ("rq:worker:", self.workers),
            ("rq:recado:batch:", self.batches),
            ("rq:recado:idempotency:", self.used_keys),
            ("rq:recado:submitter:", self.submitted),
        ):
            if key.startswith(prefix):
                records.pop(key.removeprefix(prefix), None)

    def due(self, key: str, until: float, since: float | None = None) -> list[str]:
        """Members up to that score, lowest first."""
        found = [
            (score, member)
            for member, score in self.scores[key].items()
            if score <= until and (since is None or score >= since)
        ]
        return [member for _, member in sorted(found)]

    def remove_from(self, key: str, member: str) -> bool:
        """From a set or a sorted set; an empty one is no key any more."""
        for kind in (self.scores, self.sets):
            if member in kind.get(key, ()):
                del kind[key][member]
                if not kind[key]:
                    del kind[key]
                    self.expiry.pop(key, None)
                return True
        return False

    # Which lists a job is in, for who looks for it.

    def index(self, job: Job) -> None:
        self._add_to("all", job.id)
        self._add_to(f"type:{job.type}", job.id)
        if job.by:
            self._add_to(f"by:{job.by}", job.id)
        for key, value in job.tags.items():
            self._add_to(f"tag:{key}:{value}", job.id)
            self.tagged.add(job.id)

    def index_status(self, job_id: str, status: str) -> None:
        if status in INDEXED:
            self.sets[f"rq:recado:i:status:{status}"][job_id] = None

    def unindex_status(self, job_id: str, status: str) -> None:
        self.remove_from(f"rq:recado:i:status:{status}", job_id)

    def set_error(self, job: Job, error_json: str) -> None:
        self._unlist_error(job.id)
        error = json.loads(error_json)
        job.error = error["code"]
        self.errors[job.id] = {"error": error["code"], "fingerprint": error["fingerprint"]}
        for kind, value in self.errors[job.id].items():
            self._add_to(f"{kind}:{value}", job.id)

    def _unlist_error(self, job_id: str) -> None:
        for kind, value in self.errors.pop(job_id, {}).items():
            self.remove_from(f"rq:recado:i:{kind}:{value}", job_id)

    def unindex(self, job_id: str) -> None:
        for key in [key for key in self.sets if key.startswith("rq:recado:i:")]:
            self.remove_from(key, job_id)
        self.tagged.discard(job_id)
        self.errors.pop(job_id, None)

    def _add_to(self, name: str, job_id: str) -> None:
        self.sets[f"rq:recado:i:{name}"][job_id] = None
        if name.startswith(("type:", "by:")):
            self.sets["rq:recado:indexes"][f"rq:recado:i:{name}"] = None

    # Going into queues and out of them.

    def push(self, queue: str, job_id: str, *, front: bool = False) -> None:
        key = f"rq:queue:{queue}"
        self.sets["rq:queues"][key] = None
        self.lists[key].insert(0 if front else len(self.lists[key]), job_id)

    def pull(self, queue: str, job_id: str, *, once: bool = False) -> None:
        key = f"rq:queue:{queue}"
        entries = self.lists.get(key, [])
        while job_id in entries:
            entries.remove(job_id)
            if once:
                break
        if not entries:
            self.lists.pop(key, None)

    def put_back(self, job: Job, queue: str, stopped_by: str | None = None) -> None:
        job.status = "queued"
        job.stopped_by = stopped_by or job.stopped_by
        self.push(queue, job.id, front=True)

    def enqueue(self, job: Job, queue: str, *, front: bool = False) -> None:
        """To the queue, or to wait for a slot of its concurrency key."""
        if not job.slot:
            job.status = "queued"
            self.push(queue, job.id, front=front)
            return
        self.sets["rq:rl-keys"][job.slot] = None
        self.limits[job.slot] = job.limit
        job.status = "rate_limited"
        self.sets["rq:queues"][f"rq:queue:{queue}"] = None
        self.scores[f"rq:rl:{job.slot}:rate_limited"][job.id] = self.now
        self.fill_slots(job.slot)

    def fill_slots(self, slot: str) -> None:
        allowed, waiting = f"rq:rl:{slot}:allowed", f"rq:rl:{slot}:rate_limited"
        while len(self.scores[allowed]) < self.limits.get(slot, 0) and self.scores[waiting]:
            job_id = self.due(waiting, float("inf"))[0]
            self.remove_from(waiting, job_id)
            job = self.jobs.get(job_id)
            if job is not None and job.status == "rate_limited":
                self.scores[allowed][job_id] = self.now
                job.status = "queued"
                self.push(job.queue, job_id)
        if not self.scores[allowed] and not self.scores[waiting]:
            self.remove_from("rq:rl-keys", slot)
            self.limits.pop(slot, None)

    def leave_slot(self, job: Job) -> None:
        if job.slot:
            held = self.remove_from(f"rq:rl:{job.slot}:allowed", job.id)
            self.remove_from(f"rq:rl:{job.slot}:rate_limited", job.id)
            if held:
                self.fill_slots(job.slot)

    # Executions.

    def live_execution(self, job_id: str, but: str | None = None) -> str | None:
        key = f"rq:executions:{job_id}"
        for ex in self.due(key, float("inf")):
            if ex != but:
                if f"{job_id}:{ex}" in self.executions:
                    return ex
                self.remove_from(key, ex)
        return None

    def drop_execution(self, worker: str, queue: str, composite: str) -> None:
        job_id, _, ex = composite.partition(":")
        self.drop(f"rq:execution:{composite}")
        self.remove_from(f"rq:executions:{job_id}", ex)
        self.remove_from(f"rq:wip:{queue}", composite)
        self.remove_from(f"rq:worker:{worker}:executions", composite)

    # Ending.

    def leave(self, job: Job, status: str) -> None:
        """A job that ends gives back what it held."""
        self.leave_slot(job)
        job.is_counted = False
        self.remove_from("rq:recado:expires", job.id)
        if status == "finished":
            self._unlist_error(job.id)
        self.index_status(job.id, status)

    def keys_of(self, job_id: str) -> Iterable[str]:
        own = f"rq:job:{job_id}"
        yield from (own, f"{own}:dependents", f"rq:job::{job_id}:dependencies")
        yield f"rq:results:{job_id}"

    def keep_for(self, job_id: str, ttl: int) -> None:
        if ttl == 0:
            self.remove(job_id)
            return
        for key in self.keys_of(job_id):
            self.expiry.pop(key, None)
            if ttl > 0 and self.exists(key):
                self.expire(key, ttl + TIDY_SECONDS)

    def exists(self, key: str) -> bool:
        if key in self.flags or any(each.get(key) for each in (self.lists, self.scores, self.sets)):
            return True
        return key.startswith("rq:job:") and key.removeprefix("rq:job:") in self.jobs

    def remove(self, job_id: str) -> None:
        """Nothing of the job remains, but its name in its batch, with how it ended."""
        job = self.jobs.get(job_id)
        if job is not None and job.status is not None and job.batch in self.batches:
            self.batches[job.batch].gone[job_id] = job.status
        self.unindex(job_id)
        self.remove_from("rq:recado:retained", job_id)
        for key in self.keys_of(job_id):
            self.drop(key)

    def cancel_waiting(self, job: Job, reason: str) -> None:
        status = job.status
        if status == "scheduled":
            self.remove_from(f"rq:scheduled:{job.queue}", job.id)
        elif status == "deferred":
            self.remove_from(f"rq:deferred:{job.queue}", job.id)
            for parent in self.sets.get(f"rq:job::{job.id}:dependencies", {}):
                self.remove_from(f"rq:job:{parent}:dependents", job.id)
        elif status != "rate_limited":
            self.pull(job.queue, job.id)
        self.unindex_status(job.id, status or "")
        job.status, job.reason = "canceled", reason
        job.trail.append("canceled")
        self.scores[f"rq:canceled:{job.queue}"][job.id] = self.now
        self.leave(job, "canceled")
        ttl = DAY if job.ttl is None else job.ttl
        if ttl > 0:
            self.scores["rq:recado:retained"][job.id] = self.now + ttl
        elif ttl == 0:
            self.remove_from(f"rq:canceled:{job.queue}", job.id)
        self.just_ended.append((job.id, "canceled", ttl))

    def fail(self, job: Job, error_json: str, ttl: int) -> None:
        job.status = "failed"
        self.set_error(job, error_json)
        self.end_in_failed(job, ttl)

    def end_in_failed(self, job: Job, ttl: int) -> None:
        """`failed` and `stopped` jobs share RQ's failed registry."""
        assert job.status is not None
        self.scores[f"rq:failed:{job.queue}"][job.id] = -1 if ttl < 0 else self.now + ttl
        self.leave(job, job.status)
        self.settle(job.id, job.status)
        self.keep_for(job.id, ttl)

    # Those that waited for it.

    def settle(self, parent_id: str, status: str) -> None:
        self.just_ended.append((parent_id, status, None))
        self.settle_just_ended()

    def settle_just_ended(self) -> None:
        while self.just_ended:
            parent_id, status, ttl = self.just_ended.pop()
            for job_id in list(self.sets.get(f"rq:job:{parent_id}:dependents", {})):
                if not self.settle_one(job_id, parent_id, status):
                    self.remove_from(f"rq:job:{parent_id}:dependents", job_id)
            if ttl is not None:
                self.keep_for(parent_id, ttl)

    def settle_one(self, job_id: str, parent_id: str, status: str) -> bool:
        """True when it goes on waiting, as a stock job does behind a failed parent."""
        job = self.jobs.get(job_id)
        if job is None or job.status != "deferred":
            return False
        if status != "finished" and not job.allow:
            if job.type:
                self.cancel_waiting(job, "parent_failed")
            return not job.type
        if not all(
            self._is_met(parent, status if parent == parent_id else None, job.allow)
            for parent in self.sets.get(f"rq:job::{job_id}:dependencies", {})
        ):
            return False
        self.remove_from(f"rq:deferred:{job.queue}", job_id)
        self.unindex_status(job_id, "deferred")
        if job.due_us is not None and job.due_us > self.now_us:
            self.schedule(job, job.due_us / 10**6)
            job.trail.append("scheduled")
        else:
            job.trail.append("queued")
            self.enqueue(job, job.queue)
        return False

    def _is_met(self, parent_id: str, status: str | None, allow: bool) -> bool:
        parent = self.jobs.get(parent_id)
        known = status or (parent.status if parent is not None else None)
        return known is None or known == "finished" or (allow and known in FAILED)

    def schedule(self, job: Job, due: float) -> None:
        job.status = "scheduled"
        self.scores[f"rq:scheduled:{job.queue}"][job.id] = due
        self.index_status(job.id, "scheduled")
