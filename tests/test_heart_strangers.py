"""Jobs that stock producers made are in our lists: by when they were made, while they are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.queue.control import Control
from app.queue.records.views import JobFilter, Page
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


async def _page(scene: Scene, cursor: str | None = None, **wanted: Any) -> Page:
    return await scene.views.jobs(JobFilter(**wanted), 2, cursor)


async def _listed(scene: Scene, **wanted: Any) -> list[str]:
    """All of that list, over its pages, and nothing twice."""
    page = await _page(scene, **wanted)
    found = [view.id for view in page.jobs]
    while page.next_cursor is not None:
        page = await _page(scene, page.next_cursor, **wanted)
        found += [view.id for view in page.jobs]
    return found


async def test_stock_jobs_stand_among_ours_by_when_they_were_made(
    scene: Scene, stock: Stock
) -> None:
    ids = []
    for number in range(6):
        name = None if number % 2 else stock.enqueue("test.note", {}).id
        ids.append(name or await scene.submit())
    await scene.recover()

    newest_first = ids[::-1]
    assert await _listed(scene) == newest_first
    assert await _listed(scene, type="test.note") == newest_first
    assert await _listed(scene, status="queued") == newest_first
    assert await _listed(scene, submitted_by="shop") == newest_first[::2]


async def test_list_bounded_in_time_has_the_stock_jobs_of_that_time(
    scene: Scene, stock: Stock
) -> None:
    before, after = [stock.enqueue("test.note", {}).id for _ in range(2)]
    await scene.recover()
    made_at = (await scene.view(after)).created_at

    assert await _listed(scene, created_after=made_at) == [after]
    assert await _listed(scene, created_before=made_at) == [before]


async def test_stock_job_is_listed_with_its_type(scene: Scene, stock: Stock) -> None:
    stock.enqueue("test.note", {})
    stock.queue().enqueue("some.function", 1)
    await scene.recover()

    assert [view.type for view in (await _page(scene)).jobs] == ["some.function", "test.note"]
    assert len(await _listed(scene, type="test.note")) == 1


async def test_stock_job_that_runs_at_once_is_listed(scene: Scene, stock: Stock) -> None:
    """Its claim is the first to see it."""
    job_id = stock.enqueue("test.note", {}).id
    actor = await scene.worker()
    claimed = await actor.take()
    assert await _listed(scene, type="test.note", status="started") == [job_id]

    await actor.fail(claimed)

    assert await _listed(scene, status="failed") == [job_id]
    assert await _listed(scene, error="refused", type="test.note") == [job_id]


async def test_id_that_is_like_ours_is_listed_too(scene: Scene, stock: Stock) -> None:
    job_id = stock.enqueue("test.note", {}, job_id="0" * 35).id
    actor = await scene.worker()

    await actor.take()

    assert await _listed(scene) == await _listed(scene, type="test.note") == [job_id]


@pytest.mark.parametrize("status", ["scheduled", "deferred"])
async def test_stock_job_that_waits_is_listed_by_that(
    scene: Scene, stock: Stock, status: str
) -> None:
    parent = stock.enqueue("test.note", {})
    call: tuple[Any, ...] = ("app.worker.perform", "test.note", {})
    if status == "scheduled":
        job = stock.queue().enqueue_in(timedelta(hours=1), *call)
    else:
        job = stock.queue().enqueue(*call, depends_on=parent)

    await scene.recover()

    assert await _listed(scene, status=status) == [job.id]


@pytest.mark.parametrize("way", ["deleted", "forgotten", "discarded"])
async def test_stock_job_leaves_the_lists(scene: Scene, stock: Stock, way: str) -> None:
    job = stock.enqueue("test.note", {})
    actor = await scene.worker()
    await actor.fail(await actor.take(), ttl=60)
    assert await _listed(scene) == [job.id]

    match way:
        case "deleted":
            stock.job(job.id).delete()
        case "forgotten":
            scene.redis.zadd("rq:failed:default", {job.id: scene.now_ms() / 1000 - 1})
        case _:
            control = Control(scene.client, scene.reachability)
            await control.delete(job.id, "operator")
            await control.aclose()
    for _ in range(2):
        await scene.recover()

    assert await _listed(scene) == []
    assert not [key for key in scene.stored() if key.startswith("rq:recado:i:")]


async def test_reader_takes_out_a_stock_job_that_has_gone(scene: Scene, stock: Stock) -> None:
    job = stock.enqueue("test.note", {})
    await scene.recover()
    stock.job(job.id).delete()

    assert await _listed(scene, type="test.note") == []

    assert not [key for key in scene.stored() if key.startswith("rq:recado:i:")]


async def test_one_call_of_upkeep_reads_a_bounded_number_of_stock_jobs(
    scene: Scene, stock: Stock
) -> None:
    for _ in range(70):
        stock.enqueue("test.note", {})

    await scene.recover()
    assert 0 < scene.redis.zcard("rq:recado:i:type:test.note") < 70
    for _ in range(2):
        await scene.recover()

    assert len(await _listed(scene, type="test.note")) == 70


@pytest.mark.parametrize("key", ["all", "type:test.note"])
async def test_list_that_is_something_else_keeps_no_stock_job_from_running(
    scene: Scene, stock: Stock, key: str
) -> None:
    scene.redis.set(f"rq:recado:i:{key}", "somebody's")
    job_id = stock.enqueue("test.note", {}).id
    actor = await scene.worker()

    await scene.recover()
    claimed = await actor.take()

    assert claimed.id == job_id
    assert await actor.finish(claimed) == "done"


async def test_body_that_cannot_be_read_keeps_no_other_from_the_lists(
    scene: Scene, stock: Stock
) -> None:
    broken, whole = [stock.enqueue("test.note", {}) for _ in range(2)]
    scene.redis.hset(broken.key, "data", "\x00nonsense")

    await scene.recover()

    assert await _listed(scene) == [whole.id, broken.id]
    assert await _listed(scene, type="test.note") == [whole.id]
    assert await _listed(scene, type="unreadable") == [broken.id]
