"""Which failed jobs fit a filter: by what the indexes know of many at once (selection.lua)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import run_script, to_json
from app.queue.causes import Cause, Causes
from app.queue.connection import Lane, Reachability
from app.queue.records.failed import FailureFilter

# Jobs that a call looks at: they take the server about 3 ms.
_LOOKS = 2000
# Causes that a call is told of: most have few jobs.
_CAUSES = 200
# Records that a call reads: they take it about as long.
_RECORDS = 200
_SAMPLES = 10
# As budget.lua keeps batches, less what a web process's clock may differ.
_BATCH_SECONDS = 31 * 86400 - 3600
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_OUR_ID = re.compile(r"[0-9a-f]{35}", re.ASCII)


class Selecting:
    """Raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, lane: Lane, reachability: Reachability) -> None:
        self._client = client
        self._lane = lane
        self._reachability = reachability
        self._causes = Causes(client, reachability)

    async def freeze(self, wanted: FailureFilter) -> dict[str, Any]:
        """What fits now, as it is kept: which causes, up to which failure, how many jobs."""
        before = int(await self._ask(self._client.get(keys.FAILED_SEQ)) or 0)
        rest = _rest(wanted)
        batch = None
        if wanted.batch_id is not None:
            batch = await self._batch(wanted.batch_id)
        causes = await self._causes.of(wanted, frozenset(rest))
        if batch is None:
            count, sample = await self._look(causes, rest, before)
        else:
            causes = [each for each in causes if each.fingerprint in batch]
            chosen = {each.fingerprint: batch[each.fingerprint] for each in causes}
            count, sample = await self._look_at(chosen, rest, before)
        return {
            "asked": _asked(wanted), "filter": rest, "before": before,
            "causes": [each.fingerprint for each in causes], "count": count, "sample": sample,
        }  # fmt: skip

    async def count(self, wanted: FailureFilter) -> int:
        """How many fit now."""
        return int((await self.freeze(wanted))["count"])

    async def _look(
        self, causes: Sequence[Cause], rest: dict[str, Any], before: int
    ) -> tuple[int, list[str]]:
        """How many of their jobs fit, and some of these."""
        count, sample = 0, list[str]()
        # Together those of which the same is left to look at: mostly all.
        for names in dict.fromkeys(each.open for each in causes):
            alike = [each.fingerprint for each in causes if each.open == names]
            left = {name: value for name, value in rest.items() if name in names}
            if left:
                found, some = await self._search(alike, left, before)
            else:
                found, some = await self._count(alike, before)
            count += found
            sample += some
        return count, sample[:_SAMPLES]

    async def _batch(self, batch_id: str) -> dict[str, list[str]] | None:
        """Its jobs that show an error, by cause. None: it may be forgotten before its jobs are."""
        asking = self._client.lrange(f"{keys.batch(batch_id)}:jobs", 0, -1)
        ids = [each.decode() for each in await self._ask(asking)]
        if not ids:
            return None if _is_forgotten(batch_id, time.time()) else {}
        notes = await self._ask(self._client.hmget(keys.ERRORS, ids))
        found: dict[str, list[str]] = {}
        for each, note in zip(ids, notes, strict=True):
            fingerprint = _fingerprint_in(note)
            if fingerprint is not None:
                found.setdefault(fingerprint, []).append(each)
        return found

    async def _look_at(
        self, chosen: dict[str, list[str]], rest: dict[str, Any], before: int
    ) -> tuple[int, list[str]]:
        """These few jobs are looked at one by one."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for fingerprint, ids in chosen.items():
                pipeline.zmscore(keys.failure(fingerprint, ":jobs"), ids)
            rows = await self._ask(pipeline.execute()) if chosen else []
        there = [
            each
            for ids, numbers in zip(chosen.values(), rows, strict=True)
            for each, number in zip(ids, numbers, strict=True)
            if number is not None and number <= before
        ]
        fitting, text = list[str](), to_json(rest)
        for begin in range(0, len(there), _RECORDS):
            some = there[begin : begin + _RECORDS]
            found = await self._ask(run_script(self._lane, scripts.FITTING, text, *some))
            fitting += [each.decode() for each in found]
        return len(fitting), fitting[:_SAMPLES]

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


def _fingerprint_in(note: bytes | None) -> str | None:
    """Of a note in ERRORS; a spoilt one tells none, as for `noted` of index.lua."""
    try:
        found = json.loads(note or b"{}")
    except (ValueError, RecursionError):
        return None
    fingerprint = found.get("fingerprint") if isinstance(found, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def _is_forgotten(batch_id: str, now: float) -> bool:
    """Whether there may have been a batch of that id, so long ago that it is not kept any more."""
    if _OUR_ID.fullmatch(batch_id) is None:
        return False
    return int(batch_id[:13], 16) / 1e6 < now - _BATCH_SECONDS


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
    """As RQ writes times: in UTC, and in order as text, too."""
    if at is None:
        return None
    # Beyond these it is the same for every job, and no year of four digits in every zone.
    return min(max(at, _EARLIEST), _LATEST).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
