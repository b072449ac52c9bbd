"""What RQ's registries know of lists: which jobs run, or stand in one queue in some state.

Those are few among many that our indexes would have to be searched through for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import redis.asyncio as async_redis
from redis.exceptions import ResponseError

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.records.names import PRIORITIES, Status, queue_name
from app.queue.records.views import JobFilter
from app.queue.times import rq_time

# They are in order of time, lists in order of id: so many are sorted for a page at most.
MOST_SORTED = 5000
_KINDS: dict[Status, str] = {
    "started": "wip", "scheduled": "scheduled", "deferred": "deferred", "finished": "finished",
    "failed": "failed", "stopped": "failed", "canceled": "canceled",
}  # fmt: skip
# Of these no index of ours tells, in whichever queue.
_NOT_INDEXED = {"started", "finished"}
_SORTED_ID = re.compile("[0-9a-fA-F]{35}")


class Registries:
    """Every method raises QueueUnavailableError when Redis cannot be asked."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability

    async def keys_of(self, wanted: JobFilter) -> list[str]:
        """Those that have all that is wanted; none where they know no more than an index."""
        if wanted.status is None or wanted.status not in _KINDS:
            return []
        if wanted.queue is not None:
            names = [queue_name(wanted.queue, priority) for priority in PRIORITIES]
        elif wanted.status in _NOT_INDEXED:
            asking = self._client.smembers(keys.QUEUES)
            members = await ask(asking, self._reachability)
            cut = len(keys.queue(""))
            names = [each.decode("utf-8", "replace")[cut:] for each in members]
        else:
            return []
        return [keys.registry(_KINDS[wanted.status], name) for name in names]

    async def entries(self, registries: Sequence[str]) -> list[str]:
        """What stands in lists for the jobs of these, newest first."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in registries:
                pipeline.zrange(key, 0, MOST_SORTED)
            rows = await ask(pipeline.execute(raise_on_error=False), self._reachability)
        found: set[str] = set()
        for row in rows:
            if not isinstance(row, ResponseError):
                # An execution is named after its job.
                found.update(each.decode("utf-8", "replace").partition(":")[0] for each in row)
        strangers = [each for each in found if _SORTED_ID.fullmatch(each) is None]
        named = await self._names_in_lists(strangers) if strangers else []
        return sorted([*found.difference(strangers), *named], reverse=True)

    async def _names_in_lists(self, ids: Sequence[str]) -> list[str]:
        """See index.lua: a stock producer's job stands there with the time of its making."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(keys.job(job_id), "x_entry", "created_at")
            rows = await ask(pipeline.execute(raise_on_error=False), self._reachability)
        names = []
        for job_id, row in zip(ids, rows, strict=True):
            if isinstance(row, ResponseError):
                continue
            entry, made = row[0], rq_time(row[1])
            time = 0 if made is None else round(made.timestamp() * 1_000_000)
            names.append(entry.decode() if entry else f"{max(0, time):013x}:{job_id}")
        return names
