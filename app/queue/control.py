"""Acts on one job or queue: cancel, retry, delete, pause, resume, empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import BROKEN_EXC, run_script
from app.queue.connection import Lane, Reachability
from app.queue.errors import (
    FailedParentError,
    JobEndedError,
    JobNotEndedError,
    JobNotFailedError,
    JobNotFoundError,
    QueueFullError,
    UnknownParentError,
)
from app.queue.figures import Emptied
from app.queue.packing import pack
from app.queue.records.drafts import Edit
from app.queue.records.names import PRIORITIES, queue_name
from app.queue.submitting import MOST_QUEUED, MOST_QUEUED_BYTES
from app.queue.verdicts import FULL_RETRY_SECONDS

# Canceling so many takes the server some 4 ms, or 8 among 200,000 jobs.
EMPTY_JOBS = 24


class Control:
    """`by` is the acting key's name. Raises QueueUnavailableError when Redis is away."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        most_queued: int = MOST_QUEUED,
        most_queued_bytes: int = MOST_QUEUED_BYTES,
    ) -> None:
        self._client = client
        self._budgets = (most_queued, most_queued_bytes)
        self._lane = Lane(client, reachability)
        self._reachability = reachability

    async def cancel(self, job_id: str, by: str) -> Literal["canceled", "stopping"]:
        """Cancel before it runs; ask to stop while it does.

        Raises JobNotFoundError, JobEndedError.
        """
        answer = await self._act("cancel", job_id, by)
        if answer[0] == b"ended":
            raise JobEndedError(answer[1].decode())
        return "stopping" if answer[0] == b"stopping" else "canceled"

    async def delete(self, job_id: str, by: str) -> None:
        """Remove an ended job. Raises JobNotFoundError, JobNotEndedError."""
        answer = await self._act("delete", job_id, by)
        if answer[0] == b"waiting":
            raise JobNotEndedError(answer[1].decode())

    async def retry(self, job_id: str, by: str, edit: Edit | None = None) -> None:
        """Run a failed or stopped job again: it gets `max_attempts` new attempts.

        Raises JobNotFoundError, JobNotFailedError, QueueFullError, and, for what it is edited
        to wait for, UnknownParentError and FailedParentError.
        """
        change: list[Any] = [""]
        if edit is not None:
            packed = pack(edit.draft)
            change = packed.edit(has_params=edit.has_params, has_options=edit.has_options)
        asking = run_script(self._lane, scripts.RETRY, by, job_id, *self._budgets, *change)
        match await ask(asking, self._reachability):
            case [b"none"]:
                raise JobNotFoundError(job_id)
            case [b"refused", status]:
                raise JobNotFailedError(status.decode())
            case [b"full", queue]:
                reason = f"there is no room in queue {queue.decode()}"
                raise QueueFullError(reason, FULL_RETRY_SECONDS, [0])
            case [b"parent", place]:
                raise UnknownParentError(0, place)
            case [b"parent_failed", place]:
                raise FailedParentError(0, place)

    async def pause(self, queue: str, by: str) -> None:
        """Workers claim nothing more from the queue, in any of its priorities."""
        await self._act("pause", queue, by)

    async def resume(self, queue: str, by: str) -> None:
        await self._act("resume", queue, by)

    async def empty(self, queue: str, by: str) -> AsyncIterator[Emptied]:
        """Cancel what waits in the queue, in all its priorities, as it stood when this began.

        In pieces, between which others have their turn: how far it is after each of them. Who
        asks for no more leaves the rest as it is, and may begin anew.
        """
        canceled, asked_at = 0, b""
        for priority in PRIORITIES:
            name, more = queue_name(queue, priority), 1
            while more:
                asking = run_script(
                    self._lane, scripts.EMPTY, name, EMPTY_JOBS, asked_at, by, BROKEN_EXC
                )
                count, more, asked_at = await ask(asking, self._reachability)
                canceled += count
                if count:
                    yield Emptied(canceled, is_complete=False)
        yield Emptied(canceled, is_complete=True)

    async def mend(self, *codes: str) -> None:
        """Queues that paused themselves for an error of such a code go on."""
        await self._act("mend", ",".join(codes), "")

    async def paused_queues(self) -> list[str]:
        found = await ask(self._client.smembers(keys.PAUSED), self._reachability)
        return sorted(name.decode() for name in found)

    async def aclose(self) -> None:
        await self._lane.close()

    async def _act(self, act: str, target: str, by: str) -> list[Any]:
        asking = run_script(self._lane, scripts.CONTROL, act, target, by)
        answer: list[Any] = await ask(asking, self._reachability)
        if answer[0] == b"none":
            raise JobNotFoundError(target)
        return answer
