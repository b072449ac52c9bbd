"""promote and recover, again and again: in every worker, and in the web process too.

The web process helps because `recover` trusts silence only while somebody keeps asking:
when the only worker dies, somebody must have watched.
"""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from app.logs import event
from app.queue.connection import is_away
from app.queue.transitions import SILENCE_SECONDS, Caretaker

log = logging.getLogger("recado.upkeep")

PROMOTE_SECONDS = 1.0
RECOVER_SECONDS = SILENCE_SECONDS / 5
AWAY_SECONDS = 0.5


class Upkeep:
    """Runs until cancelled; an unreachable Redis only makes it wait."""

    def __init__(self, caretaker: Caretaker) -> None:
        self._caretaker = caretaker
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something was scheduled: look again when the next job is due."""
        self._poked.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        recover_at = loop.time()
        while True:
            wait = AWAY_SECONDS
            try:
                self._poked.clear()
                next_due = await self._promote()
                if loop.time() >= recover_at:
                    more = await self._recover()
                    recover_at = loop.time() + (0 if more else RECOVER_SECONDS)
                # Only with answers in hand: an overdue recover would make this spin.
                wait = min(next_due, max(0.0, recover_at - loop.time()))
            except (RedisError, OSError) as error:
                if not is_away(error):
                    event(log, "upkeep_failed", logging.ERROR, error=str(error))
            try:
                async with asyncio.timeout(wait):
                    await self._poked.wait()
            except TimeoutError:
                pass

    async def _promote(self) -> float:
        promoted, next_due = await self._caretaker.promote()
        for each in promoted:
            event(
                log, "job_queued", job_id=each.id, type=each.type or None, queue=each.queue,
                attempt=each.attempt, request_id=each.request_id or None,
            )  # fmt: skip
        return PROMOTE_SECONDS if next_due is None else min(PROMOTE_SECONDS, next_due)

    async def _recover(self) -> bool:
        recovered, more = await self._caretaker.recover()
        for each in recovered:
            event(
                log, "job_recovered" if each.fate == "requeued" else f"job_{each.fate}",
                logging.WARNING, job_id=each.id, type=each.type or None, queue=each.queue,
                attempt=each.attempt, request_id=each.request_id or None,
                silent_worker=each.worker or None,
            )  # fmt: skip
        return more
