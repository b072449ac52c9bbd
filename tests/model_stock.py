"""What RQ's own tools do beside the scripts: the real thing, and what the model says of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import redis
from rq.job import Job as StockJob
from rq.queue import Queue
from rq.registry import clean_registries
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from tests.model_records import Job
from tests.model_taking import ASYNC_TYPE
from tests.model_upkeep import Upkeep
from tests.stock import PERFORM

TTL, FAILURE_TTL, TIMEOUT = 60, 600, 30


class StockTools:
    """RQ 3.0 as `rq` and rq-dashboard call it, by the time that the model tells."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)

    def do(self, name: str, now_us: int, *arguments: str) -> None:
        with _told_time(now_us):
            getattr(self, name)(*arguments)

    def stock_suspend(self) -> None:
        suspend(self._redis)

    def stock_resume(self) -> None:
        resume(self._redis)

    def stock_enqueue(self, queue: str, job_id: str) -> None:
        self._queue(queue).enqueue(
            PERFORM, ASYNC_TYPE, {}, job_id=job_id, job_timeout=TIMEOUT,
            result_ttl=TTL, failure_ttl=FAILURE_TTL,
        )  # fmt: skip

    def stock_requeue(self, job_id: str) -> None:
        self._job(job_id).requeue()

    def stock_cancel(self, job_id: str) -> None:
        self._job(job_id).cancel()

    def stock_delete(self, job_id: str) -> None:
        self._job(job_id).delete()

    def stock_take(self, queue: str) -> None:
        """A worker on one queue takes a job, and dies before it has begun."""
        Queue.dequeue_any(
            [self._queue(queue)], None, connection=self._redis, serializer=JSONSerializer
        )

    def stock_clean(self, queue: str) -> None:
        clean_registries(self._queue(queue))

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._redis, serializer=JSONSerializer)

    def _job(self, job_id: str) -> StockJob:
        return StockJob.fetch(job_id, connection=self._redis, serializer=JSONSerializer)

    def close(self) -> None:
        self._redis.close()


