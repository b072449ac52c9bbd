"""end: an outcome counts once, and only from the execution that still owns the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.harness import REQUEUED_SECONDS, TIDY_SECONDS
from tests.heart_scene import Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def test_second_end_of_an_execution_changes_nothing_but_the_trail(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    assert await actor.finish(claimed, "first") == "done"
    before = await scene.view(job_id)

    answer = await actor.fail(claimed)

    assert answer == "late"
    after = await scene.view(job_id)
    assert (after.status, after.result, after.ended_at) == ("finished", "first", before.ended_at)
    assert scene.members("failed") == []
    assert scene.redis.xlen(f"rq:results:{job_id}") == 1
    assert scene.trail(job_id)[-1] == "late"


async def test_outcome_waits_for_no_company(scene: Scene) -> None:
    """Until Redis knows of it, a job that has finished would run again."""
    await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()

    async with asyncio.timeout(10):
        assert await actor.finish(claimed) == "done"


async def test_outcome_of_another_workers_execution_is_late(scene: Scene) -> None:
    job_id = await scene.submit()
    actor, other = await scene.worker(), await scene.worker()
    claimed = await actor.take()

    assert await other.finish(claimed, "stolen") == "late"

    assert scene.status(job_id) == "started"
    assert await actor.finish(claimed, "mine") == "done"
    assert (await scene.view(job_id)).result == "mine"


async def test_end_after_the_record_went_makes_no_new_one(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.redis.delete(f"rq:job:{job_id}")

    answer = await actor.finish(claimed, "too late")

    assert answer == "gone"
    assert not [key for key in scene.stored() if job_id in key]
    assert scene.members("finished") == scene.members("wip") == []


async def test_batch_of_ends_survives_a_broken_neighbour(scene: Scene) -> None:
    broken, sound = await scene.submit(), await scene.submit()
    actor = await scene.worker()
    claims = {each.id: each for each in (await actor.claim()).jobs}
    scene.redis.hset(f"rq:job:{broken}", "x_failures", "abc")

    answers = await asyncio.gather(
        actor.retry(claims[broken], 0), actor.finish(claims[sound], "well")
    )

    assert answers[1] == "done"
    assert (await scene.view(sound)).result == "well"
    # Never nowhere: where an operator sees it.
    assert scene.status(broken) == "failed"
    assert scene.members("failed") == [broken]
    assert scene.members("wip") == []


async def test_outcome_of_a_job_that_stock_code_canceled_is_late(scene: Scene) -> None:
    """RQ's cancel sets the status and takes the job out of `wip`, no more (RQ 3.0.0)."""
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.redis.hset(f"rq:job:{job_id}", "status", "canceled")
    scene.redis.zrem("rq:wip:default", claimed.composite)

    assert await actor.finish(claimed, "too late") == "late"

    assert (await scene.view(job_id)).status == "canceled"
    assert scene.members("finished") == []
    assert not [key for key in scene.stored() if key.startswith("rq:execution")]
    assert scene.redis.exists(f"rq:worker:{actor.name}:executions") == 0


async def test_each_of_many_attempts_is_told(scene: Scene) -> None:
    """RQ keeps about ten results of a job (RQ 3.0.0)."""
    job_id = await scene.submit()
    actor = await scene.worker()
    for _ in range(20):
        await actor.retry(await actor.take(), 0)
    await actor.finish(await actor.take())

    told = (await scene.view(job_id)).attempts
    assert [each.number for each in told] == list(range(1, 22))
    assert [each.outcome for each in told] == ["retry"] * 20 + ["finished"]


async def test_job_that_is_kept_for_ever_has_no_time_to_live(scene: Scene) -> None:
    await scene.submit_many(2)
    actor = await scene.worker()
    finished, failed = (await actor.claim()).jobs

    await actor.finish(finished, "kept", ttl=-1)
    await actor.fail(failed, ttl=-1)
    await scene.recover()

    assert scene.redis.zscore("rq:finished:default", finished.id) == float("inf")
    assert scene.redis.zscore("rq:failed:default", failed.id) == -1
    for each in (finished, failed):
        assert scene.redis.ttl(f"rq:job:{each.id}") == -1
        assert scene.redis.ttl(f"rq:results:{each.id}") == -1


async def test_time_to_live_of_an_ended_job_covers_all_its_keys(scene: Scene) -> None:
    await scene.submit_many(2)
    actor = await scene.worker()
    finished, failed = (await actor.claim()).jobs

    await actor.finish(finished, "kept", ttl=50)
    await actor.fail(failed, ttl=60)

    now = scene.now_ms() / 1000
    for each, registry, ttl, beyond in (
        (finished, "finished", 50, TIDY_SECONDS),
        (failed, "failed", 60, REQUEUED_SECONDS),
    ):
        assert now < scene.redis.zscore(f"rq:{registry}:default", each.id) <= now + ttl
        assert beyond < scene.redis.ttl(f"rq:job:{each.id}") <= ttl + beyond
        assert beyond < scene.redis.ttl(f"rq:results:{each.id}") <= ttl + beyond


async def test_worker_is_idle_and_its_runs_are_counted_when_the_last_one_ended(
    scene: Scene,
) -> None:
    await scene.submit_many(2)
    actor = await scene.worker()
    first, second = (await actor.claim()).jobs
    key = f"rq:worker:{actor.name}"
    assert scene.redis.hget(key, "state") == "busy"

    await actor.finish(first)
    assert scene.redis.hget(key, "state") == "busy"
    await actor.fail(second)

    record = scene.redis.hgetall(key)
    assert record["state"] == "idle"
    assert (record["successful_job_count"], record["failed_job_count"]) == ("1", "1")
    assert float(record["total_working_time"]) >= 0
