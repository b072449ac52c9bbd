"""How new jobs come in: what the scripts of submissions should do, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.queue.keys import idempotency_id
from app.queue.packing import pack
from app.queue.records.drafts import JobDraft
from tests.model_ending import Ending
from tests.model_records import FAILED, BatchRecord, Job, UsedKey

BATCH_SECONDS = 31 * 86400


@dataclass(frozen=True)
class Request:
    """One client's request: jobs that stand or fall together, and its heading."""

    drafts: Sequence[JobDraft]
    batch: str = ""
    key: str = ""
    fingerprint: str = ""

    @property
    def by(self) -> str:
        return self.drafts[0].submitted_by or ""

    @property
    def only_by(self) -> str:
        return "" if self.drafts[0].sees_all else self.by

    @property
    def key_id(self) -> str:
        return idempotency_id(self.by, self.key) if self.key else ""


def new_job(draft: JobDraft, batch: str) -> Job:
    todo = pack(draft).todo(batch)
    return Job(
        id=todo["id"], queue=todo["queue"], type=todo["type"], by=todo["by"], size=todo["size"],
        slot=todo["slot"], limit=int(todo["limit"] or 0), allow=todo["allow"] == "1",
        parents=list(todo["parents"]), tags=dict(todo["tags"]), place=todo["place"],
        at=float(todo["at"]), expires_ms=None if todo["expires"] == "" else int(todo["expires"]),
        ttl=draft.retention_seconds, failure_ttl=draft.failure_retention_seconds,
        timeout=int(draft.timeout_seconds), batch=batch,
    )  # fmt: skip


