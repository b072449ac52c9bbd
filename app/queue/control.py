"""Acts on one job or queue: cancel, delete, pause, resume."""

from __future__ import annotations

from typing import Any, Literal

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import run_script
from app.queue.connection import Lane, Reachability
from app.queue.errors import JobEndedError, JobNotEndedError, JobNotFoundError


class Control:
    """`by` is the acting key's name. Raises QueueUnavailableError when Redis is away."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
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

    async def pause(self, queue: str, by: str) -> None:
        """Workers claim nothing more from the queue, in any of its priorities."""
        await self._act("pause", queue, by)

    async def resume(self, queue: str, by: str) -> None:
        await self._act("resume", queue, by)

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
