"""What runs have done so far, kept for whoever goes on with their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as async_redis

from app.queue import scripts
from app.queue.batching import Batcher
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, Reachability, until_answered
from app.queue.perform import check_result
from app.queue.transitions import Claimed
from jobs.errors import PermanentError


@dataclass(frozen=True, slots=True)
class _Item:
    claimed: Claimed
    text: str


class ResultKeeper:
    """One for a worker; runs that save together share a call."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability, worker: str) -> None:
        self._lane = Lane(client, reachability)
        self._worker = worker
        self._batcher: Batcher[_Item, bool] = Batcher(self._send, lambda item: len(item.text))

    async def save(self, claimed: Claimed, result: Any) -> None:
        """Return when Redis has it, however long Redis is away. Raises PermanentError for what is
        no result, and when the run is not this worker's any more."""
        if not await self._batcher.put(_Item(claimed, to_json(check_result(result)))):
            raise PermanentError("this run is no longer the job's", code="run_lost")

    async def aclose(self) -> None:
        await self._lane.close()

    async def _send(self, items: Sequence[_Item]) -> list[bool]:
        parts = [
            part
            for item in items
            for part in (item.claimed.id, item.claimed.execution, item.claimed.queue, item.text)
        ]
        answers = await until_answered(
            lambda: run_script(self._lane, scripts.SAVE, self._worker, len(items), *parts)
        )
        return [bool(answer) for answer in answers]
