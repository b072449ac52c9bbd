"""How the whole stands: queues, workers, and what is measured. Nothing here changes a job.

The cost does not grow with how much waits: counts that Redis keeps, and the first few entries
of each queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.capacity import pause_cause
from app.queue.connection import Reachability
from app.queue.counts import MINUTES, Counts, minutes, rates
from app.queue.figures import Depths, Measures, Minute, QueueFigures, WorkerFigures
from app.queue.history import History
from app.queue.records.names import PRIORITIES, queue_name, split_queue_name
from app.queue.submission_times import read_times
from app.queue.times import rq_time
from app.queue.workers import Workers

# In a queue the oldest stands in front, but for jobs that a tool put there or that went back.
HEADS = 5
_REGISTRIES = ("wip", "scheduled", "deferred", "failed")
_SIZES = 1 + len(_REGISTRIES)


class _Moment(NamedTuple):
    """What is asked once for all queues."""

    now: float
    known: list[str]
    paused: Mapping[str, str]
    sizes: Mapping[str, int]
    counts: Counts


class Overview:
    """Every method raises QueueUnavailableError when Redis cannot be asked.

    `names` are the queues of the registered types: they are told of also while nothing was in
    them, beside all that Redis knows.
    """

    def __init__(
        self, client: async_redis.Redis, reachability: Reachability, names: Sequence[str]
    ) -> None:
        self._client = client
        self._reachability = reachability
        self._names = list(names)
        self._workers = Workers(client, reachability)
        self._history = History(client, reachability)

    async def workers(self) -> list[WorkerFigures]:
        return await self._workers.all()

    async def queues(self) -> list[QueueFigures]:
        """In order of name."""
        moment, workers = await asyncio.gather(self._moment(), self._workers.live())
        listening = [each.queues for each in workers]
        return await self._figures(moment, listening, moment.known)

    async def queue(self, name: str) -> QueueFigures | None:
        """None: there is no such queue."""
        moment, workers = await asyncio.gather(self._moment(), self._workers.live())
        if name not in moment.known:
            return None
        return (await self._figures(moment, [each.queues for each in workers], [name]))[0]

    async def minutes(self, name: str) -> list[Minute]:
        """The last hour of a queue, oldest first; minutes that nobody noted are told as one."""
        (seconds, _) = await self._ask(self._client.time())
        last = seconds // 60
        wanted = [keys.minute_counts(last - ago) for ago in range(MINUTES + 1, -1, -1)]
        notes = await self._ask(self._client.mget(wanted))
        return minutes([Counts.noted(note) for note in notes], name)

    async def hour(self) -> list[Depths]:
        """What waited in the last hour, noted once a minute, oldest first."""
        return await self._history.hour()

    async def measures(self, types: Collection[str]) -> Measures:
        """All of it, of queues and types that are registered; the others are together `other`."""
        moment, workers = await asyncio.gather(self._moment(), self._workers.all())
        listening = [frozenset(each.queues) for each in workers if each.is_alive]
        figures = await self._figures(moment, listening, moment.known)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            pipeline.exists(keys.SUSPENDED)
            pipeline.hgetall(keys.SUBMISSIONS)
            pipeline.scard(keys.SCHEDULES_PUT_OFF)
            memory, suspended, submissions, put_off = await self._ask(pipeline.execute())
        return Measures(
            queues=figures,
            workers=workers,
            counted=moment.counts.folded(self._names, types).by_type(),
            submissions=read_times(submissions),
            memory_used=int(memory.get("used_memory", 0)),
            memory_limit=int(memory.get("maxmemory", 0)),
            is_suspended=bool(suspended),
            schedules_put_off=put_off,
        )

    async def _moment(self) -> _Moment:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.smembers(keys.QUEUES)
            pipeline.smembers(keys.PAUSED)
            pipeline.hgetall(keys.PAUSED_WHY)
            pipeline.hgetall(keys.BYTES)
            pipeline.hgetall(keys.COUNTS)
            (seconds, micros), queues, paused, why, sizes, counts = await self._ask(
                pipeline.execute()
            )
        now = seconds + micros / 1e6
        found = {_base(key) for key in queues}
        return _Moment(
            now=now,
            known=sorted(found.union(self._names)),
            paused={name.decode(): pause_cause(why.get(name)) for name in paused},
            sizes={name.decode(): max(0, int(size)) for name, size in sizes.items()},
            counts=Counts.read(now, counts),
        )

    async def _figures(
        self, moment: _Moment, listening: Sequence[Collection[str]], names: Sequence[str]
    ) -> list[QueueFigures]:
        minute = int(moment.now // 60)
        rq_names = [queue_name(name, priority) for name in names for priority in PRIORITIES]
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.mget([keys.minute_counts(minute - ago) for ago in range(3)])
            for each in rq_names:
                pipeline.llen(keys.queue(each))
                for registry in _REGISTRIES:
                    pipeline.zcard(keys.registry(registry, each))
                pipeline.lrange(keys.queue(each), 0, HEADS - 1)
            texts, *answers = await self._ask(pipeline.execute())
        notes = [Counts.noted(text) for text in texts]
        step = len(PRIORITIES) * (_SIZES + 1)
        pieces = [answers[at : at + step] for at in range(0, len(answers), step)]
        since = await self._waiting_since([_heads(piece) for piece in pieces])
        return [
            _queue(name, moment, piece, oldest, listening, rate=rates(moment.counts, notes, name))
            for name, piece, oldest in zip(names, pieces, since, strict=True)
        ]

    async def _waiting_since(self, heads: Sequence[Sequence[bytes]]) -> list[float | None]:
        """Since when the oldest of each list of jobs waits, in seconds since 1970."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for job_id in (each for ids in heads for each in ids):
                pipeline.hmget(keys.job(job_id.decode("utf-8", "replace")), "enqueued_at")
            answers = iter(await self._ask(pipeline.execute(raise_on_error=False)))
        found: list[float | None] = []
        for ids in heads:
            times = [_seconds(next(answers)) for _ in ids]
            found.append(min((each for each in times if each is not None), default=None))
        return found

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _base(queue_key: bytes) -> str:
    name = queue_key.removeprefix(keys.queue("").encode()).decode("utf-8", "replace")
    return split_queue_name(name)[0]


def _heads(answers: Sequence[Any]) -> list[bytes]:
    """The first entries of each priority, among the answers about one queue."""
    return [job_id for ids in answers[_SIZES :: _SIZES + 1] for job_id in ids]


def _seconds(enqueued_at: Any) -> float | None:
    """An answer of HMGET; what is no record of a job tells no time."""
    at = rq_time(enqueued_at[0]) if isinstance(enqueued_at, list) else None
    return None if at is None else at.timestamp()


def _queue(
    name: str,
    moment: _Moment,
    answers: Sequence[Any],
    oldest: float | None,
    listening: Sequence[Collection[str]],
    *,
    rate: tuple[float, float] | None,
) -> QueueFigures:
    depth, running, scheduled, deferred, failed = (
        sum(answers[at :: _SIZES + 1]) for at in range(_SIZES)
    )
    return QueueFigures(
        name=name,
        depth=depth,
        oldest_age=None if oldest is None else max(0.0, round(moment.now - oldest, 3)),
        running=running,
        scheduled=scheduled,
        deferred=deferred,
        failed=failed,
        size_bytes=moment.sizes.get(name, 0),
        rate_in=None if rate is None else rate[0],
        rate_out=None if rate is None else rate[1],
        workers=sum(name in queues for queues in listening),
        paused=name in moment.paused,
        pause_reason=moment.paused.get(name) or None,
    )
