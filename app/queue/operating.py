"""The job that carries an operation out: a step at a time, and between two steps others go.

It is known to workers only, so that no client can submit it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as async_redis
from pydantic import BaseModel, ConfigDict

from app.queue import scripts
from app.queue.calling import BROKEN_EXC, run_script
from app.queue.connection import Lane, Reachability, until_answered
from app.queue.records.drafts import JobDraft
from app.queue.records.names import OPERATIONS_QUEUE
from jobs.catalog import Backoff, JobType
from jobs.context import JobContext
from jobs.errors import RetryLater

OPERATION_TYPE = "operation.run"
MAX_ATTEMPTS = 25
TIMEOUT_SECONDS = 60.0
BACKOFF = Backoff(initial=1.0, factor=2.0, maximum=60.0)
RETENTION_SECONDS = 7 * 86400
# Retrying one takes the server 0.2 ms, and 0.4 ms among 200,000: as long nobody else is answered.
STEP_JOBS = 16
# How long a run goes on before it gives its slot to others.
RUN_SECONDS = 1.0
_ENDED = {"finished", "stopped"}


class OperationParams(BaseModel):
    """Which one: an operation is a job of the same id, so that there is nothing to say."""

    model_config = ConfigDict(extra="forbid")


class Operator:
    """A worker's. `job_type` is to be added to what it runs."""

    def __init__(self, client: async_redis.Redis, most_queued: int, most_queued_bytes: int) -> None:
        self._lane = Lane(client, Reachability())
        self._arguments = (STEP_JOBS, most_queued, most_queued_bytes, BROKEN_EXC)

    @property
    def job_type(self) -> JobType:
        return JobType(
            name=OPERATION_TYPE,
            function=self.run,
            find_params=lambda: OperationParams,
            queue=OPERATIONS_QUEUE,
            max_attempts=MAX_ATTEMPTS,
            timeout_seconds=TIMEOUT_SECONDS,
            backoff=BACKOFF,
            description="Retries or discards the failed jobs of a selection.",
            is_async=True,
        )

    async def run(self, _: OperationParams, context: JobContext) -> dict[str, Any]:
        """Steps until there is something to wait for, or others have waited long enough.

        It never waits in its slot: what it waits for may need that very slot.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + RUN_SECONDS
        while True:
            state, wait_ms, total, done, failed = await self._step(context.job_id)
            context.progress(done + failed, total, "jobs")
            if state in _ENDED:
                return {"state": state, "total": total, "done": done, "failed": failed}
            if wait_ms or loop.time() >= until:
                raise RetryLater(
                    f"{done} of {total} jobs",
                    code="goes_on",
                    delay_seconds=wait_ms / 1000,
                    uses_attempt=False,
                )

    async def aclose(self) -> None:
        await self._lane.close()

    async def _step(self, operation_id: str) -> tuple[str, int, int, int, int]:
        """A step that is sent again, as its reply was lost, is the next one."""
        answer = await until_answered(
            lambda: run_script(self._lane, scripts.OPERATE, operation_id, *self._arguments)
        )
        return (answer[0].decode(), *answer[1:])


def operation_draft(operation_id: str, by: str, request_id: str) -> JobDraft:
    """The job of an operation."""
    return JobDraft(
        type=OPERATION_TYPE,
        params={},
        queue=OPERATIONS_QUEUE,
        max_attempts=MAX_ATTEMPTS,
        backoff=BACKOFF,
        timeout_seconds=TIMEOUT_SECONDS,
        retention_seconds=RETENTION_SECONDS,
        failure_retention_seconds=RETENTION_SECONDS,
        id=operation_id,
        request_id=request_id,
        submitted_by=by,
    )
