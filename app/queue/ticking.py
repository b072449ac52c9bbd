"""What schedules do: each tick becomes one job, whoever looks and however often.

Every process that keeps up looks, and may: a script takes the tick and makes its job in one
step, so that there is nothing to be elected, locked or lost between the two.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.logs import event
from app.queue import scripts, server
from app.queue.calling import run_script
from app.queue.connection import Lane, Reachability
from app.queue.errors import QueueUnavailableError, TooManySchedulesError
from app.queue.packing import pack
from app.queue.records.drafts import JobDraft
from app.queue.schedules import Schedules, read_schedule
from app.schedule import Schedule, decide, from_ms

log = logging.getLogger("recado.schedules")

# Of each schedule the jobs of so many ticks are remembered.
LAST_RUNS = 20
# What is put off is tried again so soon.
RETRY_SECONDS = 5.0
_MOST_DUE = 50


@dataclass(frozen=True, slots=True)
class Run:
    """A tick that is to be a job: whose, of which request, under which id."""

    schedule: Schedule
    by: str
    request_id: str | None
    job_id: str
    at: datetime


# Raises ValueError with what is wrong: the type may be gone, or take other params by now.
MakeJob = Callable[[Run], JobDraft]


@dataclass(frozen=True, slots=True)
class _Due:
    schedule: Schedule
    facts: dict[bytes, bytes]

    @property
    def tick_ms(self) -> int:
        return int(self.facts[b"next"])

    def text(self, name: bytes) -> str:
        return self.facts.get(name, b"").decode()

    def run(self, tick_ms: int) -> Run:
        # Derived, so that the same tick is the same job; of a seed that is told to nobody.
        digest = hashlib.sha256(f"{self.text(b'seed')}:{tick_ms}".encode()).hexdigest()
        return Run(
            self.schedule, self.text(b"by"), self.text(b"request") or None,
            f"{tick_ms * 1000:013x}{digest[:22]}", from_ms(tick_ms),
        )  # fmt: skip


class Ticker:
    """`declared` is what stands in the schedules' file; None: there is no such file."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        make: MakeJob,
        *,
        most_queued: int,
        most_queued_bytes: int,
        declared: Sequence[Schedule] | None = None,
    ) -> None:
        self._lane = Lane(client, reachability)
        self._schedules = Schedules(client, reachability)
        self._make = make
        self._budgets = (most_queued, most_queued_bytes)
        self._declared = declared
        # Ticks that Redis refused for want of memory: it could not even note that.
        self._refused: set[tuple[str, int]] = set()

    async def prepare(self) -> None:
        """Say what stands in the file, once; no answer leaves it to the next call."""
        if self._declared is None:
            return
        try:
            for name in await self._schedules.declare(self._declared):
                event(log, "schedule_declared", schedule=name)
        except QueueUnavailableError:
            return
        except TooManySchedulesError as error:
            event(log, "schedules_refused", logging.ERROR, error=str(error))
        self._declared = None

    async def look(self) -> float | None:
        """Do what is due. Returns seconds until the next tick, None when there is none."""
        now_ms, wait_ms, found = await run_script(self._lane, scripts.DUE, _MOST_DUE)
        for name, *facts in found:
            await self._tick(name.decode(), dict(zip(facts[::2], facts[1::2], strict=True)), now_ms)
        if self._refused:
            return RETRY_SECONDS
        return None if wait_ms < 0 else wait_ms / 1000

    async def aclose(self) -> None:
        await self._lane.close()
        await self._schedules.aclose()

    async def _tick(self, name: str, facts: dict[bytes, bytes], now_ms: int) -> None:
        due = _Due(read_schedule(name, facts[b"spec"]), facts)
        decision = decide(
            due.schedule, due.tick_ms, now_ms, int(facts[b"anchor"]),
            was_put_off=due.text(b"put_off") == str(due.tick_ms)
            or (name, due.tick_ms) in self._refused,
        )  # fmt: skip
        arguments = [
            name, due.text(b"rev"), due.tick_ms, decision.next_ms,
            "" if decision.run_ms is None else decision.run_ms,
            int(decision.is_missed), due.schedule.overlap,
        ]  # fmt: skip
        job_id, fault = None, ""
        job: list[str] = []
        if decision.run_ms is not None:
            run = due.run(decision.run_ms)
            job_id = run.job_id
            fault, job = self._job(run)
        await self._send(due, job_id, [*arguments, fault, *self._limits(), *job])

    def _limits(self) -> list[Any]:
        return [round(RETRY_SECONDS * 1000), *self._budgets, LAST_RUNS]

    def _job(self, run: Run) -> tuple[str, list[str]]:
        try:
            draft = self._make(run)
        except ValueError as error:
            return str(error)[:500], []
        except Exception as error:
            # A type's own validators may fail in any way; other schedules must not wait for it.
            log.exception("schedule_job_broke")
            return f"{type(error).__name__} while its params were checked", []
        return "", pack(draft).accepted_elsewhere()

    async def _send(self, due: _Due, job_id: str | None, arguments: list[Any]) -> None:
        place = (due.schedule.name, due.tick_ms)
        try:
            word, *rest = await run_script(self._lane, scripts.TICK, *arguments)
        except RedisError as error:
            refusal = server.refusal(error)
            if refusal is None:
                raise
            if place not in self._refused:
                _tell(due, "schedule_put_off", logging.WARNING, reason=refusal)
            self._refused.add(place)
            return
        self._refused.discard(place)
        match word:
            case b"queued":
                _tell(due, "schedule_ticked", job_id=job_id, status=rest[0].decode())
            case b"missed":
                _tell(due, "schedule_skipped", logging.WARNING, reason="missed")
            case b"overlap":
                _tell(
                    due, "schedule_skipped", logging.WARNING, reason="overlap",
                    job_id=rest[0].decode(),
                )  # fmt: skip
            case b"put_off" if rest[0]:
                _tell(due, "schedule_put_off", logging.WARNING, reason=rest[0].decode())


def _tell(due: _Due, what: str, level: int = logging.INFO, **facts: Any) -> None:
    tick = from_ms(due.tick_ms).isoformat().replace("+00:00", "Z")
    event(log, what, level, schedule=due.schedule.name, tick=tick, **facts)