class NewJobs(Ending):
    """The transitions of clients; those of workers are in `model_moves`."""

    def submit(
        self, submitter: str, seq: int, budgets: tuple[int, int], requests: Sequence[Request]
    ) -> Any:
        if self.is_full:
            return "OOM"
        seen = self.submitted.get(submitter)
        if seen is not None and seen[0] >= seq:
            return seen[1]
        answer = [str(self.now_us), [self._accept_request(each, budgets) for each in requests]]
        self.submitted[submitter] = (seq, answer)
        self.expire(f"rq:recado:submitter:{submitter}", 300)
        return answer

    def _accept_request(self, request: Request, budgets: tuple[int, int]) -> list[Any]:
        used = self._used_before(request)
        if used is not None:
            return used
        jobs = [new_job(draft, request.batch) for draft in request.drafts]
        for index, job in enumerate(jobs):
            found = self.jobs.get(job.id)
            if found is not None and found.status is not None:
                return [0]
            if self._is_late(job, request):
                return [9, index]
            parent = self._unknown_parent(job, request.only_by)
            if parent is not None:
                return [4, index, parent]
        over = self._over_budget(jobs, budgets)
        if over is not None:
            return over
        statuses = [self._accept(job) for job in jobs]
        if request.batch:
            self._record_batch(request.batch, [job.id for job in jobs])
        self._use_key(request, request.batch or jobs[0].id, statuses[0])
        return [1, *statuses]

    def _is_late(self, job: Job, request: Request) -> bool:
        """It could never run. With a key its delay counts from when it came first, so from now."""
        if job.expires_ms is None:
            return False
        wait_ms = job.at * 1000 if request.key and job.place == "r" else 0
        return job.expires_ms <= self.now_ms + wait_ms

    def _used_before(self, request: Request) -> list[Any] | None:
        used = self.used_keys.get(request.key_id)
        if used is None:
            return None
        if used.fingerprint != request.fingerprint:
            return [3]
        if used.pending and self.lists.get(f"rq:recado:batch:{used.first}:todo"):
            return [7]
        return [2, used.first, used.us, used.request, used.status, int(used.answer is not None)]

    def _use_key(self, request: Request, first: str, status: str, *, pending: bool = False) -> None:
        if request.key:
            self.used_keys[request.key_id] = UsedKey(
                request.fingerprint, first, str(self.now_us),
                request.drafts[0].request_id or "", status, pending,
            )  # fmt: skip
            self.expire(f"rq:recado:idempotency:{request.key_id}", 86400)

    def answer(self, request: Request, text: str) -> Any:
        """The first one stands."""
        if self.is_full:
            return "OOM"
        used = self.used_keys.get(request.key_id)
        if used is not None and used.fingerprint == request.fingerprint:
            used.answer = used.answer or text
        return 1

    def _unknown_parent(self, job: Job, only_by: str) -> int | None:
        for index, parent_id in enumerate(job.parents):
            parent = self.jobs.get(parent_id)
            if parent is None or parent.status is None or (only_by and parent.by != only_by):
                return index
        return None

    def _over_budget(self, jobs: Sequence[Job], budgets: tuple[int, int]) -> list[Any] | None:
        for queue in {job.queue for job in jobs}:
            depth = len(self.lists.get(f"rq:queue:{queue}", ()))
            for registry in ("scheduled", "deferred"):
                depth += len(self.scores.get(f"rq:{registry}:{queue}", ()))
            if depth + sum(job.queue == queue for job in jobs) > budgets[0]:
                return [5, queue, budgets[0] - depth]
        return None

    def _record_batch(self, batch: str, ids: list[str]) -> None:
        self.batches[batch] = BatchRecord(len(ids))
        self.lists[f"rq:recado:batch:{batch}:jobs"] = list(ids)
        for key in (f"rq:recado:batch:{batch}", f"rq:recado:batch:{batch}:jobs"):
            self.expire(key, BATCH_SECONDS)

    def _accept(self, job: Job) -> str:
        self.jobs[job.id] = job
        self.expiry.pop(f"rq:job:{job.id}", None)
        job.is_counted = True
        self.index(job)
        if job.expires_ms is not None:
            self.scores["rq:recado:expires"][job.id] = job.expires_ms
        due = None
        if job.place != "q":
            due = self.now + job.at if job.place == "r" else job.at
            job.due_us = round(due * 10**6)
        fate = self._await_parents(job)
        self.sets["rq:queues"][f"rq:queue:{job.queue}"] = None
        if fate == "canceled":
            job.status = "deferred"
            self.cancel_waiting(job, "parent_failed")
            self.settle_just_ended()
            return "canceled"
        if fate == "deferred":
            job.status = "deferred"
            self.scores[f"rq:deferred:{job.queue}"][job.id] = self.now
            self.index_status(job.id, "deferred")
        elif due is not None and due > self.now:
            self.schedule(job, due)
        else:
            job.trail.append("queued")
            self.enqueue(job, job.queue)
            return "queued"
        job.trail.append(job.status or "")
        return job.status or ""

    def _await_parents(self, job: Job) -> str | None:
        waiting = []
        for parent_id in job.parents:
            parent = self.jobs.get(parent_id)
            status = None if parent is None else parent.status
            if status in FAILED:
                if not job.allow:
                    return "canceled"
            elif status not in {None, "finished"}:
                waiting.append(parent_id)
        for parent_id in waiting:
            self.sets[f"rq:job:{parent_id}:dependents"][job.id] = None
            self.sets[f"rq:job::{job.id}:dependencies"][parent_id] = None
        return "deferred" if waiting else None

    def stage(self, request: Request) -> Any:
        if self.is_full:
            return "OOM"
        for draft in request.drafts:
            found = self.jobs.get(draft.id)
            if found is None or (found.status is None and not found.batch):
                job = self.jobs.setdefault(draft.id, new_job(draft, ""))
                job.has_todo = True
                self.expire(f"rq:job:{draft.id}", 60)
        return 1

    def commit(self, request: Request, budgets: tuple[int, int]) -> Any:
        if self.is_full:
            return "OOM"
        return [str(self.now_us), self._commit(request, budgets)]

    def _commit(self, request: Request, budgets: tuple[int, int]) -> list[Any]:
        if request.batch in self.batches:
            return [1]
        used = self._used_before(request)
        if used is not None:
            return used
        jobs = []
        for index, draft in enumerate(request.drafts):
            job = self.jobs.get(draft.id)
            if job is None or not job.has_todo or job.status is not None:
                return [8]
            if self._is_late(job, request):
                return [9, index]
            parent = self._unknown_parent(job, request.only_by)
            if parent is not None:
                return [4, index, parent]
            jobs.append(job)
        over = self._over_budget(jobs, budgets)
        if over is not None:
            return over
        for job in jobs:
            job.batch = request.batch
            self.expiry.pop(f"rq:job:{job.id}", None)
        self._record_batch(request.batch, [job.id for job in jobs])
        self.lists[f"rq:recado:batch:{request.batch}:todo"] = [job.id for job in jobs]
        self.sets["rq:recado:activating"][request.batch] = None
        self._use_key(request, request.batch, "", pending=True)
        return [1]

    def activate(self, batch: str, most: int) -> int:
        key = f"rq:recado:batch:{batch}:todo"
        ids = self.lists.get(key, [])
        for _ in range(min(most, len(ids))):
            job = self.jobs.get(ids.pop(0))
            if job is not None and job.has_todo and job.status is None:
                job.has_todo = False
                self._accept(job)
        if not ids:
            self.lists.pop(key, None)
            self.remove_from("rq:recado:activating", batch)
        return len(ids)
