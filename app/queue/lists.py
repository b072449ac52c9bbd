"""Lists of jobs: one index drives, records decide, and a page looks at so many at most."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import islice
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.bounds import bounds, is_made_between, near
from app.queue.calling import run_script
from app.queue.connection import Lane, Reachability
from app.queue.errors import BadCursorError
from app.queue.glancing import glance_filter
from app.queue.places import place
from app.queue.reading import view_of
from app.queue.records.views import BatchView, JobFilter, JobView, Page
from app.queue.registries import MOST_SORTED, Registries
from app.queue.times import rq_time

MOST_LOOKED_AT = 1000
CHUNK = 200
# What only its time leaves out is told by that one field: it does not count among those.
MOST_PASSED = 20_000
PASSED_CHUNK = 500
MOST_FAILURES = 10
ENDED = {"finished", "failed", "canceled", "stopped"}
# An entry of a list: our id, or when a stock producer made its job, and that job's id.
_CURSOR = re.compile(r"[A-Za-z0-9_-]{20,40}|[0-9a-f]{13}:[A-Za-z0-9_-]{1,200}")
_INDEXED_STATUS = {"scheduled", "deferred", "failed", "canceled", "stopped"}
# All but the body, which may be large and is not shown.
_FIELDS = (
    "status", "origin", "x_type", "x_stock", "x_attempt", "x_max", "created_at", "enqueued_at",
    "started_at", "ended_at", "x_at", "x_next", "x_result", "x_error", "x_trail", "x_reason",
    "dependency_ids", "x_req", "x_by", "x_expires", "x_batch", "x_tags", "x_progress", "result_ttl",
)  # fmt: skip
# Made once: a page may read a thousand records.
_NAMES = tuple(name.encode() for name in _FIELDS)

# The kind of an index, of what it is, and its entries where they are all known, newest first.
Driver = tuple[str, str, list[str] | None]


class Lists:
    """Every method raises QueueUnavailableError when Redis cannot be asked."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lane = Lane(client, reachability)
        self._registries = Registries(client, reachability)

    async def jobs(self, wanted: JobFilter, limit: int, cursor: str | None) -> Page:
        """A page, newest first. It may be short, and still have more behind it.

        Raises BadCursorError.
        """
        if cursor is not None and _CURSOR.fullmatch(cursor) is None:
            raise BadCursorError
        driver = await self._driver(wanted)
        kind, value, listed = driver
        glance = glance_filter(kind, value, wanted)
        position, looked, passed = cursor, 0, 0
        found: list[JobView] = []
        while len(found) < limit and looked < MOST_LOOKED_AT and passed < MOST_PASSED:
            # Mostly an index has just what is wanted: no more is read than is shown.
            first = limit if glance is None else 2 * limit
            count = min(PASSED_CHUNK if looked or passed else first, MOST_LOOKED_AT - looked)
            entries = await self._entries(driver, wanted, position, count)
            if not entries:
                return await self._page(found, None)
            in_time = await self._in_time(entries, wanted)
            likely = await self._glanced(in_time, glance)
            passed += len(entries) - len(in_time)
            looked += len(in_time) - len(likely)
            most = CHUNK if looked else limit
            last = entries[-1] if len(likely) <= most else likely[most - 1]
            entries, stale = likely[:most], []
            records = await self._records([_id_of(each) for each in entries])
            for entry, record in zip(entries, records, strict=True):
                looked, position = looked + 1, entry
                if not record or (kind == "status" and record[b"status"] != value.encode()):
                    stale.append(entry)
                    continue
                view = view_of(_id_of(entry), record, None)
                if _is_stale(kind, value, view):
                    stale.append(entry)
                elif _fits(view, wanted):
                    found.append(view)
                if len(found) == limit or looked == MOST_LOOKED_AT:
                    break
            else:
                position = last
            if stale and listed is None:
                await self._repair(kind, value, stale)
        return await self._page(found, position)

    async def batch(self, batch_id: str) -> BatchView | None:
        """The batch as it stands, or None when there is none of that id."""
        key = keys.batch(batch_id)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(key)
            pipeline.lrange(f"{key}:jobs", 0, -1)
            facts, ids = await ask(pipeline.execute(), self._reachability)
        if not facts:
            return None
        job_ids = [each.decode() for each in ids]
        states = await self._states(job_ids, facts)
        statuses = [status for status, _ in states]
        failed = [
            each for each, status in zip(job_ids, statuses, strict=True) if status == "failed"
        ]
        ends = [at for _, at in states if at is not None]
        created_at = view_of(batch_id, facts, None).created_at
        return BatchView(
            id=batch_id,
            size=len(job_ids),
            job_ids=job_ids,
            counts={status: statuses.count(status) for status in sorted(set(statuses))},
            failures=await self._views(failed[:MOST_FAILURES]),
            created_at=created_at,
            finished_at=max(ends, default=created_at) if ENDED.issuperset(statuses) else None,
            submitted_by=facts.get(b"by", b"").decode() or None,
            places=_places(facts.get(b"places")),
        )

    async def _views(self, ids: list[str]) -> list[JobView]:
        records = await self._records(ids) if ids else []
        return [
            view_of(job_id, record, None)
            for job_id, record in zip(ids, records, strict=True)
            if record
        ]

    async def aclose(self) -> None:
        await self._lane.close()

    async def _driver(self, wanted: JobFilter) -> Driver:
        """The index with the fewest other jobs in it; or, of a batch and of RQ's registries, all
        that they have, newest first."""
        if wanted.batch_id is not None:
            return "batch", wanted.batch_id, await self._ids_of_batch(wanted.batch_id)
        drivers = _drivers(wanted) or [("all", "")]
        registries = await self._registries.keys_of(wanted)
        if len(drivers) < 2 and not registries:
            return *drivers[0], None
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in (*(_index(*each) for each in drivers), *registries):
                pipeline.zcard(key)
            answers = await ask(pipeline.execute(raise_on_error=False), self._reachability)
        # What is something else has nothing.
        sizes = [each if isinstance(each, int) else 0 for each in answers]
        indexes, registered = sizes[: len(drivers)], sum(sizes[len(drivers) :])
        if registries and registered <= min(*indexes, MOST_SORTED):
            return "registry", "", await self._registries.entries(registries)
        return *drivers[indexes.index(min(indexes))], None

    async def _entries(
        self, driver: Driver, wanted: JobFilter, cursor: str | None, count: int
    ) -> list[str]:
        kind, value, listed = driver
        if listed is not None:
            return _piece(listed, wanted, cursor, count)
        first, last = bounds(wanted, cursor)
        top = "+" if first is None else f"({first}"
        bottom = "-" if last is None else f"[{last}"
        key = _index(kind, value)
        asking = self._client.zrevrangebylex(key, top, bottom, start=0, num=count)
        return [each.decode() for each in await ask(asking, self._reachability)]

    async def _ids_of_batch(self, batch_id: str) -> list[str]:
        asking = self._client.lrange(f"{keys.batch(batch_id)}:jobs", 0, -1)
        ids = [each.decode() for each in await ask(asking, self._reachability)]
        return sorted(ids, reverse=True)

    async def _in_time(self, entries: list[str], wanted: JobFilter) -> list[str]:
        """Those but what only its time leaves out: of ids near a bound one field is read."""
        unsure = near(entries, wanted)
        if not unsure:
            return entries
        # A pipeline of as many takes five times as long here; 500 keep Redis for 1.5 ms.
        asking = run_script(self._lane, scripts.MADE, *map(_id_of, unsure))
        times = map(rq_time, await ask(asking, self._reachability))
        others = {
            entry
            for entry, at in zip(unsure, times, strict=True)
            if at is not None and not is_made_between(at, wanted)
        }
        return [each for each in entries if each not in others]

    async def _glanced(self, entries: list[str], glance: str | None) -> list[str]:
        """Those that may be meant, or no longer belong where they stand."""
        if glance is None or not entries:
            return entries
        # 500 keep Redis for 2 ms. A page that had their records sent, and looked here, took four
        # times as long.
        asking = run_script(self._lane, scripts.GLANCE, glance, *map(_id_of, entries))
        return [entries[place] for place in await ask(asking, self._reachability)]

    async def _records(self, ids: list[str]) -> list[dict[bytes, bytes]]:
        """Their records without bodies; empty where there is none."""
        if not ids:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(keys.job(job_id), *_NAMES)
            rows = await ask(pipeline.execute(), self._reachability)
        return [
            {name: each for name, each in zip(_NAMES, row, strict=True) if each is not None}
            if row[0] is not None
            else {}
            for row in rows
        ]

    async def _page(self, found: list[JobView], cursor: str | None) -> Page:
        """What these few have elsewhere: the result of finished jobs, the place of queued ones."""
        finished = [view for view in found if view.status == "finished"]
        async with self._client.pipeline(transaction=False) as pipeline:
            for view in finished:
                pipeline.xrevrange(keys.results(view.id), count=1)
            results = await ask(pipeline.execute(), self._reachability) if finished else []
        for view, result in zip(finished, results, strict=True):
            if result:
                view.result = view_of(view.id, {b"status": b"finished"}, result[0][1]).result
        await place(self._client, self._reachability, found)
        return Page(found, cursor)

    async def _states(
        self, ids: list[str], facts: dict[bytes, bytes]
    ) -> list[tuple[str, datetime | None]]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(keys.job(job_id), "status", "ended_at", "x_batch")
            rows = await ask(pipeline.execute(), self._reachability)
        states = []
        for job_id, (status, ended_at, batch) in zip(ids, rows, strict=True):
            # Of a job that is still on its way in there is a record, and no status yet.
            gone = b"queued" if batch else facts.get(b"gone:" + job_id.encode(), b"finished")
            record = {b"status": status or gone, b"ended_at": ended_at or b""}
            view = view_of(job_id, record, None)
            states.append((str(view.status), view.ended_at))
        return states

    async def _repair(self, kind: str, value: str, stale: list[str]) -> None:
        asking = run_script(self._lane, scripts.REPAIR, kind, value, *stale)
        await ask(asking, self._reachability)


