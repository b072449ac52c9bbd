"""Where queued jobs stand, and how long until then at the rate of the last minutes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.records.names import PRIORITIES, Priority, queue_name
from app.queue.records.views import JobView

# Counting further back costs the server more than the number is worth: for one job, and for
# each queue of a list.
REACH = 100_000
LIST_REACH = 1000


async def place(
    client: async_redis.Redis, reachability: Reachability, views: Iterable[JobView]
) -> None:
    """Put `position` and `eta_seconds` on those that are queued; None stays where too far back.

    Raises QueueUnavailableError.
    """
    queues: dict[str, list[JobView]] = {}
    for view in views:
        if view.status == "queued":
            queues.setdefault(queue_name(view.queue, view.priority), []).append(view)
    if not queues:
        return
    now = time.time()
    minute = int(now // 60)
    async with client.pipeline(transaction=False) as pipeline:
        for name, waiting in queues.items():
            _ask_places(pipeline, name, waiting)
            pipeline.mget(keys.claimed(name, minute), keys.claimed(name, minute - 1))
            for priority in _ahead(waiting[0]):
                pipeline.llen(keys.queue(queue_name(waiting[0].queue, priority)))
        answers = iter(await ask(pipeline.execute(), reachability))
    for waiting in queues.values():
        places = _places(waiting, next(answers))
        now_claimed, before = (int(each or 0) for each in next(answers))
        ahead = sum(next(answers) for _ in _ahead(waiting[0]))
        a_minute = now_claimed + before * (1 - (now / 60 - minute))
        for view in waiting:
            _put(view, places.get(view.id), ahead, a_minute)


def _ahead(view: JobView) -> Sequence[Priority]:
    """The priorities that are served first."""
    return PRIORITIES[: PRIORITIES.index(view.priority)]


def _ask_places(pipeline: async_redis.client.Pipeline, name: str, waiting: list[JobView]) -> None:
    if len(waiting) == 1:
        pipeline.lpos(keys.queue(name), waiting[0].id, maxlen=REACH)
    else:
        pipeline.lrange(keys.queue(name), 0, LIST_REACH - 1)


def _places(waiting: list[JobView], answer: int | list[bytes] | None) -> Mapping[str, int]:
    """From 0, by id."""
    if isinstance(answer, list):
        return {job_id.decode("utf-8", "replace"): at for at, job_id in enumerate(answer)}
    return {} if answer is None else {waiting[0].id: answer}


def _put(view: JobView, place: int | None, ahead: int, claimed_a_minute: float) -> None:
    if place is None:
        return
    view.position = place + 1 + ahead
    if claimed_a_minute > 0:
        view.eta_seconds = round(view.position * 60 / claimed_a_minute, 1)
