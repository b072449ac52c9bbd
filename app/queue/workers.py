"""Workers, ours and stock ones: who is registered, who lives, and what they hold."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.figures import WorkerFigures
from app.queue.records.names import split_queue_name
from app.queue.times import rq_time

# No beat for so long, and a worker counts as dead.
SILENCE_SECONDS = 10.0
# A stock worker says that it lives as seldom as every 405 s (RQ 3.0, worker_ttl - 15).
STOCK_SILENCE_SECONDS = 480
# Of what a worker runs so many ids are told; the rest is a number.
MOST_RUNNING = 100
_FIELDS = (
    "queues", "x_mail", "death", "last_heartbeat", "birth", "state", "pid", "hostname", "version",
    "successful_job_count", "failed_job_count", "x_slots",
)  # fmt: skip


class LiveWorker(NamedTuple):
    """A worker that beats. `mail_fault`: what it finds wrong with the mail server, if anything."""

    name: str
    queues: frozenset[str]
    mail_fault: str | None


class Workers:
    """Every method raises QueueUnavailableError when Redis cannot be asked."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability

    async def live(self) -> list[LiveWorker]:
        """Those that could take a job now."""
        return [
            LiveWorker(each.name, frozenset(each.queues), each.mail_fault)
            for each in await self._registered()
            if each.is_alive
        ]

    async def all(self) -> list[WorkerFigures]:
        """Every worker that has not said good-bye, with what it runs; in order of name."""
        found = sorted(await self._registered(), key=lambda each: each.name)
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in found:
                pipeline.scard(keys.held(each.name))
                pipeline.srandmember(keys.held(each.name), MOST_RUNNING)
            answers = await self._ask(pipeline.execute())
        return [
            each._replace(running_count=count, running=sorted(map(_job_id, members)))
            for each, count, members in zip(found, answers[::2], answers[1::2], strict=True)
        ]

    async def _registered(self) -> list[WorkerFigures]:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.smembers(keys.WORKERS)
            pipeline.zrange(keys.BEATS, 0, -1, withscores=True)
            (seconds, micros), members, beats = await self._ask(pipeline.execute())
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in members:
                pipeline.hmget(key, *_FIELDS)
            records = await self._ask(pipeline.execute())
        now = seconds + micros / 1e6
        beat_at = {name: beat_ms / 1000 for name, beat_ms in beats}
        found = []
        for key, values in zip(members, records, strict=True):
            record = dict(zip(_FIELDS, values, strict=True))
            name = key.removeprefix(keys.worker("").encode())
            if record["queues"] is not None and record["death"] is None:
                found.append(_figures(name, record, beat_at.get(name), now))
        return found

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _figures(
    name: bytes, record: Mapping[str, bytes | None], own_beat: float | None, now: float
) -> WorkerFigures:
    """Without a beat of ours it is a stock worker, and lives by what RQ's tools go by."""
    told = rq_time(record["last_heartbeat"])
    beat = own_beat if own_beat is not None or told is None else told.timestamp()
    silence = STOCK_SILENCE_SECONDS if own_beat is None else SILENCE_SECONDS
    queues = dict.fromkeys(split_queue_name(each)[0] for each in _text(record["queues"]).split(","))
    return WorkerFigures(
        name=name.decode("utf-8", "replace"),
        queues=list(queues),
        state=_text(record["state"]) or "unknown",
        is_alive=beat is not None and now - beat < silence,
        running=[],
        running_count=0,
        slots=_number(record["x_slots"]),
        heartbeat_age=None if beat is None else max(0.0, round(now - beat, 3)),
        started_at=rq_time(record["birth"]),
        pid=_number(record["pid"]),
        host=_text(record["hostname"]) or None,
        version=_text(record["version"]) or None,
        successful_count=_number(record["successful_job_count"]) or 0,
        failed_count=_number(record["failed_job_count"]) or 0,
        mail_fault=_text(record["x_mail"]) or None,
    )


def _job_id(composite: bytes) -> str:
    return composite.partition(b":")[0].decode("utf-8", "replace")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _number(value: bytes | None) -> int | None:
    with contextlib.suppress(ValueError):
        return int(value or b"")
    return None