@contextmanager
def _told_time(now_us: int) -> Iterator[None]:
    """RQ asks for the time in one place."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

    class Told(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return epoch + datetime.timedelta(microseconds=now_us)

    with patch("rq.utils.datetime", SimpleNamespace(**vars(datetime) | {"datetime": Told})):
        yield


class StockModel(Upkeep):
    """The whole model. RQ counts in whole seconds, and knows nothing of lists and budgets."""

    def stock_suspend(self) -> None:
        self.flags.add("rq:suspended")

    def stock_resume(self) -> None:
        self.flags.discard("rq:suspended")

    def stock_enqueue(self, queue: str, job_id: str) -> None:
        job = Job(
            job_id, queue, ttl=TTL, failure_ttl=FAILURE_TTL, timeout=TIMEOUT, made_us=self.now_us
        )
        self.jobs[job_id] = job
        self.enqueue(job, queue)

    def can_requeue(self, job: Job) -> bool:
        return job.id in self.scores.get(f"rq:failed:{job.queue}", {})

    def stock_requeue(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self.touched.add(job_id)
        self.unseen.add(job_id)
        self.remove_from(f"rq:failed:{job.queue}", job_id)
        if not job.slot:
            self.enqueue(job, job.queue)
            return
        self.sets["rq:rl-keys"][job.slot] = None
        self.limits[job.slot] = job.limit
        job.status = "rate_limited"
        self.scores[f"rq:rl:{job.slot}:rate_limited"][job_id] = int(self.now)
        self._acquire(job.slot)

    def can_touch(self, job: Job) -> bool:
        """RQ cannot read an execution whose record is gone, nor a record without a status."""
        executions = self.scores.get(f"rq:executions:{job.id}", {})
        return job.status is not None and all(
            f"{job.id}:{ex}" in self.executions for ex in executions
        )

    def stock_cancel(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self._leave_registries(job)
        job.status = "canceled"
        self.scores[f"rq:canceled:{job.queue}"][job_id] = int(self.now)
        self._stock_leave_slot(job)

    def stock_delete(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self._leave_registries(job)
        if not job.slot:
            for ex in list(self.scores.get(f"rq:executions:{job_id}", {})):
                worker = self.executions[f"{job_id}:{ex}"].worker
                self.remove_from(f"rq:worker:{worker}:executions", f"{job_id}:{ex}")
                self.drop(f"rq:execution:{job_id}:{ex}")
                self.remove_from(f"rq:wip:{job.queue}", f"{job_id}:{ex}")
            self.drop(f"rq:executions:{job_id}")
        for key in self.keys_of(job_id):
            self.drop(key)
        self._stock_leave_slot(job)

    def _leave_registries(self, job: Job) -> None:
        self.touched.add(job.id)
        self.pull(job.queue, job.id, once=True)
        registry = "failed" if job.status == "stopped" else job.status
        if registry in {"finished", "failed", "canceled", "scheduled", "deferred"}:
            self.remove_from(f"rq:{registry}:{job.queue}", job.id)
        if job.status == "started":
            for ex in list(self.scores.get(f"rq:executions:{job.id}", {})):
                self.remove_from(f"rq:wip:{job.queue}", f"{job.id}:{ex}")

    def _stock_leave_slot(self, job: Job) -> None:
        if not job.slot:
            return
        self.remove_from(f"rq:rl:{job.slot}:rate_limited", job.id)
        if self.scores.get(f"rq:executions:{job.id}"):
            return
        if self.remove_from(f"rq:rl:{job.slot}:allowed", job.id):
            self._acquire(job.slot)

    def _acquire(self, slot: str) -> None:
        """RQ's way to fill slots: it leaves the key when nobody waits."""
        allowed, waiting = f"rq:rl:{slot}:allowed", f"rq:rl:{slot}:rate_limited"
        while len(self.scores[allowed]) < self.limits.get(slot, 0) and self.scores[waiting]:
            job_id = self.due(waiting, float("inf"))[0]
            self.remove_from(waiting, job_id)
            job = self.jobs.get(job_id)
            if job is not None and job.status == "rate_limited":
                self.scores[allowed][job_id] = int(self.now)
                job.status = "queued"
                self.lists[f"rq:queue:{job.queue}"].append(job_id)

    def can_take(self, queue: str) -> bool:
        """RQ goes on to the next where there is no record."""
        entries = self.lists.get(f"rq:queue:{queue}")
        return bool(entries) and entries is not None and entries[0] in self.jobs

    def stock_take(self, queue: str) -> None:
        job_id = self.lists[f"rq:queue:{queue}"].pop(0)
        self.touched.add(job_id)
        self.lists[f"rq:queue:{queue}:intermediate"].append(job_id)

    def can_clean(self, queue: str) -> bool:
        """What RQ makes of a running job past its horizon is not ours to say."""
        return not self.due(f"rq:wip:{queue}", self.now, 0)

    def stock_clean(self, queue: str) -> None:
        for registry in ("finished", "failed"):
            for job_id in self.due(f"rq:{registry}:{queue}", int(self.now), 0):
                self.remove_from(f"rq:{registry}:{queue}", job_id)
                self.touched.add(job_id)
        for slot in list(self.sets["rq:rl-keys"]):
            self._clean_slot(slot)

    def _clean_slot(self, slot: str) -> None:
        for job_id in self.due(f"rq:rl:{slot}:allowed", float("inf")):
            job = self.jobs.get(job_id)
            has_use = job is not None and job.status in {"queued", "started"}
            runs = any(
                until > int(self.now)
                for until in self.scores.get(f"rq:executions:{job_id}", {}).values()
            )
            if not has_use and not runs:
                self.remove_from(f"rq:rl:{slot}:allowed", job_id)
        before = len(self.scores[f"rq:rl:{slot}:allowed"])
        self._acquire(slot)
        if (
            len(self.scores[f"rq:rl:{slot}:allowed"]) == before == 0
            and not self.scores[f"rq:rl:{slot}:rate_limited"]
        ):
            self.remove_from("rq:rl-keys", slot)
            self.limits.pop(slot, None)