def _places(text: bytes | None) -> list[int] | None:
    return None if text is None else [int(each) for each in text.split(b",")]


def _drivers(wanted: JobFilter) -> list[tuple[str, str]]:
    """The indexes that have all that is wanted; none: only the one of all jobs has."""
    given = [
        ("tag", ":".join(wanted.tag) if wanted.tag is not None else None),
        ("fingerprint", wanted.fingerprint),
        ("error", wanted.error),
        ("status", wanted.status if wanted.status in _INDEXED_STATUS else None),
        ("by", wanted.submitted_by),
        ("type", wanted.type),
    ]
    return [(kind, value) for kind, value in given if value is not None]


def _piece(listed: list[str], wanted: JobFilter, cursor: str | None, count: int) -> list[str]:
    first, last = bounds(wanted, cursor)
    found = (
        each
        for each in listed
        if (first is None or each < first) and (last is None or each >= last)
    )
    return list(islice(found, count))


def _id_of(entry: str) -> str:
    """See index.lua: only a stock producer's job has a time before its id."""
    return entry.rpartition(":")[2]


def _index(kind: str, value: str) -> str:
    return f"{keys.INDEX}{kind}" + (f":{value}" if value else "")


def _is_stale(kind: str, value: str, view: JobView) -> bool:
    """Whether the record says that the job does not belong into that index of causes."""
    error = view.error
    if kind == "error":
        return error is None or error.code != value
    return kind == "fingerprint" and (error is None or error.fingerprint != value)


def _fits(view: JobView, wanted: JobFilter) -> bool:
    error = view.error
    pairs: list[tuple[Any, Any]] = [
        (wanted.status, view.status),
        (wanted.type, view.type),
        (wanted.queue, view.queue),
        (wanted.error, error.code if error is not None else None),
        (wanted.fingerprint, error.fingerprint if error is not None else None),
        (wanted.batch_id, view.batch_id),
        (wanted.submitted_by, view.submitted_by),
    ]
    if any(want is not None and want != have for want, have in pairs):
        return False
    if wanted.tag is not None and view.tags.get(wanted.tag[0]) != wanted.tag[1]:
        return False
    return is_made_between(view.created_at, wanted)
