"""Reading: one job, lists, and how ready the service is. Nothing here changes a job."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.lists import Lists
from app.queue.places import place
from app.queue.reading import events_of, view_of
from app.queue.records.views import Event, JobView

if TYPE_CHECKING:
    from app.queue.capacity import Capacity


class Views:
    """Every method raises QueueUnavailableError when Redis cannot be asked.

    `budgets`: how many jobs, and bytes, a queue may hold.
    """

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        budgets: tuple[int, int] | None = None,
    ) -> None:
        self._client = client
        self._reachability = reachability
        self._lists = Lists(client, reachability)
        self._budgets = budgets
        self.jobs = self._lists.jobs
        self.batch = self._lists.batch

    @cached_property
    def _capacity(self) -> Capacity:
        # A command that shows jobs does not look at it.
        from app.queue.capacity import Capacity  # noqa: PLC0415

        return Capacity(self._client, self._reachability, self._budgets)

    async def readiness(self, queues: Collection[str]) -> list[str]:
        """Why the service is not ready, in words; empty when it is."""
        return await self._capacity.readiness(queues)

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of a queue's capacity. At most a second old."""
        return await self._capacity.warnings(queue)

    def known_warnings(self, queue: str) -> list[str] | None:
        """The same for who cannot wait: None when it has to be looked for."""
        return self._capacity.known_warnings(queue)

    async def job(self, job_id: str) -> JobView | None:
        """The job, or None when there is none of that id."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.job(job_id))
            pipeline.xrevrange(keys.results(job_id), count=1)
            record, results = await self._ask(pipeline.execute())
        # Without a status it is a record ahead of its job, which may never be accepted;
        # unless its batch has been, and it is about to be queued.
        if b"status" not in record and b"x_batch" not in record:
            return None
        view = view_of(job_id, record, results[0][1] if results else None)
        if view.status == "scheduled" and not (view.scheduled_at or view.next_attempt_at):
            view.scheduled_at = await self._stock_schedule(job_id, record)
        await place(self._client, self._reachability, [view])
        return view

    async def trail(self, job_id: str) -> list[Event] | None:
        """The job's events so far, oldest first; None when there is no such job."""
        status, batch, trail = await self._ask(
            self._client.hmget(keys.job(job_id), "status", "x_batch", "x_trail")
        )
        return None if status is None and batch is None else events_of(trail or b"")

    async def session_secret(self) -> bytes:
        """The key that signs sessions: made once, the same for every process."""
        made = os.urandom(32).hex()
        await self._ask(self._client.set(keys.SECRET, made, nx=True))
        return bytes(await self._ask(self._client.get(keys.SECRET)))

    async def aclose(self) -> None:
        await self._lists.aclose()

    async def _stock_schedule(self, job_id: str, record: dict[bytes, bytes]) -> datetime | None:
        name = record.get(b"origin", b"default").decode("utf-8", "replace")
        score = await self._ask(self._client.zscore(keys.scheduled(name), job_id))
        return datetime.fromtimestamp(score, UTC) if score is not None else None

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)
