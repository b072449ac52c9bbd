"""What the queues can take and who works on them: `/readyz`, and the warnings on jobs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import redis.asyncio as async_redis
from redis.exceptions import ResponseError

from app.queue import keys, server
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.errors import QueueUnavailableError
from app.queue.records.names import PRIORITIES, queue_name
from app.queue.workers import LiveWorker, Workers

WARNINGS_SECONDS = 1.0
# What the server says to a script that might write, it says before the script's first line.
WRITES_NOTHING = "#!lua flags=allow-oom\nreturn 1"
SPOILT = "a key that tells of workers, or of paused queues, holds something else"
SUSPENDED = "all workers are suspended (`rq suspend`): nothing is begun until `rq resume`"


class _Found(NamedTuple):
    """Who works, and what keeps them from it: `paused` says why, by queue."""

    live: list[LiveWorker]
    paused: dict[str, str]
    is_suspended: bool


class Capacity:
    """`budgets`: how many jobs, and bytes, a queue may hold."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        budgets: tuple[int, int] | None = None,
    ) -> None:
        self._budgets = budgets
        self._client = client
        self._reachability = reachability
        self._workers = Workers(client, reachability)
        self._looked_at = -WARNINGS_SECONDS
        self._looking: asyncio.Task[_Found] | None = None

    async def readiness(self, queues: Collection[str]) -> list[str]:
        """Why the service is not ready, in words; empty when it is."""
        try:
            reasons = server.faults(await self._server_facts()) or await self._refusal()
            reasons += await self._full(queues)
            found = await self._look()
        except QueueUnavailableError as error:
            return [error.reason]
        reasons += [SUSPENDED] * found.is_suspended
        served = {queue for worker in found.live for queue in worker.queues}
        reasons += [_nobody_listens(queue) for queue in queues if queue not in served]
        reasons += [_is_paused(queue, found.paused[queue]) for queue in sorted(found.paused)]
        faults = {worker.mail_fault for worker in found.live if worker.mail_fault}
        reasons += sorted(f"the mail server: {fault}" for fault in faults)
        return reasons

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of a queue's capacity. At most a second old."""
        return _warnings(await self._found(), queue)

    def known_warnings(self, queue: str) -> list[str] | None:
        """The same for who cannot wait: None when it has to be looked for."""
        looking = self._looking
        if looking is None or not looking.done() or self._is_old():
            return None
        return _warnings(looking.result(), queue)

    async def _found(self) -> _Found:
        """One look serves everybody who asks meanwhile, and for a while after."""
        if self._looking is None or (self._is_old() and self._looking.done()):
            self._looked_at = time.monotonic()
            self._looking = asyncio.create_task(self._look())
        elif self._looking.done():
            return self._looking.result()
        return await asyncio.shield(self._looking)

    def _is_old(self) -> bool:
        return time.monotonic() - self._looked_at > WARNINGS_SECONDS

    async def _look(self) -> _Found:
        try:
            live = await self._workers.live()
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.smembers(keys.PAUSED)
                pipeline.hgetall(keys.PAUSED_WHY)
                pipeline.exists(keys.SUSPENDED)
                paused, why, suspended = await self._ask(pipeline.execute())
        except ResponseError as error:
            raise QueueUnavailableError(SPOILT) from error
        reasons = {name.decode("utf-8", "replace"): pause_cause(why.get(name)) for name in paused}
        return _Found(live, reasons, bool(suspended))

    async def _full(self, queues: Collection[str]) -> list[str]:
        """Of which queues no more jobs are taken, by the budgets that submissions keep to."""
        if self._budgets is None:
            return []
        most_jobs, most_bytes = self._budgets
        names = [queue_name(queue, priority) for queue in queues for priority in PRIORITIES]
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(keys.queue(name))
                pipeline.zcard(keys.registry("scheduled", name))
                pipeline.zcard(keys.registry("deferred", name))
            pipeline.hgetall(keys.BYTES)
            *counts, sizes = await self._ask(pipeline.execute())
        depths = [sum(counts[at : at + 3]) for at in range(0, len(counts), 3)]
        full = [name for name, depth in zip(names, depths, strict=True) if depth >= most_jobs]
        full += [each for each in queues if int(sizes.get(each.encode(), 0)) >= most_bytes]
        return [f"queue {name} is full: no new jobs are taken for it" for name in full]

    async def _server_facts(self) -> dict[str, str]:
        facts: dict[str, str] = {}
        async with self._client.pipeline(transaction=False) as pipeline:
            for section in server.SECTIONS:
                pipeline.info(section)
            for found in await self._ask(pipeline.execute()):
                facts |= {name: str(value) for name, value in found.items()}
        return facts

    async def _refusal(self) -> list[str]:
        """What its facts do not tell: whether a snapshot that failed, or replicas that are
        missing, keep it from writing is a matter of its configuration, too.
        """
        try:
            await self._ask(self._client.eval(WRITES_NOTHING, 0))
        except QueueUnavailableError as error:
            return [error.reason]
        return []

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _warnings(found: _Found, queue: str) -> list[str]:
    warnings = [SUSPENDED] * found.is_suspended
    if queue in found.paused:
        warnings.append(_is_paused(queue, found.paused[queue]))
    if not any(queue in worker.queues for worker in found.live):
        warnings.append(_nobody_listens(queue))
    return warnings


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
