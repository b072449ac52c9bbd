"""Schedules as Redis keeps them: made, replaced, deleted, shown. What they do is in ticking.py."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, Reachability
from app.queue.errors import (
    BadCursorError,
    ScheduleExistsError,
    ScheduleFromFileError,
    ScheduleNotFoundError,
    TooManySchedulesError,
)
from app.queue.times import from_us
from app.schedule import FILE_KEY, Schedule, SchedulePage, ScheduleView, Skip, from_ms

MOST_SCHEDULES = 1000
NEXT_RUNS = 5


class Schedules:
    """Every method raises QueueUnavailableError. `by` is the acting key's name."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lane = Lane(client, reachability)

    async def create(self, schedule: Schedule, by: str, request_id: str) -> ScheduleView:
        """Raises ScheduleExistsError, TooManySchedulesError."""
        await self._put("create", schedule, by, request_id)
        return await self.view(schedule.name)

    async def replace(
        self, schedule: Schedule, by: str, request_id: str
    ) -> tuple[ScheduleView, bool]:
        """True: there was none. Raises ScheduleFromFileError, TooManySchedulesError."""
        word = await self._put("replace", schedule, by, request_id)
        return await self.view(schedule.name), word == "created"

    async def delete(self, name: str, by: str) -> None:
        """Its jobs stay. Raises ScheduleNotFoundError, ScheduleFromFileError."""
        match await self._run("delete", name, by):
            case "none":
                raise ScheduleNotFoundError(name)
            case "file":
                raise ScheduleFromFileError(name)

    async def declare(self, schedules: Sequence[Schedule]) -> list[str]:
        """What stands in the file, and nothing else of a file. Returns the names that changed.

        Raises TooManySchedulesError.
        """
        wanted = {each.name for each in schedules}
        changed = [
            each.name
            for each in schedules
            if await self._put("declare", each, FILE_KEY, "") != "same"
        ]
        for name in await self._names():
            source = await self._ask(self._client.hget(keys.schedule(name), "source"))
            if source == b"file" and name not in wanted:
                await self._run("drop", name, FILE_KEY)
                changed.append(name)
        return changed

    async def view(self, name: str) -> ScheduleView:
        """Raises ScheduleNotFoundError."""
        found = await self._views([name])
        if not found:
            raise ScheduleNotFoundError(name)
        return found[0]

    async def page(self, limit: int, cursor: str | None) -> SchedulePage:
        """In order of name; the cursor is the last one seen. Raises BadCursorError."""
        names = await self._names()
        if cursor is not None:
            if not 0 < len(cursor) <= 100:
                raise BadCursorError
            names = [each for each in names if each > cursor]
        page = names[:limit]
        return SchedulePage(await self._views(page), page[-1] if len(names) > limit else None)

    async def aclose(self) -> None:
        await self._lane.close()

    async def _names(self) -> list[str]:
        found = await self._ask(self._client.zrange(keys.SCHEDULES, 0, -1))
        return sorted(each.decode() for each in found)

    async def _views(self, names: Sequence[str]) -> list[ScheduleView]:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for each in names:
                pipeline.hgetall(keys.schedule(each))
                pipeline.lrange(keys.schedule(each, ":runs"), 0, -1)
            (seconds, micros), *found = await self._ask(pipeline.execute())
        now_ms = seconds * 1000 + micros // 1000
        return [
            _view(name, facts, runs, now_ms)
            for name, facts, runs in zip(names, found[::2], found[1::2], strict=True)
            if facts
        ]

    async def _put(self, act: str, schedule: Schedule, by: str, request_id: str) -> str:
        seconds, micros = await self._ask(self._client.time())
        # To the whole second: an interval of a minute then ticks on one.
        anchor_ms = seconds * 1000
        now_ms = anchor_ms + micros // 1000
        next_ms = next(schedule.after(now_ms, anchor_ms))
        word = await self._run(
            act, schedule.name, by,
            to_json(_stored(schedule)), schedule.timing, next_ms, anchor_ms, os.urandom(16).hex(),
            request_id, MOST_SCHEDULES,
        )  # fmt: skip
        if word == "taken":
            raise ScheduleExistsError(schedule.name)
        if word == "file":
            raise ScheduleFromFileError(schedule.name)
        if word == "many":
            raise TooManySchedulesError(MOST_SCHEDULES)
        return word

    async def _run(self, act: str, name: str, by: str, *arguments: Any) -> str:
        calling = run_script(self._lane, scripts.SCHEDULE, act, name, by, *arguments)
        answer = await self._ask(calling)
        return cast("bytes", answer[0]).decode()

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def read_schedule(name: str, stored: bytes) -> Schedule:
    """A schedule from the JSON that is kept of it."""
    return Schedule(name=name, **json.loads(stored))


def _stored(schedule: Schedule) -> dict[str, Any]:
    return {name: value for name, value in schedule._asdict().items() if name != "name"}


def _view(name: str, facts: dict[bytes, bytes], runs: Sequence[bytes], now_ms: int) -> ScheduleView:
    schedule = read_schedule(name, facts[b"spec"])
    next_ms, anchor_ms = int(facts[b"next"]), int(facts[b"anchor"])
    # What is put off is tried at any moment; the rest is as planned.
    coming = [next_ms] if next_ms > now_ms else []
    after = schedule.after(max(next_ms, now_ms), anchor_ms)
    skip = None
    if b"skip_at" in facts:
        skip = Skip(from_ms(int(facts[b"skip_at"])), facts[b"skip_reason"].decode())
    return ScheduleView(
        schedule=schedule,
        source="file" if facts[b"source"] == b"file" else "http",
        created_by=facts[b"by"].decode(),
        created_at=from_us(int(facts[b"created"])),
        updated_at=from_us(int(facts[b"updated"])),
        next_runs=[from_ms(each) for each in [*coming, *islice(after, NEXT_RUNS - len(coming))]],
        last_runs=[each.decode() for each in runs],
        last_skip=skip,
        fault=facts[b"fault"].decode() if b"fault" in facts else None,
    )
