"""Stock RQ on the same records while our workers run: its clean-up, its rate limits, its cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

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
