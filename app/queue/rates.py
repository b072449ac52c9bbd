"""Request rates of API keys, counted in Redis, so that they hold over all web processes."""

from __future__ import annotations

import redis.asyncio as async_redis

from app.queue import scripts
from app.queue.asking import ask
from app.queue.calling import run_script
from app.queue.connection import Lane, Reachability
from app.queue.records.drafts import Allowance


class RateLimiter:
    """`limit` requests in `window_seconds` for each key, in a sliding window."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        limit: int,
        window_seconds: int,
    ) -> None:
        self._lane = Lane(client, reachability)
        self._reachability = reachability
        self._limit = limit
        self._window_seconds = window_seconds

    async def take(self, key_name: str) -> Allowance:
        """Count one request of the key. Raises QueueUnavailableError."""
        asking = run_script(self._lane, scripts.RATE, key_name, self._limit, self._window_seconds)
        allowed, remaining, reset = await ask(asking, self._reachability)
        return Allowance(
            bool(allowed), self._limit, int(remaining), int(reset), self._window_seconds
        )

    async def aclose(self) -> None:
        await self._lane.close()
