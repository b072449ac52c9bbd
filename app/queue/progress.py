"""How far runs are, told to Redis a few times a second at most, the newest word only."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from app.queue import scripts
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, is_away
from app.queue.transitions import Claimed

INTERVAL_SECONDS = 0.25
MESSAGE_CHARACTERS = 200
UNIT_CHARACTERS = 40


class ProgressReporter:
    """One for a worker. What is said between two reports is overtaken by the last word."""

    def __init__(self, lane: Lane, worker: str) -> None:
        self._lane = lane
        self._worker = worker
        self._latest: dict[str, tuple[Claimed, str]] = {}
        self._reporting: asyncio.Task[None] | None = None

    def note(
        self, claimed: Claimed, current: float, total: float | None, unit: str, message: str
    ) -> None:
        """Cheap: remembers, and sends later. Numbers that JSON has not are left out."""
        progress: dict[str, Any] = {
            "current": current,
            "total": total,
            "unit": unit[:UNIT_CHARACTERS],
            "message": message[:MESSAGE_CHARACTERS],
        }
        try:
            text = to_json(progress)
            text.encode()
        except (ValueError, TypeError):
            return
        self._latest[claimed.composite] = (claimed, text)
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())

    def take(self, claimed: Claimed) -> str:
        """The run has ended: its last word, where it has not been sent; it goes with the end."""
        return self._latest.pop(claimed.composite, (claimed, ""))[1]

    async def aclose(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.wait({self._reporting})
        await self._lane.close()

    async def _report(self) -> None:
        try:
            while self._latest:
                sent = dict(self._latest)
                parts = [
                    part
                    for claimed, text in sent.values()
                    for part in (claimed.id, claimed.execution, text)
                ]
                try:
                    await run_script(self._lane, scripts.PROGRESS, self._worker, len(sent), *parts)
                    self._latest = {
                        composite: word
                        for composite, word in self._latest.items()
                        # Until it has arrived, a word goes with the end of its run all the same.
                        if sent.get(composite) is not word
                    }
                except (RedisError, OSError, TimeoutError) as error:
                    if isinstance(error, RedisError) and not is_away(error):
                        raise
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            self._reporting = None
