"""How jobs end in the model, and what that settles."""

from __future__ import annotations

from collections.abc import Iterable

from tests.model_records import DAY, FAILED, Job
from tests.model_state import State

TIDY_SECONDS = 900
# Of what is in the failed registry: it may be requeued up to its last moment there.
REQUEUED_SECONDS = 86400


class Ending(State):
    """The last moves, shared by several transitions."""

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

    def keep_for(self, job_id: str, ttl: int, beyond: int = TIDY_SECONDS) -> None:
        if ttl == 0:
            self.remove(job_id)
            return
        for key in self.keys_of(job_id):
            self.expiry.pop(key, None)
            if ttl > 0 and self.exists(key):
                self.expire(key, ttl + beyond)

    def spare(self, job_id: str) -> None:
        """It waits or runs, and is not to be forgotten."""
        self.unseen.discard(job_id)
        if self.expiry.pop(f"rq:job:{job_id}", None) is not None:
            for key in self.keys_of(job_id):
                self.expiry.pop(key, None)

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
        self.keep_for(job.id, ttl, REQUEUED_SECONDS)

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
