"""Which failed jobs fit a filter: by what the indexes know of many at once (selection.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, Reachability
from app.queue.records import FailureFilter

# Jobs that a call looks at: they take the server about 3 ms.
_LOOKS = 2000
# Causes that a call is told of: most have few jobs.
_CAUSES = 200
_SAMPLES = 10


class Selecting:
    """Raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, lane: Lane, reachability: Reachability) -> None:
        self._client = client
        self._lane = lane
        self._reachability = reachability

    async def freeze(self, wanted: FailureFilter) -> dict[str, Any]:
        """What fits now, as it is kept: which causes, up to which failure, how many jobs."""
        before = int(await self._ask(self._client.get(keys.FAILED_SEQ)) or 0)
        causes = await self._causes(wanted)
        rest = _rest(wanted)
        if rest:
            count, sample = await self._search(causes, rest, before)
        else:
            count, sample = await self._count(causes, before)
        return {
            "asked": _asked(wanted), "filter": rest, "before": before, "causes": causes,
            "count": count, "sample": sample,
        }  # fmt: skip

    async def _causes(self, wanted: FailureFilter) -> list[str]:
        """Those that have failed jobs, the one that came last first."""
        if wanted.fingerprint is not None:
            causes = [wanted.fingerprint]
        else:
            found = await self._ask(self._client.zrevrange(keys.FAILURES, 0, -1))
            causes = [each.decode() for each in found]
        if wanted.type is None or not causes:
            return causes
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in causes:
                pipeline.hget(keys.failure(each), "type")
            types = await self._ask(pipeline.execute())
        wanted_type = wanted.type.encode()
        return [each for each, found in zip(causes, types, strict=True) if found == wanted_type]

    async def _count(self, causes: Sequence[str], before: int) -> tuple[int, list[str]]:
        if not causes:
            return 0, []
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in causes:
                pipeline.zcount(keys.failure(each, ":jobs"), "-inf", before)
            counts = await self._ask(pipeline.execute())
        sample: list[str] = []
        for each in causes:
            if len(sample) >= _SAMPLES:
                break
            asking = self._client.zrevrangebyscore(
                keys.failure(each, ":jobs"), before, "-inf", start=0, num=_SAMPLES - len(sample)
            )
            sample += [job_id.decode() for job_id in await self._ask(asking)]
        return sum(counts), sample

    async def _search(
        self, causes: Sequence[str], rest: dict[str, Any], before: int
    ) -> tuple[int, list[str]]:
        """All of them are looked at, so many a call; between two calls others are served."""
        count, place, after, text = 0, 0, b"0", to_json(rest)
        sample: list[str] = []
        while place < len(causes):
            some = causes[place : place + _CAUSES]
            fitting, passed, after, *ids = await self._ask(
                run_script(self._lane, scripts.SELECT, text, after, before, _LOOKS, *some)
            )
            count += fitting
            place += passed
            sample += [each.decode() for each in ids[: _SAMPLES - len(sample)]]
        return count, sample

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _rest(wanted: FailureFilter) -> dict[str, Any]:
    """What the cause does not decide, as selection.lua reads it."""
    rest: dict[str, Any] = {
        "queue": wanted.queue,
        "error": wanted.error,
        "tag": None if wanted.tag is None else list(wanted.tag),
        "batch": wanted.batch_id,
        "created_after": _stamp(wanted.created_after),
        "created_before": _stamp(wanted.created_before),
    }
    return {name: value for name, value in rest.items() if value is not None}


def _asked(wanted: FailureFilter) -> dict[str, str]:
    """In the words of the API."""
    asked = {
        "fingerprint": wanted.fingerprint,
        "type": wanted.type,
        "queue": wanted.queue,
        "error": wanted.error,
        "tag": None if wanted.tag is None else ":".join(wanted.tag),
        "batch_id": wanted.batch_id,
        "created_after": _stamp(wanted.created_after),
        "created_before": _stamp(wanted.created_before),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _stamp(at: datetime | None) -> str | None:
    """As RQ writes times: in order as text, too."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
