"""The model's transitions of workers and operators: what each script should do, and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.queue.transitions import Outcome
from tests.model_new import NewJobs
from tests.model_records import DAY, ENDED, HORIZON, Execution, Job, WorkerRecord, base_queue
from tests.model_state import id_of
from tests.model_taking import Taking

WORKER_SECONDS = 480
# How many words of a run's progress a trail keeps.
MOST_PROGRESS = 10
WAITING = {"queued", "scheduled", "deferred", "rate_limited"}


class Model(NewJobs):
    """The transitions of clients and workers; those of upkeep are in `model_upkeep`."""

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
        taking = Taking(self, worker, seq, slots)
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
        self.spare(job.id)
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

    def save(self, worker: str, composite: str, queue: str, text: str) -> list[int]:
        """A run that is no longer the job's, or that stock code canceled, saves nothing."""
        job, execution = self.jobs.get(composite.partition(":")[0]), self.executions.get(composite)
        is_its_own = execution is not None and execution.worker == worker
        if job is None or not is_its_own or composite not in self.scores.get(f"rq:wip:{queue}", {}):
            return [0]
        job.saved = text
        return [1]

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
            job.saved = None
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

    def retry(self, job_id: str, by: str) -> list[str]:
        job = self.jobs.get(job_id)
        if job is None or job.status is None:
            return ["none"]
        if job.status not in {"failed", "stopped"}:
            return ["refused", job.status]
        if self.live_execution(job_id) is not None:
            return ["refused", "started"]
        self.remove_from(f"rq:failed:{job.queue}", job_id)
        self.unindex_status(job_id, job.status)
        self._unlist_error(job_id)
        for key in self.keys_of(job_id):
            self.expiry.pop(key, None)
        job.is_interrupted = job.is_interrupted or job.abandoned > 0
        job.failures = job.abandoned = 0
        job.error = job.reason = job.progress = job.stopped_by = job.expires_ms = None
        job.is_counted = True
        job.trail.append("retried")
        self.enqueue(job, job.queue)
        return ["done", "queued"]

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

    def adopt(self, named: Sequence[tuple[str, str]]) -> int:
        for job_id, name in named:
            self.name_type(job_id, name)
        return 1

    def repair(self, kind: str, value: str, entries: Sequence[str]) -> int:
        for entry in entries:
            job = self.jobs.get(id_of(entry))
            if job is None or job.status is None:
                self.unindex(id_of(entry), entry)
            elif (kind == "status" and job.status != value) or (
                kind == "error" and (job.status == "finished" or job.error != value)
            ):
                self.remove_from(f"rq:recado:i:{kind}:{value}", entry)
        return 1
