"""What is rare is found at once among many: who runs, and one queue's jobs in some state."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.queue import lists
from app.queue.control import Control
from app.queue.lists import MOST_LOOKED_AT
from app.queue.records.views import JobFilter, JobView, Page
from tests.heart_scene import Scene, scene_on
from tests.stock import Stock, stock_on

OTHERS = MOST_LOOKED_AT + 100
# By how much a job's id is made after Redis has it (a clock that is ahead), or before.
_CLOCKS_US = {"ahead": 3_000_000, "late": -40_000_000, "usual": -1_000, "waited": -9_000_000}


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    with stock_on(redis_url) as stock:
        yield stock


def many_newer(scene: Scene, status: str) -> None:
    """So many that a page does not look at all of them, in the queue `default`."""
    made = f"{int(scene.redis.time()[0] * 1_000_000):013x}"
    ids = [f"{made}{number:022x}" for number in range(OTHERS)]
    with scene.redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            facts = {"status": status, "origin": "default", "x_type": "test.note"}
            pipeline.hset(f"rq:job:{job_id}", mapping=facts)
        for name in ("all", "type:test.note", f"status:{status}"):
            pipeline.zadd(f"rq:recado:i:{name}", dict.fromkeys(ids, 0))
        pipeline.zadd(f"rq:{status}:default", dict.fromkeys(ids, 1e10))
        pipeline.execute()


async def _page(scene: Scene, limit: int, cursor: str | None = None, **wanted: Any) -> Page:
    return await scene.views.jobs(JobFilter(**wanted), limit, cursor)


async def _all_pages(scene: Scene, limit: int, **wanted: Any) -> list[str]:
    found: list[str] = []
    cursor, is_first = None, True
    while is_first or cursor is not None:
        page = await _page(scene, limit, cursor, **wanted)
        found, cursor, is_first = found + _ids(page), page.next_cursor, False
    return found


def _ids(page: Page) -> list[str]:
    return [each.id for each in page.jobs]


@pytest.mark.parametrize(
    "more", [{}, {"queue": "default"}, {"type": "test.note"}, {"submitted_by": "shop"}]
)
async def test_job_that_has_run_for_long_is_on_the_first_page(
    scene: Scene, more: dict[str, Any]
) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.take()
    many_newer(scene, "finished")

    page = await _page(scene, 20, status="started", **more)

    assert _ids(page) == [job_id]
    assert (await _page(scene, 20, page.next_cursor, status="started", **more)).next_cursor is None


async def test_running_jobs_are_paged_newest_first_with_stock_ones_among_them(
    scene: Scene, stock: Stock
) -> None:
    made = []
    for number in range(7):
        made.append(stock.enqueue("test.note", {}).id if number % 3 == 1 else await scene.submit())
    actor = await scene.worker("default")
    assert len((await actor.claim()).jobs) == 7
    await scene.submit()

    assert await _all_pages(scene, 2, status="started") == made[::-1]
    middle = (await scene.view(made[4])).created_at
    before = await _page(scene, 20, status="started", created_before=middle)
    after = await _page(scene, 20, status="started", created_after=middle)
    assert (_ids(before), _ids(after)) == (made[3::-1], made[:3:-1])


async def test_when_a_job_was_made_is_what_it_says_and_not_its_id(scene: Scene) -> None:
    """Ids are made before Redis has their jobs, by another clock."""
    now_us = scene.now_ms() * 1000
    ids = {name: f"{now_us + us:013x}" + "0" * 22 for name, us in _CLOCKS_US.items()}
    for job_id in ids.values():
        await scene.submit(id=job_id)
    made = {name: (await scene.view(job_id)).created_at for name, job_id in ids.items()}

    for wanted in ({}, {"type": "test.note"}, {"queue": "default"}, {"submitted_by": "shop"}):
        for at in made.values():
            after = await _page(scene, 20, created_after=at, **wanted)
            before = await _page(scene, 20, created_before=at, **wanted)
            assert set(_ids(after)) == {ids[each] for each in made if made[each] >= at}
            assert set(_ids(before)) == {ids[each] for each in made if made[each] < at}


def many_made(scene: Scene, count: int, at_us: int, id_us: int) -> list[str]:
    """So many jobs of that time, and their ids of another; newest first."""
    made = datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    ids = [f"{id_us:013x}{number:022x}" for number in reversed(range(count))]
    facts = {"status": "queued", "origin": "default", "x_type": "test.note", "created_at": made}
    with scene.redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hset(f"rq:job:{job_id}", mapping=facts)
        for name in ("all", "type:test.note"):
            pipeline.zadd(f"rq:recado:i:{name}", dict.fromkeys(ids, 0))
        pipeline.execute()
    return ids


@pytest.mark.parametrize("wanted", [{}, {"type": "test.note"}, {"queue": "default"}])
async def test_jobs_made_just_after_a_time_keep_none_before_it_from_the_first_page(
    scene: Scene, wanted: dict[str, Any]
) -> None:
    now_us = scene.now_ms() * 1000
    at = datetime.fromtimestamp(now_us / 1e6, UTC)
    many_made(scene, OTHERS, now_us + 2_000_000, now_us + 1_990_000)
    # Their ids are older than the time, and they are not.
    many_made(scene, OTHERS, now_us + 1_000, now_us - 5_000_000)
    older = many_made(scene, 30, now_us - 9_000_000, now_us - 9_000_100)

    page = await _page(scene, 20, created_before=at, **wanted)
    rest = await _page(scene, 20, page.next_cursor, created_before=at, **wanted)

    assert _ids(page) + _ids(rest) == older
    assert rest.next_cursor is None


async def test_jobs_made_just_before_a_time_are_passed_at_the_end_of_a_list(scene: Scene) -> None:
    now_us = scene.now_ms() * 1000
    at = datetime.fromtimestamp(now_us / 1e6, UTC)
    newer = many_made(scene, 5, now_us + 1_000, now_us)
    many_made(scene, OTHERS, now_us - 1_000, now_us - 2_000)
    waited = many_made(scene, 2, now_us + 1_000, now_us - 50_000_000)

    page = await _page(scene, 20, created_after=at)

    assert (_ids(page), page.next_cursor) == (newer + waited, None)


async def test_page_passes_so_many_jobs_that_only_their_time_leaves_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST_PASSED", 50)
    monkeypatch.setattr(lists, "PASSED_CHUNK", 30)
    now_us = scene.now_ms() * 1000
    at = datetime.fromtimestamp(now_us / 1e6, UTC)
    many_made(scene, 90, now_us + 1_000, now_us)
    older = many_made(scene, 45, now_us - 1_000, now_us - 2_000)

    sizes, found, cursor, looked = [], list[str](), None, 0
    while looked == 0 or cursor is not None:
        page = await _page(scene, 20, cursor, created_before=at)
        found, cursor, looked = found + _ids(page), page.next_cursor, looked + 1
        sizes.append(len(page.jobs))

    assert found == older
    assert sizes == [0, 20, 20, 5]


async def _some_of_each(scene: Scene, stock: Stock) -> list[str]:
    """Jobs that differ in all that a filter knows; newest first."""
    made = [
        await scene.submit(queue="data", priority="high", tags={"shop": "a/b"}),
        await scene.submit(delay_seconds=3600.0, submitted_by="other", tags={"shop": "Café"}),
        stock.enqueue("test.note", {}).id,
        await scene.submit("test.wait", queue="data"),
    ]
    actor = await scene.worker("slow")
    control = Control(scene.client, scene.reachability)
    for code, tags in (("refused", {"shop": "a/b"}), ("timeout", {}), ("a b", {"shop": "Café"})):
        made.append(await scene.submit(queue="slow", tags=tags))
        await actor.fail(await actor.take(), code, code=code)
        # What it has failed with before says nothing of a job that waits again.
        if code == "timeout":
            await control.retry(made[-1], "shop")
            await actor.finish(await actor.take())
    made.append(await scene.submit(queue="slow", depends_on=[made[0]]))
    made.append(await scene.submit(queue="slow"))
    await control.cancel(made[-1], "shop")
    await control.aclose()
    # A stock producer's job stands in no list before that.
    await scene.recover()
    return made[::-1]


async def test_every_filter_finds_what_fits_it_and_nothing_else(
    scene: Scene, stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few fields of most records are read: by them no job is passed that is meant."""
    monkeypatch.setattr(lists, "PASSED_CHUNK", 3)
    ids = await _some_of_each(scene, stock)
    views = [await scene.view(each) for each in ids]
    failed = [each.error for each in views if each.error is not None]
    choices: dict[str, list[Any]] = {
        "status": [None, *sorted({each.status for each in views}), "started"],
        "type": [None, "test.note", "test.wait"],
        "queue": [None, "data", "slow", "data.high", "none"],
        "error": [None, "refused", "a b", 'x"y'],
        "fingerprint": [None, failed[0].fingerprint, "0" * 16],
        "tag": [None, ("shop", "a/b"), ("shop", "Café"), ("other", "a/b")],
        "submitted_by": [None, "shop", "other"],
    }

    for chosen in itertools.product(*choices.values()):
        wanted = dict(zip(choices, chosen, strict=True))
        if sum(each is not None for each in chosen) > 3:
            continue
        found = await _all_pages(scene, 1, **wanted)
        assert found == [view.id for view in views if _is_meant(view, wanted)], wanted


