"""Reading: one job, and how ready the service is. Nothing here changes a job."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys, server
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.errors import QueueUnavailableError
from app.queue.lists import Lists
from app.queue.places import place
from app.queue.reading import events_of, view_of
from app.queue.records import Event, JobView
from app.queue.workers import LiveWorker, Workers

WARNINGS_SECONDS = 1.0


class Views:
    """Every method raises QueueUnavailableError when Redis cannot be asked."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lists = Lists(client, reachability)
        self._workers = Workers(client, reachability)
        self.jobs = self._lists.jobs
        self.batch = self._lists.batch
        self._looked_at = -WARNINGS_SECONDS
        self._looking: asyncio.Task[tuple[list[LiveWorker], dict[str, str]]] | None = None

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

    async def readiness(self, queues: Iterable[str]) -> list[str]:
        """Why the service is not ready, in words; empty when it is."""
        try:
            reasons = server.faults(await self._server_facts())
            live = await self._workers.live()
            paused = await self._paused()
        except QueueUnavailableError as error:
            return [error.reason]
        served = {queue for worker in live for queue in worker.queues}
        reasons += [_nobody_listens(queue) for queue in queues if queue not in served]
        reasons += [_is_paused(queue, paused[queue]) for queue in sorted(paused)]
        faults = {worker.mail_fault for worker in live if worker.mail_fault}
        reasons += sorted(f"the mail server: {fault}" for fault in faults)
        return reasons

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of a queue's capacity. At most a second old."""
        live, paused = await self._capacity()
        warnings = [_is_paused(queue, paused[queue])] if queue in paused else []
        if not any(queue in worker.queues for worker in live):
            warnings.append(_nobody_listens(queue))
        return warnings

    async def _capacity(self) -> tuple[list[LiveWorker], dict[str, str]]:
        """One look serves everybody who asks meanwhile, and for a while after."""
        now = time.monotonic()
        is_old = now - self._looked_at > WARNINGS_SECONDS
        if self._looking is None or (is_old and self._looking.done()):
            self._looked_at = now
            self._looking = asyncio.create_task(self._look())
        elif self._looking.done():
            return self._looking.result()
        return await asyncio.shield(self._looking)

    async def _look(self) -> tuple[list[LiveWorker], dict[str, str]]:
        return await self._workers.live(), await self._paused()

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

    async def _server_facts(self) -> dict[str, str]:
        facts: dict[str, str] = {}
        async with self._client.pipeline(transaction=False) as pipeline:
            for section in server.SECTIONS:
                pipeline.info(section)
            for found in await self._ask(pipeline.execute()):
                facts |= {name: str(value) for name, value in found.items()}
        return facts

    async def _paused(self) -> dict[str, str]:
        """Why, by queue; nothing where an operator did it."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.smembers(keys.PAUSED)
            pipeline.hgetall(keys.PAUSED_WHY)
            paused, why = await self._ask(pipeline.execute())
        return {name.decode(): pause_cause(why.get(name)) for name in paused}

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _nobody_listens(queue: str) -> str:
    return f"no live worker listens to queue {queue}"


def _is_paused(queue: str, why: str) -> str:
    return f"queue {queue} is paused" + (f" by itself: {why}" if why else "")


def pause_cause(error: bytes | None) -> str:
    """The error for which a queue has paused itself, in words; empty where there is none."""
    try:
        found = json.loads(error or b"{}")
        return f"{found['code']}: {found['message']}"
    except (ValueError, KeyError, TypeError):
        return ""
