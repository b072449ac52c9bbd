"""What waits for a job is settled when it ends: queued, or canceled when it cannot run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
from rq.job import Dependency, Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from tests.heart_scene import Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
async def stock(scene: Scene) -> AsyncIterator[Queue]:
    """A stock producer, which is how a job comes to wait for another."""
    with redis.Redis.from_url(scene.url) as client:
        yield Queue("default", connection=client, serializer=JSONSerializer)


def _wait_for(stock: Queue, *parents: str, allow_failure: bool = False, ours: bool = True) -> str:
    """A dependent; `ours` carries the type that our own submissions name."""
    dependency = Dependency(list(parents), allow_failure=allow_failure)
    job = stock.enqueue(
        "app.worker.perform", "test.note", {}, depends_on=dependency, result_ttl=3600
    )
    if ours:
        stock.connection.hset(job.key, "x_type", "test.note")
    return job.id


async def test_dependent_is_queued_when_its_last_parent_has_finished(
    scene: Scene, stock: Queue
) -> None:
    first, second = await scene.submit(), await scene.submit()
    child = _wait_for(stock, first, second)
    actor = await scene.worker()
    claims = {each.id: each for each in (await actor.claim()).jobs}

    await actor.finish(claims[first])
    assert scene.status(child) == "deferred"
    await actor.finish(claims[second])

    assert scene.status(child) == "queued"
    assert scene.queued() == [child]
    assert scene.members("deferred") == []
    assert (await actor.take()).id == child


async def test_parents_without_retention_count_as_finished(scene: Scene, stock: Queue) -> None:
    parent = await scene.submit()
    child = _wait_for(stock, parent)
    actor = await scene.worker()

    await actor.finish(await actor.take(), ttl=0)

    assert scene.status(parent) is None
    assert scene.queued() == [child]
    assert not [key for key in scene.stored() if parent in key]


@pytest.mark.parametrize("kind", ["ours", "stock"])
async def test_failure_cancels_ours_and_leaves_a_stock_dependent_waiting(
    scene: Scene, stock: Queue, kind: str
) -> None:
    parent = await scene.submit()
    child = _wait_for(stock, parent, ours=kind == "ours")
    grandchild = _wait_for(stock, child)
    actor = await scene.worker()

    await actor.fail(await actor.take())

    found = await scene.view(child)
    if kind == "stock":
        assert (found.status, scene.status(grandchild)) == ("deferred", "deferred")
        assert scene.redis.smembers(f"rq:job:{parent}:dependents") == {child}
        return
    assert (found.status, found.reason) == ("canceled", "parent_failed")
    assert (await scene.view(grandchild)).reason == "parent_failed"
    assert set(scene.members("canceled")) == {child, grandchild}
    assert scene.members("deferred") == []
    assert scene.redis.ttl(f"rq:job:{child}") > 0
    job = Job.fetch(child, connection=stock.connection, serializer=JSONSerializer)
    assert job.is_canceled


async def test_stock_dependent_runs_when_its_requeued_parent_finishes(
    scene: Scene, stock: Queue
) -> None:
    parent = await scene.submit()
    child = _wait_for(stock, parent, ours=False)
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    Job.fetch(parent, connection=stock.connection, serializer=JSONSerializer).requeue()

    claimed = await actor.take()
    assert scene.redis.ttl(f"rq:job:{parent}:dependents") == -1
    await actor.finish(claimed)

    assert scene.queued() == [child]


async def test_dependent_that_allows_failure_runs_after_one(scene: Scene, stock: Queue) -> None:
    parent = await scene.submit()
    child = _wait_for(stock, parent, allow_failure=True)
    actor = await scene.worker()

    await actor.fail(await actor.take())

    assert scene.queued() == [child]


async def test_dependent_that_allows_failure_still_waits_for_the_other_parent(
    scene: Scene, stock: Queue
) -> None:
    failing, other = await scene.submit(), await scene.submit()
    child = _wait_for(stock, failing, other, allow_failure=True)
    actor = await scene.worker()
    claims = {each.id: each for each in (await actor.claim()).jobs}

    await actor.fail(claims[failing])
    assert scene.status(child) == "deferred"
    await actor.finish(claims[other])

    assert scene.queued() == [child]


async def _defer_many(scene: Scene, parent: str, count: int, *, ours: bool = True) -> list[str]:
    """As a stock producer records them, many at once."""
    job_ids = [f"{parent}{'o' if ours else 's'}{n}" for n in range(count)]
    with scene.redis.pipeline() as pipeline:
        for job_id in job_ids:
            record = {"status": "deferred", "origin": "default", "data": "[]"}
            pipeline.hset(f"rq:job:{job_id}", mapping=record | ({"x_type": "t"} if ours else {}))
            pipeline.zadd("rq:deferred:default", {job_id: 1})
            pipeline.sadd(f"rq:job:{parent}:dependents", job_id)
            pipeline.sadd(f"rq:job::{job_id}:dependencies", parent)
        pipeline.execute()
    return job_ids


@pytest.mark.parametrize("ttl", [0, 3600])
@pytest.mark.parametrize("ending", ["finished", "failed"])
async def test_hundreds_of_dependents_are_settled_over_several_calls(
    scene: Scene, ending: str, ttl: int
) -> None:
    parent = await scene.submit()
    children = await _defer_many(scene, parent, 350)
    actor = await scene.worker()
    claimed = await actor.take()

    await (actor.finish if ending == "finished" else actor.fail)(claimed, ttl=ttl)
    assert 0 < 350 - scene.redis.zcard("rq:deferred:default") < 350
    more = True
    while more:
        _, more = await scene.recover()

    assert scene.members("deferred") == []
    assert sorted(scene.queued() if ending == "finished" else scene.members("canceled")) == sorted(
        children
    )
    assert scene.redis.exists(f"rq:job:{parent}:dependents") == 0
    assert not [key for key in scene.stored() if "settle" in key or "settling" in key]


async def test_stock_dependents_that_stay_do_not_keep_the_others_from_being_settled(
    scene: Scene,
) -> None:
    parent = await scene.submit()
    staying = await _defer_many(scene, parent, 400, ours=False)
    ours = await _defer_many(scene, parent, 50)
    actor = await scene.worker()

    await actor.fail(await actor.take())
    calls, more = 0, True
    while more and calls < 50:
        _, more = await scene.recover()
        calls += 1

    assert not more
    assert sorted(scene.members("canceled")) == sorted(ours)
    assert sorted(scene.members("deferred")) == sorted(staying)
    assert scene.redis.scard(f"rq:job:{parent}:dependents") == 400


async def test_long_chain_of_dependents_is_canceled_to_its_end(scene: Scene) -> None:
    parent = await scene.submit()
    chain = [f"{parent}c{n}" for n in range(300)]
    with scene.redis.pipeline() as pipeline:
        for before, job_id in zip([parent, *chain], chain, strict=False):
            record = {"status": "deferred", "origin": "default", "data": "[]", "x_type": "t"}
            pipeline.hset(f"rq:job:{job_id}", mapping=record)
            pipeline.zadd("rq:deferred:default", {job_id: 1})
            pipeline.sadd(f"rq:job:{before}:dependents", job_id)
            pipeline.sadd(f"rq:job::{job_id}:dependencies", before)
        pipeline.execute()
    actor = await scene.worker()

    await actor.fail(await actor.take())
    more = True
    while more:
        _, more = await scene.recover()

    assert sorted(scene.members("canceled")) == sorted(chain)
    assert scene.members("deferred") == []
