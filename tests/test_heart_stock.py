"""Stock RQ on the same records while our workers run: its clean-up, its rate limits, its cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from rq.rate_limit import RateLimit
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from tests.heart_scene import Scene, scene_on
from tests.stock import Stock, stock_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    with stock_on(redis_url) as stock:
        yield stock


async def test_stock_tools_whose_clock_is_ahead_leave_running_jobs_alone(
    scene: Scene, stock: Stock
) -> None:
    """Reading is enough: `rq info` and each count clean up by the caller's clock (RQ 3.0.0)."""
    job_id = await scene.submit(timeout_seconds=60)
    actor = await scene.worker()
    claimed = await actor.take()
    registry = StartedJobRegistry("default", connection=stock.connection, serializer=JSONSerializer)

    registry.cleanup(timestamp=scene.now_ms() // 1000 + 120)

    assert scene.status(job_id) == "started"
    assert scene.members("failed") == []
    assert await actor.finish(claimed) == "done"


async def test_stock_jobs_of_a_rate_limit_run_one_after_the_other(
    scene: Scene, stock: Stock
) -> None:
    limit = RateLimit("reports", 1)
    first, second = [stock.enqueue("test.note", {}, rate_limit=limit).id for _ in range(2)]
    actor = await scene.worker()

    claimed = await actor.take()
    assert claimed.id == first
    assert (await actor.claim()).jobs == []
    await actor.finish(claimed)

    claimed = await actor.take()
    assert claimed.id == second
    await actor.fail(claimed)
    assert not [key for key in scene.stored() if key.startswith("rq:rl")]


def _has_ttl(scene: Scene, job_id: str) -> bool:
    keys = (f"rq:job:{job_id}", f"rq:results:{job_id}", f"rq:job:{job_id}:dependents")
    return any(scene.redis.ttl(key) >= 0 for key in keys)


async def test_requeued_job_waits_for_as_long_as_it_must(scene: Scene, stock: Stock) -> None:
    """RQ's requeue leaves the failed record's TTL on it (RQ 3.0.0): it vanished from its queue."""
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    stock.failed().requeue(job_id)
    assert _has_ttl(scene, job_id)

    await scene.recover()

    assert not _has_ttl(scene, job_id)
    assert scene.queued() == [job_id]


async def test_job_requeued_at_the_last_moment_waits_a_day_for_upkeep(
    scene: Scene, stock: Stock
) -> None:
    """Nobody may be up over night. Upkeep takes what is not requeued when it is due."""
    requeued, left = await scene.submit(), await scene.submit()
    actor = await scene.worker()
    for claimed in (await actor.claim()).jobs:
        await actor.fail(claimed, ttl=60)
    scene.redis.zadd("rq:failed:default", dict.fromkeys((requeued, left), scene.now_ms() / 1000))
    stock.failed().requeue(requeued)

    assert scene.redis.ttl(f"rq:job:{requeued}") > 86400
    await scene.recover()

    assert not _has_ttl(scene, requeued)
    assert scene.status(left) is None


async def test_requeued_job_is_seen_behind_thousands_of_others(scene: Scene, stock: Stock) -> None:
    """A piece a call. What was looked at last may be claimed meanwhile."""
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    await scene.submit_many(2500)
    stock.failed().requeue(job_id)

    await scene.recover()
    assert _has_ttl(scene, job_id)
    at, _, last = scene.redis.hget("rq:recado:walked", "default").partition(":")
    assert scene.queued()[int(at)] == last
    scene.redis.lrem("rq:queue:default", 1, last)
    for _ in range(2500 // (int(at) + 1) + 1):
        await scene.recover()

    assert not _has_ttl(scene, job_id)
    assert scene.redis.exists("rq:recado:walked") == 0


async def test_walk_goes_on_where_it_was_while_its_queue_moves(scene: Scene, stock: Stock) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    await scene.submit_many(1000)
    stock.failed().requeue(job_id)

    calls = 0
    while _has_ttl(scene, job_id):
        calls += 1
        assert calls <= 4
        scene.redis.lpop("rq:queue:default", 20)
        await scene.recover()


async def test_requeued_job_that_waits_for_a_slot_is_kept(scene: Scene, stock: Stock) -> None:
    limit = RateLimit("reports", 1)
    first, second = [stock.enqueue("test.note", {}, rate_limit=limit).id for _ in range(2)]
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    stock.failed().requeue(first)
    assert (scene.status(first), scene.queued()) == ("rate_limited", [second])

    await scene.recover()

    assert not _has_ttl(scene, first)


@pytest.mark.parametrize("place", ["scheduled", "deferred", "queued"])
async def test_id_that_a_stock_producer_uses_again_is_kept_while_it_waits(
    scene: Scene, stock: Stock, place: str
) -> None:
    """The new job's fields go over the old record, whose TTL stays (RQ 3.0.0)."""
    stock.enqueue("test.note", {}, job_id="nightly")
    actor = await scene.worker()
    await actor.finish(await actor.take(), ttl=60)
    parent = stock.enqueue("test.note", {})
    call: tuple[Any, ...] = ("app.worker.perform", "test.note", {})
    match place:
        case "scheduled":
            stock.queue().enqueue_in(timedelta(hours=1), *call, job_id="nightly")
        case "deferred":
            stock.queue().enqueue(*call, job_id="nightly", depends_on=parent)
        case _:
            stock.queue().enqueue(*call, job_id="nightly")
    assert (scene.status("nightly"), _has_ttl(scene, "nightly")) == (place, True)

    await scene.recover()

    assert not _has_ttl(scene, "nightly")


async def test_time_to_live_that_a_stock_producer_asked_for_is_left(
    scene: Scene, stock: Stock
) -> None:
    job = stock.enqueue("test.note", {}, ttl=60)

    await scene.recover()

    assert 0 < scene.redis.ttl(job.key) <= 60


async def test_stale_entry_of_a_finished_job_does_not_keep_it_for_ever(
    scene: Scene, stock: Stock
) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.finish(await actor.take(), ttl=60)
    scene.redis.rpush("rq:queue:default", job_id)

    await scene.recover()

    assert _has_ttl(scene, job_id)


@pytest.mark.parametrize("act", ["cancel", "delete"])
async def test_stock_tools_cancel_and_delete_what_ran_and_waits_again(
    scene: Scene, stock: Stock, act: str
) -> None:
    """RQ cannot read an execution whose record has gone: it goes out of the job's set with it."""
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.retry(await actor.take(), 0)

    job = stock.job(job_id)
    job.cancel() if act == "cancel" else job.delete()

    assert scene.status(job_id) == ("canceled" if act == "cancel" else None)
    assert scene.queued() == []


@pytest.mark.parametrize("ended", ["failed", "finished"])
async def test_requeued_job_is_in_one_place_and_ends_once_more(
    scene: Scene, stock: Stock, ended: str
) -> None:
    """As `rq requeue` and rq-dashboard do; of two who do it at once, one entry too many stays."""
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    stock.failed().requeue(job_id)
    scene.redis.rpush("rq:queue:default", job_id)

    claimed = await actor.take()
    assert scene.members("failed") == []
    await (actor.finish if ended == "finished" else actor.fail)(claimed)

    assert scene.members(ended) == [job_id]
    assert scene.queued() == scene.members("wip") == []
    found = await scene.view(job_id)
    assert (found.status, [each.outcome for each in found.attempts]) == (ended, ["failed", ended])
