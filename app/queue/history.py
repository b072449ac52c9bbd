"""What waited in the last hour, as upkeep has noted it once a minute (recover.lua)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.counts import MINUTES
from app.queue.figures import Depths
from app.queue.times import from_us, rq_time


class History:
    """A note never changes: each is asked for once by a process."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._known: dict[int, Depths] = {}

    async def hour(self) -> list[Depths]:
        """Oldest first; of minutes in which nobody was there, nothing.

        Raises QueueUnavailableError.
        """
        (seconds, _) = await ask(self._client.time(), self._reachability)
        wanted = range(seconds // 60 - MINUTES, seconds // 60 + 1)
        known = {minute: note for minute, note in self._known.items() if minute in wanted}
        missing = [minute for minute in wanted if minute not in known]
        asking = self._client.mget([keys.minute_waiting(minute) for minute in missing])
        for minute, text in zip(missing, await ask(asking, self._reachability), strict=True):
            note = _noted(text)
            if note is not None:
                known[minute] = note
        self._known = known
        return [known[minute] for minute in sorted(known)]


def _noted(text: bytes | None) -> Depths | None:
    """None where there is no note that can be read."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        note: dict[str, Any] = json.loads(text or b"")
        at, depths, ages = from_us(int(note["at"])), {}, {}
        for queue, (depth, since) in note["queues"].items():
            depths[queue] = int(depth)
            begun = rq_time(since.encode())
            if begun is not None:
                ages[queue] = max(0.0, (at - begun).total_seconds())
        return Depths(at, depths, ages)
    return None
