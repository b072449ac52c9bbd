"""One claim of the model, on its way through the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model_records import Job

if TYPE_CHECKING:
    from tests.model_moves import Model

ASYNC_TYPE, DEF_TYPE = "test.note", "test.child"
# A page of a queue, while one kind of slot is free.
FRONT = 64


class Taking:
    """What it has taken so far, and the slots that are left."""

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
