"""Fills a Valkey with jobs that failed, by the calls that web process and worker make of it.

Fifty causes, five types in four queues, tags, and days on which they were made: only the day is
written over afterwards, as nobody can wait a week.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.connection import Reachability
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.records.drafts import JobDraft, new_job_id
from app.queue.records.names import Priority
from app.queue.retry import Failure
from app.queue.submitting import Submitter
from app.queue.transitions import Claimed, WorkerTransitions
from benchmarks.bursts import BurstError
from benchmarks.ours import DAY_SECONDS
from jobs.catalog import Backoff

CAUSES = 50
DAYS = 7
QUEUES = ("email", "data", "default", "http")
BATCH = 64
SUBMITTING = 512
_TYPES = (
    ("email.send", "email"), ("data.query", "data"), ("data.convert", "data"),
    ("log.write", "default"), ("http.request", "http"),
)  # fmt: skip
_WORDS = ("refused", "greylisted", "closed", "malformed", "unknown", "late", "full", "broken",
          "missing", "denied")  # fmt: skip
_CODES = ("smtp_permanent", "timeout", "sql_error", "bad_source", "error")
_LIMITS = Limits(5, DAY_SECONDS, 30 * DAY_SECONDS)
_BACKOFF = Backoff(initial=15.0, factor=3.0, maximum=3600.0)


@dataclass(frozen=True, slots=True)
class Filler:
    """`client` is what everything goes through."""

    client: async_redis.Redis

    async def fail(self, count: int) -> None:
        """So many jobs are submitted, claimed and failed for good."""
        await self._submit(count)
        reachability = Reachability()
        name = f"benchmark.1.{new_job_id()[-10:]}"
        queues = [f"{queue}{end}" for queue in QUEUES for end in (".high", "", ".low")]
        worker = WorkerTransitions(self.client, reachability, name=name, queues=queues)
        await worker.birth({"hostname": "benchmark"})
        failed = 0
        while failed < count:
            claim = await worker.claim(
                coroutines=BATCH, processes=0, queues=queues, process_types=[]
            )
            if not claim.jobs:
                raise BurstError(f"{failed} of {count} jobs could be claimed")
            await asyncio.gather(*(self._fail(worker, each) for each in claim.jobs))
            failed += len(claim.jobs)
        await worker.death()
        await worker.aclose()
        await self._backdate(count)

    async def queue(self, count: int) -> None:
        """So many jobs wait."""
        await self._submit(count)

    async def _submit(self, count: int) -> None:
        submitter = Submitter(self.client, Reachability())
        drafts = (_draft(number, count) for number in range(count))
        await asyncio.gather(*(_submit_each(submitter, drafts) for _ in range(SUBMITTING)))
        await submitter.aclose()

    async def _fail(self, worker: WorkerTransitions, claimed: Claimed) -> None:
        number = int(claimed.text("request_id"), 16)
        outcome = outcome_of(claimed, Ended("error", failure=_failure(number)), _LIMITS, _middle)
        if outcome is None or await worker.end(outcome) != "done":
            raise BurstError(f"job {claimed.id} did not fail")

    async def _backdate(self, count: int) -> None:
        """`created_at` says what the id says, which the lists go by."""
        ids = [each.decode() for each in await self.client.zrange(f"{keys.INDEX}all", 0, -1)]
        for begin in range(0, len(ids), 1000):
            async with self.client.pipeline(transaction=False) as pipeline:
                for each in ids[begin : begin + 1000]:
                    made = datetime.fromtimestamp(int(each[:13], 16) / 1e6, UTC)
                    text = made.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                    pipeline.hset(keys.job(each), "created_at", text)
                await pipeline.execute()


async def _submit_each(submitter: Submitter, drafts: Iterator[JobDraft]) -> None:
    for each in drafts:
        await submitter.submit(each)


def _draft(number: int, count: int) -> JobDraft:
    job_type, queue = _TYPES[number % len(_TYPES)]
    priorities: tuple[Priority, ...] = ("default", "default", "default", "high", "low")
    age = timedelta(days=DAYS) * (1 - number / count)
    microseconds = int((datetime.now(UTC) - age).timestamp() * 1e6)
    return JobDraft(
        type=job_type,
        params={"message": f"order {number} " + "x" * 500},
        queue=queue,
        max_attempts=1,
        backoff=_BACKOFF,
        timeout_seconds=60.0,
        retention_seconds=DAY_SECONDS,
        failure_retention_seconds=30 * DAY_SECONDS,
        id=f"{microseconds:013x}{new_job_id()[13:]}",
        priority=priorities[number // 7 % len(priorities)],
        tags={"shop": str(number % 40), "part": "rare" if number % 1000 == 0 else "often"},
        request_id=f"{number:032x}",
        submitted_by="benchmark",
    )


def _failure(number: int) -> Failure:
    word = _WORDS[number // len(_TYPES) % (CAUSES // len(_TYPES))]
    code = _CODES[number % len(_CODES)]
    return Failure(
        code, f"what was asked for is {word}: order {number}", "PermanentError", retryable=False
    )


def _middle() -> float:
    return 0.5
