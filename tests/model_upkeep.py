"""The model's `recover`: taking over from silent workers, and all upkeep."""

from __future__ import annotations

import json
from typing import Any

from app.queue.fingerprints import fingerprint
from app.queue.transitions import UPKEEP_MS
from app.queue.workers import SILENCE_SECONDS
from tests.model_moves import Model
from tests.model_records import DAY, ENDED, Execution, Job
from tests.model_state import id_of

SILENCE_MS = int(SILENCE_SECONDS * 1000)
ABANDONED_LIMIT = 3
FAILURE_TTL = 3600
# So many silent workers a call; what else is bounded is not reached here.
MOST_WORKERS = 8
SEEN_SECONDS = 60
READY_SECONDS = 5


class Upkeep(Model):
    """Ours alone; `model_stock` adds what RQ's tools do."""

    def recover(self) -> Any:
        """Gap or not, and what became of jobs that were taken over."""
        last, self.recovered_at = self.recovered_at, self.now_ms
        self.strangers: list[str] = []
        beats = self.scores["rq:recado:beats"]
        if last is None or not 0 <= self.now_ms - last <= SILENCE_MS / 2:
            for worker in beats:
                beats[worker] = self.now_ms
            return [1, [], [], []]
        fates: list[tuple[str, str]] = []
        for worker in self.due("rq:recado:beats", self.now_ms - SILENCE_MS)[:MOST_WORKERS]:
            for composite in list(self.sets.get(f"rq:worker:{worker}:executions", {})):
                job = self.jobs.get(composite.partition(":")[0])
                self._abandon(worker, "" if job is None else job.queue, composite, fates)
            self.bury(worker)
            self.drop(f"rq:worker:{worker}")
        if self.upkeep_at is None or not 0 <= self.now_ms - self.upkeep_at < UPKEEP_MS:
            self.upkeep_at = self.now_ms
            self._tidy(fates)
        return [
            0, sorted(fates), sorted(self.sets["rq:recado:activating"]), sorted(self.strangers)
        ]  # fmt: skip

    def _abandon(
        self, worker: str, queue: str, composite: str, fates: list[tuple[str, str]]
    ) -> None:
        job_id, _, ex = composite.partition(":")
        job, execution = self.jobs.get(job_id), self.executions.get(composite)
        self.drop_execution(worker, queue, composite)
        if job is None or job.status != "started" or self.live_execution(job_id, but=ex):
            return
        job.abandoned += 1
        job.trail.append("recovered")
        fates.append((job_id, self._fate(job, execution)))

    def _fate(self, job: Job, execution: Execution | None) -> str:
        if execution is not None and execution.stopped_by is not None:
            job.status, job.reason = "stopped", "requested"
            job.trail.append("stopped")
            self.end_in_failed(job, DAY if job.ttl is None else job.ttl)
            return "stopped"
        if job.abandoned >= ABANDONED_LIMIT:
            job.trail.append("failed")
            self.flags.add(f"rq:results:{job.id}")
            message = f"Its worker died {job.abandoned} times while running it"
            mark = fingerprint(job.type, "AbandonedJobError", message, "")
            error_json = json.dumps({"code": "abandoned", "fingerprint": mark})
            self.fail(job, error_json, FAILURE_TTL if job.failure_ttl is None else job.failure_ttl)
            return "failed"
        self.put_back(job, job.queue)
        return "requeued"

    # Each of these undoes what nobody else will.

    def _tidy(self, fates: list[tuple[str, str]]) -> None:
        for key in list(self.sets["rq:workers"]):
            if key.removeprefix("rq:worker:") not in self.workers:
                self.strike_off(key)
        for job_id in self.due("rq:recado:retained", self.now, 0):
            self.remove_from("rq:recado:retained", job_id)
            job = self.jobs.get(job_id)
            if job is not None and job.status == "canceled":
                self.remove_from(f"rq:canceled:{job.queue}", job_id)
                self.remove(job_id)
        for entry in list(self.sets["rq:recado:i:all"]):
            if id_of(entry) not in self.jobs:
                self.unindex(id_of(entry), entry)
        self.swept = True
        self._tidy_slots()
        for key in list(self.sets["rq:queues"]):
            queue = key.removeprefix("rq:queue:")
            self._tidy_executions(queue, fates)
            self._tidy_intermediate(queue, fates)
            self._tidy_ready(queue)
            for job_id in (
                *self.lists.get(f"rq:queue:{queue}", ()),
                *self.scores.get(f"rq:scheduled:{queue}", ()),
            ):
                self._look_at(job_id)
            self._tidy_deferred(queue)
            self._tidy_ended(queue)
        self.settle_just_ended()

    def _tidy_slots(self) -> None:
        for slot in list(self.sets["rq:rl-keys"]):
            for job_id in self.due(f"rq:rl:{slot}:allowed", float("inf")):
                job = self.jobs.get(job_id)
                has_use = job is not None and job.status in {"queued", "started"}
                if not has_use and self.live_execution(job_id) is None:
                    self.remove_from(f"rq:rl:{slot}:allowed", job_id)
            self.fill_slots(slot)
            for job_id in self.scores.get(f"rq:rl:{slot}:rate_limited", {}):
                self._look_at(job_id)

    def _look_at(self, job_id: str) -> None:
        """A job that waits: whatever put it there, it is kept and listed."""
        job = self.jobs.get(job_id)
        if job is None or job.status in {None, *ENDED}:
            return
        self.spare(job_id)
        if not (job.type or job.stock_type):
            self.entry_of(job_id)
            self.strangers.append(job_id)

    def _tidy_executions(self, queue: str, fates: list[tuple[str, str]]) -> None:
        for composite in self.due(f"rq:wip:{queue}", self.now, 0):
            execution = self.executions.get(composite)
            self._abandon("" if execution is None else execution.worker, queue, composite, fates)

    def _tidy_intermediate(self, queue: str, fates: list[tuple[str, str]]) -> None:
        key = f"rq:queue:{queue}:intermediate"
        for job_id in list(self.lists.get(key, ())):
            seen_key = f"{key}:first_seen:{job_id}"
            if seen_key not in self.seen:
                self.seen[seen_key] = self.now
                self.expire(seen_key, DAY)
            elif self.now - self.seen[seen_key] > SEEN_SECONDS:
                self.lists[key].remove(job_id)
                self.drop(seen_key)
                job = self.jobs.get(job_id)
                if job is not None and job.status == "queued" and not self.live_execution(job_id):
                    self.push(queue, job_id, front=True)
                    fates.append((job_id, "requeued"))

    def _tidy_ready(self, queue: str) -> None:
        for job_id in self.due(f"rq:ready:{queue}", self.now - READY_SECONDS):
            self.remove_from(f"rq:ready:{queue}", job_id)
            job = self.jobs.get(job_id)
            if job is not None and job.status == "ready_to_enqueue":
                job.status = "queued"
                self.push(queue, job_id)

    def _tidy_deferred(self, queue: str) -> None:
        for job_id in self.due(f"rq:deferred:{queue}", float("inf")):
            self._look_at(job_id)
            for parent_id in list(self.sets.get(f"rq:job::{job_id}:dependencies", {})):
                parent = self.jobs.get(parent_id)
                if parent is None or parent.status is None or parent.status in ENDED:
                    status = parent.status if parent is not None else None
                    self.settle_one(job_id, parent_id, status or "finished")

    def _tidy_ended(self, queue: str) -> None:
        for registry in ("finished", "failed"):
            for job_id in self.due(f"rq:{registry}:{queue}", self.now, 0):
                self.remove_from(f"rq:{registry}:{queue}", job_id)
                self._tidy_job(job_id)
        for job_id in self.due(f"rq:canceled:{queue}", self.now - DAY, 0):
            kept = self.scores["rq:recado:retained"].get(job_id)
            if kept is None or kept <= self.now:
                self.remove_from(f"rq:canceled:{queue}", job_id)
                self._tidy_job(job_id)

    def _tidy_job(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        if job is None:
            self.unindex(job_id)
        elif job.status is None or job.status in ENDED:
            self.remove(job_id)
