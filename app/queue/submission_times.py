"""How long submissions take until Redis has acknowledged them, over all web processes.

Each process counts by itself and adds what it has counted to a hash in Redis, every few
seconds and when it leaves. What a killed process had not told yet is lost, five seconds at
most; what was under way when Redis went away may be counted less, never twice.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Mapping
from operator import add

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.logs import event
from app.queue import keys
from app.queue.connection import is_away
from app.queue.figures import BOUNDS, Times
from app.queue.server import refusal

log = logging.getLogger("recado.web")

TELL_SECONDS = 5.0
_SUM = "us"
_LIMITS = [float(bound) for bound in BOUNDS]


class SubmissionTimes:
    """One for a process."""

    def __init__(self, client: async_redis.Redis) -> None:
        self._client = client
        self._counts = [0] * len(BOUNDS)
        self._sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_LIMITS, seconds)] += 1
        self._sum_seconds += seconds

    async def run(self) -> None:
        """Tell Redis until cancelled."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell()

    async def tell(self) -> None:
        """Add what was counted to what Redis has; without a word when that cannot be now."""
        counts, self._counts = self._counts, [0] * len(BOUNDS)
        microseconds, self._sum_seconds = round(self._sum_seconds * 1e6), 0.0
        if not any(counts):
            return
        try:
            async with self._client.pipeline(transaction=True) as pipeline:
                for bound, count in zip(BOUNDS, counts, strict=True):
                    if count:
                        pipeline.hincrby(keys.SUBMISSIONS, bound, count)
                pipeline.hincrby(keys.SUBMISSIONS, _SUM, microseconds)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            if refusal(error) is not None:
                # Redis took nothing of it, and may take it when it has room again.
                self._counts = list(map(add, self._counts, counts))
                self._sum_seconds += microseconds / 1e6
            elif not is_away(error):
                event(log, "submission_times_untold", logging.ERROR, error=str(error))

    async def aclose(self) -> None:
        """Tell the rest."""
        await self.tell()


def read_times(stored: Mapping[bytes, bytes]) -> Times:
    """What all processes have told."""
    counts = [int(stored.get(bound.encode(), 0)) for bound in BOUNDS]
    return Times(counts, int(stored.get(_SUM.encode(), 0)) / 1e6)
