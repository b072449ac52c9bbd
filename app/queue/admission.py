"""Where the web process hands in jobs: upkeep hears of what has a time, and it is measured how
long Redis took to acknowledge them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from app.queue.records.drafts import Idempotency, JobDraft, KeptAnswer, Replay
from app.queue.submission_times import SubmissionTimes
from app.queue.submitting import Submitter
from app.queue.upkeep import Upkeep


class Admission:
    """A `Submitter`, see there. What was refused is not measured."""

    def __init__(self, submitter: Submitter, upkeep: Upkeep, times: SubmissionTimes) -> None:
        self._submitter = submitter
        self._upkeep = upkeep
        self._times = times

    async def submit(
        self, draft: JobDraft, idempotency: Idempotency | None = None
    ) -> Replay | None:
        began = perf_counter()
        replay = await self._submitter.submit(draft, idempotency)
        self._times.add(perf_counter() - began)
        if _has_a_time(draft):
            self._upkeep.poke()
        return replay

    def begin(self, draft: JobDraft, done: Callable[[BaseException | None], None]) -> None:
        began = perf_counter()

        def acknowledged(error: BaseException | None) -> None:
            if error is None:
                self._times.add(perf_counter() - began)
                if _has_a_time(draft):
                    self._upkeep.poke()
            done(error)

        self._submitter.begin(draft, acknowledged)

    async def submit_batch(
        self,
        batch_id: str,
        drafts: Sequence[JobDraft],
        idempotency: Idempotency | None = None,
        places: Sequence[int] | None = None,
    ) -> Replay | None:
        began = perf_counter()
        replay = await self._submitter.submit_batch(batch_id, drafts, idempotency, places)
        self._times.add(perf_counter() - began)
        if any(map(_has_a_time, drafts)):
            # It may come before upkeep's next look.
            self._upkeep.poke()
        return replay

    async def recall(
        self, by: str, idempotency: Idempotency, draft: JobDraft | None = None
    ) -> Replay | None:
        return await self._submitter.recall(by, idempotency, draft)

    async def keep_answer(self, idempotency: Idempotency, by: str, answer: KeptAnswer) -> None:
        await self._submitter.keep_answer(idempotency, by, answer)


def _has_a_time(draft: JobDraft) -> bool:
    return draft.scheduled_at is not None or draft.expires_at is not None
