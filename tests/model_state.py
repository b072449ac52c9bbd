"""The heart once more, as a model in plain Python: what there is, and the moves that several
transitions share.

It holds what the server should hold, key by key, and knows nothing of Redis' commands or of
Lua: `model_check` compares the two after each step. Sets are dicts, which keep their order as
a small set of the server does (a listpack), so that "one after the other" is the same order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from tests.model_records import (
    INDEXED,
    BatchRecord,
    Execution,
    Job,
    UsedKey,
    WorkerRecord,
)

UNENDED = {"queued", "scheduled", "deferred", "rate_limited", "started"}


def id_of(entry: str) -> str:
    return entry.rpartition(":")[2]


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
        self.errors: dict[str, dict[str, str]] = {}
        # Jobs that a stock tool moved: it knows nothing of our lists, budgets and trails.
        self.touched: set[str] = set()
        # Those that it put back into a queue, and upkeep has not seen there yet.
        self.unseen: set[str] = set()
        # Jobs that waited or ran, had been seen, and were forgotten nevertheless.
        self.lost: list[str] = []
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
            job = self.jobs.get(key.removeprefix("rq:job:")) if key.startswith("rq:job:") else None
            if job is not None and job.status in UNENDED and job.id not in self.unseen:
                self.lost.append(job.id)
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

    def entry_of(self, job_id: str) -> str:
        """What stands for it in lists. A stock producer's ids do not sort by time."""
        job = self.jobs.get(job_id)
        if job is None or job.type:
            return job_id
        if not job.entry:
            job.entry = f"{job.made_us:013x}:{job_id}"
            self.sets["rq:recado:i:all"][job.entry] = None
        return job.entry

    def name_type(self, job_id: str, name: str) -> None:
        """Of a stock producer's job, once somebody has read it."""
        job = self.jobs.get(job_id)
        if job is None or job.status is None or job.type or job.stock_type:
            return
        job.stock_type = name
        self._add_to("all", job_id)
        self._add_to(f"type:{name}", job_id)
        self.index_status(job_id, job.status)

    def index_status(self, job_id: str, status: str) -> None:
        if status in INDEXED:
            self.sets[f"rq:recado:i:status:{status}"][self.entry_of(job_id)] = None

    def unindex_status(self, job_id: str, status: str) -> None:
        if status in INDEXED:
            self.remove_from(f"rq:recado:i:status:{status}", self.entry_of(job_id))

    def set_error(self, job: Job, error_json: str) -> None:
        self._unlist_error(job.id)
        error = json.loads(error_json)
        job.error = error["code"]
        self.errors[job.id] = {"error": error["code"], "fingerprint": error["fingerprint"]}
        for kind, value in self.errors[job.id].items():
            self._add_to(f"{kind}:{value}", job.id)
        if (entry := self.entry_of(job.id)) != job.id:
            self.errors[job.id]["entry"] = entry

    def _unlist_error(self, job_id: str) -> None:
        lists = self.errors.pop(job_id, {})
        entry = lists.pop("entry", "")
        for kind, value in lists.items():
            self.remove_from(f"rq:recado:i:{kind}:{value}", entry or self.entry_of(job_id))

    def unindex(self, job_id: str, entry: str = "") -> None:
        job = self.jobs.get(job_id)
        entry = (job.entry if job is not None else "") or entry or job_id
        for key in [key for key in self.sets if key.startswith("rq:recado:i:")]:
            self.remove_from(key, entry)
        self.tagged.discard(job_id)
        self._unlist_error(job_id)

    def _add_to(self, name: str, job_id: str) -> None:
        self.sets[f"rq:recado:i:{name}"][self.entry_of(job_id)] = None
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