def _is_meant(view: JobView, wanted: dict[str, Any]) -> bool:
    """By the whole record."""
    have = {
        "error": view.error.code if view.error is not None else None,
        "fingerprint": view.error.fingerprint if view.error is not None else None,
        "tag": next(iter(view.tags.items()), None),
    }
    return all(
        want is None or want == have.get(name, getattr(view, name, None))
        for name, want in wanted.items()
    )


@pytest.mark.parametrize("is_gone", [True, False])
async def test_stale_entry_of_a_list_goes_whatever_else_is_asked_for(
    scene: Scene, is_gone: bool
) -> None:
    actor = await scene.worker()
    job_id = await scene.submit()
    await actor.fail(await actor.take())
    if is_gone:
        scene.redis.delete(f"rq:job:{job_id}")
    else:
        scene.redis.hset(f"rq:job:{job_id}", "status", "finished")

    # That list is the shorter one.
    await scene.submit_many(2, submitted_by="other")

    assert _ids(await _page(scene, 20, status="failed", submitted_by="other")) == []

    assert scene.redis.zscore("rq:recado:i:status:failed", job_id) is None


@pytest.mark.parametrize("year", [2112, 2200, 9999])
async def test_time_that_is_far_ahead_is_behind_every_job(scene: Scene, year: int) -> None:
    job_id = await scene.submit()
    at = datetime(year, 12, 31, tzinfo=UTC)

    assert _ids(await _page(scene, 20, created_before=at)) == [job_id]
    assert _ids(await _page(scene, 20, created_after=at)) == []


