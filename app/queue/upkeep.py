"""promote, recover and schedules, again and again: in every worker, and in the web process too.

The web process helps because `recover` trusts silence only while somebody keeps asking:
when the only worker dies, somebody must have watched.
"""

from __future__ import annotations

import asyncio
import logging
import math

from redis.exceptions import RedisError

from app.logs import event
from app.queue.connection import is_away
from app.queue.ticking import Ticker
from app.queue.transitions import Caretaker
from app.queue.workers import SILENCE_SECONDS

log = logging.getLogger("recado.upkeep")

# A stock producer schedules without a word: look whether there is anything so often, and
# in queues that nobody has named yet, so often.
PROMOTE_SECONDS = 1.0
SEARCH_SECONDS = 15.0
RECOVER_SECONDS = SILENCE_SECONDS / 4
# Jobs that stock tools have failed get their causes so often; sooner, while there are any.
EXPLAIN_SECONDS = 60.0
AWAY_SECONDS = 0.5


class Upkeep:
    """Runs until cancelled; an unreachable Redis only makes it wait."""

    def __init__(self, caretaker: Caretaker, ticker: Ticker | None = None) -> None:
        self._caretaker = caretaker
        self._ticker = ticker
        self._poked = asyncio.Event()
        self._search_at = -math.inf

    def poke(self) -> None:
        """Something was scheduled: look again when the next job is due."""
        self._poked.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        recover_at = explain_at = loop.time()
        while True:
            wait = AWAY_SECONDS
            try:
                next_due = await self._look()
                if loop.time() >= recover_at:
                    more = await self._recover()
                    recover_at = loop.time() + (0 if more else RECOVER_SECONDS)
                if loop.time() >= explain_at:
                    found = await self._caretaker.explain()
                    explain_at = loop.time() + (RECOVER_SECONDS if found else EXPLAIN_SECONDS)
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

    async def _look(self) -> float:
        """Seconds until it is time to look again."""
        now = asyncio.get_running_loop().time()
        if self._ticker is not None:
            await self._ticker.prepare()
        if self._poked.is_set() or now >= self._search_at or await self._caretaker.has_scheduled():
            self._poked.clear()
            next_due = min(await self._promote(), await self._tick())
            self._search_at = now + SEARCH_SECONDS
            return min(PROMOTE_SECONDS, next_due)
        return PROMOTE_SECONDS

    async def _promote(self) -> float:
        promoted, next_due = await self._caretaker.promote()
        for each in promoted:
            event(
                log, "job_queued", job_id=each.id, type=each.type or None, queue=each.queue,
                attempt=each.attempt, request_id=each.request_id or None,
            )  # fmt: skip
        return math.inf if next_due is None else next_due

    async def _tick(self) -> float:
        next_tick = None if self._ticker is None else await self._ticker.look()
        return math.inf if next_tick is None else next_tick

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
