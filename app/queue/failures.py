"""Failed jobs by cause, as scripts/groups.lua keeps them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.errors import BadCursorError
from app.queue.fingerprints import pattern_of
from app.queue.records.failed import FailureGroup, FailurePage
from app.queue.times import from_us

SAMPLES = 5
_CURSOR = re.compile(r"(\d{1,16})-([0-9a-f]{16})", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)
_CHUNK = 200
# Bucket, and how many of them: the one that is not over counts with them.
_WINDOWS = {"1h": ("m", 60), "24h": ("h", 24), "7d": ("h", 168)}
_BUCKET_SECONDS = {"m": 60, "h": 3600}


class FailureGroups:
    """Every method raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability

    async def page(self, limit: int, cursor: str | None) -> FailurePage:
        """That which failed last first. Raises BadCursorError."""
        entries = await self._entries(limit + 1, _read_cursor(cursor))
        page, more = entries[:limit], len(entries) > limit
        groups = await self._groups([fingerprint for _, fingerprint in page])
        last = f"{page[-1][0]}-{page[-1][1]}" if more else None
        return FailurePage(groups, last)

    async def group(self, fingerprint: str) -> FailureGroup | None:
        """None: nothing that has failed has this cause."""
        if _FINGERPRINT.fullmatch(fingerprint) is None:
            return None
        return next(iter(await self._groups([fingerprint])), None)

    async def _entries(self, count: int, after: tuple[int, str] | None) -> list[tuple[int, str]]:
        """Microseconds and fingerprint, behind `after`. What fails at once has one time."""
        entries: list[tuple[int, str]] = []
        highest, offset = "+inf" if after is None else str(after[0]), 0
        while len(entries) < count:
            asking = self._client.zrevrangebyscore(
                keys.FAILURES, highest, "-inf", start=offset, num=_CHUNK, withscores=True
            )
            found = await ask(asking, self._reachability)
            pairs = [(int(score), member.decode()) for member, score in found]
            entries += [pair for pair in pairs if after is None or pair < after]
            offset += len(found)
            if len(found) < _CHUNK:
                break
        return entries[:count]

    async def _groups(self, fingerprints: Sequence[str]) -> list[FailureGroup]:
        if not fingerprints:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in fingerprints:
                pipeline.hgetall(keys.failure(each))
                pipeline.zcard(keys.failure(each, ":jobs"))
                pipeline.zrevrange(keys.failure(each, ":jobs"), 0, SAMPLES - 1)
                pipeline.hgetall(keys.failure(each, ":trend"))
            rows = await ask(pipeline.execute(), self._reachability)
        now = time.time()
        groups = [
            _group(fingerprint, facts, count, [each.decode() for each in ids], trend_of(trend, now))
            for fingerprint, facts, count, ids, trend in zip(
                fingerprints, rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True
            )
            if facts and count
        ]
        return [await self._with_type(group) for group in groups]

    async def _with_type(self, group: FailureGroup) -> FailureGroup:
        """A stock producer's jobs say their type only in their call."""
        if group.type or not group.samples:
            return group
        from app.queue.reading import view_of  # noqa: PLC0415 - there are few of those

        job_id = group.samples[0]
        asking = self._client.hmget(keys.job(job_id), "data", "origin")
        data, origin = await ask(asking, self._reachability)
        record = {b"data": data or b"", b"origin": origin or b""}
        group.type = view_of(job_id, record, None).type
        return group


def trend_of(buckets: Mapping[bytes, bytes], now: float) -> dict[str, int]:
    """Failures in the last hour, day and week."""
    counts = {"m": dict[int, int](), "h": dict[int, int]()}
    for name, count in buckets.items():
        kind, at = name[:1].decode(), name[1:]
        if kind in counts and at.isdigit():
            counts[kind][int(at)] = int(count)
    return {
        window: sum(
            count
            for at, count in counts[kind].items()
            if at > int(now // _BUCKET_SECONDS[kind]) - length
        )
        for window, (kind, length) in _WINDOWS.items()
    }


def _group(
    fingerprint: str,
    facts: Mapping[bytes, bytes],
    count: int,
    samples: list[str],
    trend: dict[str, int],
) -> FailureGroup:
    def text(name: bytes) -> str:
        return facts.get(name, b"").decode("utf-8", "replace")

    def at(name: bytes) -> Any:
        return from_us(int(facts.get(name, b"0")))

    return FailureGroup(
        fingerprint=fingerprint,
        is_regressed=b"regressed" in facts,
        count=count,
        type=text(b"type"),
        queue=text(b"queue"),
        error_class=text(b"class"),
        message=pattern_of(text(b"message")),
        first_seen=at(b"first"),
        last_seen=at(b"last"),
        trend=trend,
        samples=samples,
    )


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadCursorError
    return int(found[1]), found[2]