@pytest.mark.parametrize("year", [1, 1960])
async def test_time_long_past_is_before_every_job(scene: Scene, year: int) -> None:
    job_id = await scene.submit()
    at = datetime(year, 1, 1, tzinfo=UTC)

    assert _ids(await _page(scene, 20, created_after=at)) == [job_id]
    assert _ids(await _page(scene, 20, created_before=at)) == []


@pytest.mark.parametrize("status", ["failed", "finished", "scheduled"])
async def test_one_queues_jobs_in_some_state_are_on_the_first_page(
    scene: Scene, status: str
) -> None:
    many_newer(scene, status)
    delay = 3600.0 if status == "scheduled" else 0.0
    found = await scene.submit(queue="data", priority="low", delay_seconds=delay)
    await scene.submit(queue="data")
    actor = await scene.worker("data.low")
    if status != "scheduled":
        claimed = await actor.take()
        await (actor.fail if status == "failed" else actor.finish)(claimed)
    scene.redis.rename(f"rq:job:{found}", "moved")
    older = "0" * 13 + found[13:]
    scene.redis.rename("moved", f"rq:job:{older}")
    score = scene.redis.zscore(f"rq:{status}:data.low", found)
    scene.redis.zadd(f"rq:{status}:data.low", {older: score})
    scene.redis.zrem(f"rq:{status}:data.low", found)

    page = await _page(scene, 20, status=status, queue="data")

    assert _ids(page) == [older]
    assert page.next_cursor is None


async def test_registry_that_is_something_else_keeps_none_of_the_others(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.take()
    scene.redis.sadd("rq:queues", "rq:queue:broken")
    scene.redis.set("rq:wip:broken", "something else")

    assert _ids(await _page(scene, 20, status="started")) == [job_id]


async def test_stale_entry_of_a_registry_is_not_shown_and_not_touched(scene: Scene) -> None:
    job_id = await scene.submit()
    scene.redis.zadd("rq:wip:default", {f"{job_id}:0123": 1e10, "gone:0123": 1e10})

    assert _ids(await _page(scene, 20, status="started")) == []

    assert scene.redis.zcard("rq:wip:default") == 2
