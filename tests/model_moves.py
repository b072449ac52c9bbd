"""The model's transitions: what each script should do, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.queue.keys import idempotency_id
from app.queue.packing import pack
from app.queue.records import JobDraft
from app.queue.transitions import Outcome
from tests.model_state import (
    DAY,
    ENDED,
    FAILED,
    HORIZON,
    BatchRecord,
    Execution,
    Job,
    State,
    UsedKey,
    WorkerRecord,
    base_queue,
)

BATCH_SECONDS = 31 * 86400
WORKER_SECONDS = 480
ASYNC_TYPE, DEF_TYPE = "test.note", "test.child"
# A page of a queue, while one kind of slot is free.
FRONT = 64
# How many words of a run's progress a trail keeps.
MOST_PROGRESS = 10
WAITING = {"queued", "scheduled", "deferred", "rate_limited"}


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


class Model(State):
    """The transitions of clients and workers; those of upkeep are in `model_upkeep`."""

    # New jobs.

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
            if found is None or found.status is None:
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

    # Workers.

    def birth(self, worker: str, queues: list[str]) -> Any:
        self.workers[worker] = WorkerRecord(queues)
        self.expire(f"rq:worker:{worker}", WORKER_SECONDS)
        self.sets["rq:workers"][f"rq:worker:{worker}"] = None
        for queue in queues:
            self.sets[f"rq:workers:{queue}"][f"rq:worker:{worker}"] = None
        self.scores["rq:recado:beats"][worker] = self.now_ms
        self.listens[worker] = ",".join(queues)
        return self.now_ms

    def death(self, worker: str) -> int:
        given = sum(
            self._give_back(worker, composite)
            for composite in list(self.sets.get(f"rq:worker:{worker}:executions", {}))
        )
        record = self.workers.get(worker)
        self.bury(worker)
        if record is not None:
            record.is_dead = True
            self.expire(f"rq:worker:{worker}", 60)
        return given

    def strike_off(self, worker_key: str) -> None:
        """Out of the sets of those that are alive."""
        for key in [key for key in self.sets if key.startswith("rq:workers")]:
            self.remove_from(key, worker_key)

    def bury(self, worker: str) -> None:
        self.strike_off(f"rq:worker:{worker}")
        self.sets.pop(f"rq:worker:{worker}:executions", None)
        self.remove_from("rq:recado:beats", worker)
        self.listens.pop(worker, None)

    def _give_back(self, worker: str, composite: str) -> bool:
        """What a worker holds and does not run goes back in front."""
        job_id, _, ex = composite.partition(":")
        job, execution = self.jobs.get(job_id), self.executions.get(composite)
        self.drop_execution(worker, "" if job is None else job.queue, composite)
        if job is None or job.status != "started":
            return False
        if self.live_execution(job_id, but=ex) is not None:
            return False
        job.is_interrupted = True
        job.trail.append("interrupted")
        self.put_back(job, job.queue, None if execution is None else execution.stopped_by)
        return True

    def is_alive(self, worker: str) -> bool:
        return worker in self.workers and not self.workers[worker].is_dead

    def claim(
        self, worker: str, seq: int, slots: tuple[int, int], queues: list[str], floor: int
    ) -> Any:
        """From the first `floor` queues one job at most."""
        if not self.is_alive(worker):
            return ["register"]
        record = self.workers[worker]
        if record.claim_seq and seq <= record.claim_seq:
            held = self.sets.get(f"rq:worker:{worker}:executions", {})
            again = [each for each in held if f"-{seq}-" in each and each in self.executions]
            return ["ok", sorted(again), [], []]
        if "rq:suspended" in self.flags:
            return ["suspended"]
        taking = _Taking(self, worker, seq, slots)
        for number, queue in enumerate(queues):
            if base_queue(queue) not in self.sets["rq:recado:paused"]:
                taking.take_from(queue, 1 if number < floor else sum(slots))
        if worker in self.scores["rq:recado:beats"]:
            self.scores["rq:recado:beats"][worker] = self.now_ms
        if taking.taken:
            record.claim_seq = seq
        return ["ok", sorted(taking.taken), taking.dropped, []]

    def start(self, job: Job, queue: str, worker: str, ex: str) -> str:
        composite, horizon = f"{job.id}:{ex}", job.timeout + HORIZON
        self.pull(queue, job.id, once=True)
        for key in self.keys_of(job.id):
            self.expiry.pop(key, None)
        job.status, job.worker, job.queue = "started", worker, queue
        job.attempt += 1
        job.trail.append(f"started {job.attempt}")
        self.remove_from("rq:recado:expires", job.id)
        self.executions[composite] = Execution(worker)
        self.scores[f"rq:executions:{job.id}"][ex] = self.now + horizon
        self.scores[f"rq:wip:{queue}"][composite] = self.now + horizon
        self.sets[f"rq:worker:{worker}:executions"][composite] = None
        for key in (f"rq:execution:{composite}", f"rq:executions:{job.id}"):
            self.expire(key, horizon)
        return composite

    def beat(self, worker: str, arrived: int, known: Sequence[str]) -> Any:
        if not self.is_alive(worker):
            return ["register"]
        self.scores["rq:recado:beats"][worker] = self.now_ms
        self.expire(f"rq:worker:{worker}", WORKER_SECONDS)
        lost, stop = [], []
        for composite in known:
            execution = self.executions.get(composite)
            if execution is None or execution.worker != worker:
                lost.append(composite)
            elif execution.stopped_by is not None:
                stop.append(composite)
        back = 0
        for composite in list(self.sets.get(f"rq:worker:{worker}:executions", {})):
            if composite not in known and int(composite.split("-")[-2]) <= arrived:
                back += self._give_back(worker, composite)
        return ["ok", lost, stop, back]

    def progress(self, worker: str, composite: str, text: str) -> int:
        execution = self.executions.get(composite)
        if execution is not None and execution.worker == worker:
            job = self.jobs.get(composite.partition(":")[0])
            if job is not None:
                self._tell_progress(job, text)
        return 1

    def _tell_progress(self, job: Job, text: str) -> None:
        if job.progress == text:
            return
        job.progress = text
        if job.trail.count("progress") == MOST_PROGRESS:
            job.trail.remove("progress")
        job.trail.append("progress")

    # Ends.

    def end(self, worker: str, seq: int, outcomes: Sequence[Outcome]) -> list[str]:
        record = self.workers.get(worker)
        if record is not None and record.end_seq and seq <= record.end_seq:
            return record.end_answer
        answers = [self._end(worker, each) for each in outcomes]
        if record is not None:
            record.end_seq, record.end_answer = seq, answers
        return answers

    def _end(self, worker: str, outcome: Outcome) -> str:
        composite = f"{outcome.id}:{outcome.execution}"
        job, execution = self.jobs.get(outcome.id), self.executions.get(composite)
        is_its_own = execution is not None and execution.worker == worker
        if not is_its_own or composite not in self.scores.get(f"rq:wip:{outcome.queue}", {}):
            if is_its_own:
                self.drop_execution(worker, outcome.queue, composite)
            if job is not None:
                job.trail.append("late")
            return "late"
        assert execution is not None
        self.drop_execution(worker, outcome.queue, composite)
        if job is None:
            return "gone"
        kind: str = outcome.kind
        if execution.stopped_by is not None and kind == "retry":
            kind = "stopped"
        if outcome.progress_json:
            self._tell_progress(job, outcome.progress_json)
        words = {"retry": "retry_scheduled", "abandoned": "recovered"}
        job.trail.append(words.get(kind, kind))
        if kind == "finished":
            self._finish(job, outcome)
        elif kind == "retry":
            self._retry(job, outcome)
        elif kind in {"failed", "stopped"}:
            self._end_for_good(job, kind, outcome)
        else:
            job.is_interrupted = job.is_interrupted or kind == "interrupted"
            job.abandoned += kind == "abandoned"
            self.put_back(job, outcome.queue, execution.stopped_by)
        return "done"

    def _finish(self, job: Job, outcome: Outcome) -> None:
        job.status = "finished"
        self.leave(job, "finished")
        self.settle(job.id, "finished")
        if outcome.ttl_seconds != 0:
            self.flags.add(f"rq:results:{job.id}")
            score = self.now + outcome.ttl_seconds if outcome.ttl_seconds > 0 else float("inf")
            self.scores[f"rq:finished:{outcome.queue}"][job.id] = score
        self.keep_for(job.id, outcome.ttl_seconds)

    def _retry(self, job: Job, outcome: Outcome) -> None:
        job.failures += 1
        self.set_error(job, outcome.error_json)
        self.flags.add(f"rq:results:{job.id}")
        if outcome.delay_seconds <= 0:
            job.status = "queued"
            self.push(outcome.queue, job.id)
            return
        self.schedule(job, self.now + outcome.delay_seconds)
        self.leave_slot(job)

    def _end_for_good(self, job: Job, kind: str, outcome: Outcome) -> None:
        job.status = kind
        self.set_error(job, outcome.error_json)
        if kind == "stopped":
            job.reason = "requested"
        else:
            job.failures += 1
        self.flags.add(f"rq:results:{job.id}")
        kept = DAY if job.ttl is None else job.ttl
        self.end_in_failed(job, kept if kind == "stopped" else outcome.ttl_seconds)

    # Clients and operators.

    def control(self, act: str, target: str, by: str) -> list[str]:
        if act == "pause":
            self.sets["rq:recado:paused"][target] = None
        elif act == "resume":
            self.remove_from("rq:recado:paused", target)
        else:
            return self._control_job(act, target, by)
        return ["done"]

    def _control_job(self, act: str, job_id: str, by: str) -> list[str]:
        job = self.jobs.get(job_id)
        if job is None or job.status is None:
            return ["none"]
        if act == "delete":
            if job.status not in ENDED:
                return ["waiting", job.status]
            for registry in ("finished", "failed", "canceled"):
                self.remove_from(f"rq:{registry}:{job.queue}", job_id)
            self.remove(job_id)
            return ["done"]
        if job.status in ENDED:
            return ["ended", job.status]
        ex = self.live_execution(job_id)
        if ex is not None:
            execution = self.executions[f"{job_id}:{ex}"]
            execution.stopped_by = execution.stopped_by or by
            return ["stopping"]
        self.cancel_waiting(job, "requested")
        self.settle_just_ended()
        return ["done"]

    def promote(self) -> list[str]:
        """The ids that became queued."""
        for job_id in self.due("rq:recado:expires", self.now_ms):
            self.remove_from("rq:recado:expires", job_id)
            job = self.jobs.get(job_id)
            if job is not None and job.status in WAITING and not job.attempt:
                self.cancel_waiting(job, "expired")
        self.settle_just_ended()
        moved = []
        for key in list(self.sets["rq:queues"]):
            queue = key.removeprefix("rq:queue:")
            for job_id in self.due(f"rq:scheduled:{queue}", self.now):
                self.remove_from(f"rq:scheduled:{queue}", job_id)
                job = self.jobs.get(job_id)
                if job is not None and job.status == "scheduled":
                    self.unindex_status(job_id, "scheduled")
                    job.trail.append("queued")
                    self.enqueue(job, queue)
                    moved.append(job_id)
        return moved

    def repair(self, kind: str, value: str, ids: Sequence[str]) -> int:
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None or job.status is None:
                self.unindex(job_id)
            elif (kind == "status" and job.status != value) or (
                kind == "error" and (job.status == "finished" or job.error != value)
            ):
                self.remove_from(f"rq:recado:i:{kind}:{value}", job_id)
        return 1


class _Taking:
    """One claim, on its way through the queues."""

    def __init__(self, model: Model, worker: str, seq: int, slots: tuple[int, int]) -> None:
        self._model, self._worker, self._seq = model, worker, seq
        self._coroutines, self._processes = slots
        self.taken: list[str] = []
        self.dropped: list[str] = []

    def take_from(self, queue: str, limit: int) -> None:
        """A page at a time: what comes to the end of the queue meanwhile is seen by the next."""
        before, at, is_last = len(self.taken), 0, False
        while self._has_room(limit) and not is_last:
            is_free = self._coroutines > 0 and self._processes > 0
            count = limit - len(self.taken) if is_free else FRONT
            page = self._model.lists.get(f"rq:queue:{queue}", [])[at : at + count]
            is_last = len(page) < count
            for job_id in page:
                if not self._has_room(limit):
                    break
                at += not self._consider(queue, job_id)
        if len(self.taken) > before:
            key = f"rq:recado:claimed:{queue}:{self._model.now_us // 60_000_000}"
            self._model.claims[key] = self._model.claims.get(key, 0) + len(self.taken) - before
            self._model.expire(key, 180)

    def _has_room(self, limit: int) -> bool:
        return len(self.taken) < limit and self._coroutines + self._processes > 0

    def _consider(self, queue: str, job_id: str) -> bool:
        """True when the entry is no longer there, false when no slot is free for it."""
        model, job = self._model, self._model.jobs.get(job_id)
        in_process = job is not None and job.type == DEF_TYPE
        has_type = job is not None and job.type != ""
        if (self._processes if in_process else self._coroutines) <= 0 and (
            has_type or self._processes <= 0
        ):
            return False
        if job is None:
            model.pull(queue, job_id, once=True)
            self.dropped.append(job_id)
        elif job.status not in {"queued", "started"} or model.live_execution(job_id) is not None:
            model.pull(queue, job_id, once=True)
        elif not self._refuse(job):
            ex = f"{self._worker.rpartition('.')[2]}-{self._seq}-{len(self.taken) + 1}"
            self.taken.append(model.start(job, queue, self._worker, ex))
            if in_process or self._coroutines <= 0:
                self._processes -= 1
            else:
                self._coroutines -= 1
        return True

    def _refuse(self, job: Job) -> bool:
        """Canceled instead of run: it was to be stopped in its last run, or its time is over."""
        is_late = (
            job.expires_ms is not None and job.expires_ms <= self._model.now_ms and not job.attempt
        )
        if job.stopped_by is None and not is_late:
            return False
        reason = "expired" if job.stopped_by is None else "requested"
        job.stopped_by = None
        self._model.cancel_waiting(job, reason)
        self._model.settle_just_ended()
        return True
