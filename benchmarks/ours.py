"""Our own job type for the benchmarks, and the client that fills the queue with them.

`JOB_MODULES=benchmarks.ours` gives it to the worker.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from app.queue.connection import Reachability, connect
from app.queue.records.drafts import JobDraft
from app.queue.submitting import Submitter
from benchmarks.peers.marks import REDIS_URL, async_client, email, mark
from jobs.catalog import CATALOG, job, load
from jobs.context import JobContext

DAY_SECONDS = 24 * 3600


class NoopParams(BaseModel):
    number: int


@job("benchmark.noop", queue="benchmark")
async def noop(params: NoopParams, _: JobContext) -> None:
    """Says that it runs."""
    mark(params.number)


def draft(kind: str, number: int) -> JobDraft:
    """As the web process makes it from a request with an API key."""
    job_type = CATALOG.get("benchmark.noop" if kind == "noop" else "email.send")
    return JobDraft(
        type=job_type.name,
        params={"number": number} if kind == "noop" else email(number),
        queue=job_type.queue,
        max_attempts=job_type.max_attempts,
        backoff=job_type.backoff,
        timeout_seconds=job_type.timeout_seconds,
        retention_seconds=DAY_SECONDS,
        failure_retention_seconds=30 * DAY_SECONDS,
        request_id=f"{number:032x}",
        submitted_by="benchmark",
    )


async def hand_over() -> None:
    load()
    client = connect(REDIS_URL)
    submitter = Submitter(client, Reachability())
    await async_client(lambda kind, number: submitter.submit(draft(kind, number)))
    await submitter.aclose()
    await client.aclose()


def main() -> None:
    asyncio.run(hand_over())
