"""What causes of failures tell of all of their jobs at once, and whether it is to be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.records.failed import FailureFilter
from app.queue.records.names import PRIORITIES, queue_name

_STOPPED = f"{keys.INDEX}status:stopped"
# Jobs that are looked for in a queue's registries, 1 us each, to learn whether its causes agree.
_FEW = 4000


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause whose jobs may fit, and the names of the filters that each of them has to pass."""

    fingerprint: str
    open: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Told:
    """The key of its jobs, how many they are, what all have in common; None: that is not known."""

    jobs: str
    size: int
    common: Mapping[str, bytes | None]


class Causes:
    """Raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability

    async def of(self, wanted: FailureFilter, names: frozenset[str]) -> list[Cause]:
        """Those that have failed jobs that may fit, the one that came last first.

        `names` are those of the filters that jobs have to pass, of which causes settle some.
        """
        every = list[str]()
        if wanted.fingerprint is None or wanted.queue is not None:
            found = await self._ask(self._client.zrevrange(keys.FAILURES, 0, -1))
            every = [each.decode() for each in found]
        causes = every if wanted.fingerprint is None else [wanted.fingerprint]
        asked = {"type": wanted.type, "queue": wanted.queue, "error": wanted.error}
        if not causes or all(each is None for each in asked.values()):
            return [Cause(each, names) for each in causes]
        told = await self._told([*dict.fromkeys(causes + every)])
        unsettled = frozenset[str]()
        if wanted.queue is not None and not await self._agree(told.values(), wanted.queue):
            unsettled = frozenset({"queue"})
        return [
            Cause(each, names - settled | unsettled)
            for each in causes
            if (settled := _settled(asked, told[each].common)) is not None
        ]

    async def _told(self, causes: Sequence[str]) -> dict[str, _Told]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in causes:
                jobs = keys.failure(each, ":jobs")
                pipeline.hmget(keys.failure(each), "type", "only_queue", "only_code", "told")
                pipeline.zrevrange(jobs, 0, 0, withscores=True)
                pipeline.zcard(jobs)
            rows = await self._ask(pipeline.execute())
        told = zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        return {
            cause: _told_by(keys.failure(cause, ":jobs"), *row)
            for cause, row in zip(causes, told, strict=True)
        }

    async def _agree(self, told: Collection[_Told], queue: str) -> bool:
        """Whether a queue's failed registries have as many jobs as its causes.

        Stock tools take jobs out of those and tell no cause; upkeep does, a while later. Beside
        them registries have what was stopped, and a part of the causes of several queues.
        """
        theirs = [each.size for each in told if each.common["queue"] == queue.encode()]
        if not theirs:
            return True
        registries = [keys.registry("failed", queue_name(queue, each)) for each in PRIORITIES]
        mixed = [each for each in told if each.common["queue"] is None]
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in [*registries, _STOPPED]:
                pipeline.zcard(name)
            *registered, stopped = await self._ask(pipeline.execute(raise_on_error=False))
            # A key that is something else tells nothing.
            if not all(isinstance(each, int) for each in [*registered, stopped]):
                return False
            if stopped + sum(each.size for each in mixed) > _FEW:
                return False
            others = [*([_STOPPED] if stopped else []), *(each.jobs for each in mixed)]
            for registry, other in itertools.product(registries, others):
                pipeline.zintercard(2, [registry, other])
            shared = await self._ask(pipeline.execute())
        return bool(sum(registered) == sum(theirs) + sum(shared))

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _told_by(
    jobs: str, facts: Sequence[bytes | None], last: Sequence[tuple[bytes, float]], size: int
) -> _Told:
    type_name, queue, code, told = facts
    # Of a job with a later number a worker of an older release has told nothing.
    number = int(told) if told is not None and told.isdigit() else 0
    is_told = not last or last[0][1] <= number
    common = {"type": type_name, "queue": queue, "error": code}
    return _Told(jobs, size, common if is_told else {**common, "queue": None, "error": None})


def _settled(
    asked: Mapping[str, str | None], common: Mapping[str, bytes | None]
) -> frozenset[str] | None:
    """The filters that all jobs of a cause pass, by what it tells of them; None: no job does."""
    settled = set[str]()
    for name, value in asked.items():
        found = common[name]
        if value is None or (found is None and name != "type"):
            continue
        if found != value.encode():
            return None
        settled.add(name)
    return frozenset(settled)
