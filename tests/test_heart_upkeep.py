"""Upkeep finds what stock tools and the dead have left, a bounded amount a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from rq.job import Job

from app.queue.records.options import Concurrency
from app.queue.records.views import JobFilter
from tests.heart_scene import BEATS, Scene, scene_on
from tests.stock import Stock, stock_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    with stock_on(redis_url) as stock:
        yield stock


def _indexes(scene: Scene) -> dict[str, int]:
    return {key: scene.redis.zcard(key) for key in scene.redis.keys("rq:recado:i:*")}


async def test_lists_forget_what_stock_tools_deleted(scene: Scene, stock: Stock) -> None:
    """Bounded: hundreds leave the lists over several calls."""
    await scene.submit(submitted_by="shop", delay_seconds=3600.0)
    await scene.submit_many(450, submitted_by="shop")
    stock.queue().empty()  # type: ignore[no-untyped-call]
    assert scene.redis.zcard("rq:recado:i:all") == 451

    await scene.recover()
    assert scene.redis.zcard("rq:recado:i:all") > 200
    for _ in range(3):
        await scene.recover()

    names = ("all", "type:test.note", "by:shop", "status:scheduled")
    assert _indexes(scene) == {f"rq:recado:i:{name}": 1 for name in names}


async def test_list_by_tag_forgets_a_job_that_a_stock_tool_deleted(
    scene: Scene, stock: Stock
) -> None:
    job_id = await scene.submit(tags={"order": "7"}, submitted_by="shop")
    Job.fetch(job_id, connection=stock.connection, serializer=stock.queue().serializer).delete()

    page = await scene.views.jobs(JobFilter(tag=("order", "7")), 10, None)

    assert page.jobs == []
    assert _indexes(scene) == {}


async def test_slot_of_a_job_that_a_stock_tool_deleted_is_given_on(
    scene: Scene, stock: Stock
) -> None:
    slot = Concurrency("report", 1)
    first = await scene.submit(concurrency=slot)
    second = await scene.submit(concurrency=slot)
    scene.redis.delete(f"rq:job:{first}")
    scene.redis.lrem("rq:queue:default", 0, first)
    assert scene.queued() == []

    await scene.recover()

    assert scene.queued() == [second]


async def test_bytes_of_a_queue_that_a_stock_tool_emptied_are_not_counted(
    scene: Scene, stock: Stock
) -> None:
    await scene.submit_many(3)
    assert int(scene.redis.hget("rq:recado:bytes", "default")) > 0
    stock.queue().empty()  # type: ignore[no-untyped-call]

    await scene.recover()

    assert scene.redis.hgetall("rq:recado:bytes") == {}


async def test_hundreds_of_foreign_executions_are_taken_over_in_several_calls(
    scene: Scene,
) -> None:
    job_ids = await scene.submit_many(120)
    past = scene.now_ms() / 1000 - 1
    scene.redis.delete("rq:queue:default")
    for job_id in job_ids:
        scene.redis.hset(f"rq:job:{job_id}", mapping={"status": "started", "worker_name": "stock"})
        scene.redis.zadd("rq:wip:default", {f"{job_id}:0123": past})

    first, more = await scene.recover()
    assert 0 < len(first) < 120
    rest = []
    while more:
        found, more = await scene.caretaker.recover()
        rest += found

    assert sorted(each.id for each in first + rest) == sorted(job_ids)
    assert sorted(scene.queued()) == sorted(job_ids)
    assert scene.members("wip") == []


async def test_job_behind_hundreds_of_deleted_ones_gets_its_slot_over_several_calls(
    scene: Scene,
) -> None:
    concurrency = Concurrency("shop", 1)
    first = await scene.submit(concurrency=concurrency)
    actor = await scene.worker()
    claimed = await actor.take()
    assert claimed.id == first
    deleted = await scene.submit_many(250, concurrency=concurrency)
    last = await scene.submit(concurrency=concurrency)
    scene.redis.delete(*(f"rq:job:{job_id}" for job_id in deleted))
    (waiting,) = scene.redis.keys("rq:rl:*:rate_limited")

    await actor.finish(claimed)
    assert 0 < scene.redis.zcard(waiting) < 251
    assert scene.queued() == []
    _, more = await scene.recover()
    while more:
        _, more = await scene.caretaker.recover()

    assert scene.queued() == [last]
    assert scene.redis.zcard(waiting) == 0


async def test_hundreds_of_ids_left_in_an_intermediate_list_go_back(scene: Scene) -> None:
    job_ids = await scene.submit_many(120)
    intermediate = "rq:queue:default:intermediate"
    scene.redis.rename("rq:queue:default", intermediate)
    long_ago = scene.now_ms() / 1000 - 100
    for job_id in job_ids:
        scene.redis.set(f"{intermediate}:first_seen:{job_id}", long_ago)

    first, _ = await scene.recover()
    assert 0 < len(first) < 120
    calls = 1
    while scene.redis.llen(intermediate):
        await scene.recover()
        calls += 1
        assert calls < 10

    assert sorted(scene.queued()) == sorted(job_ids)
    assert not [key for key in scene.stored() if key.startswith(intermediate)]


async def test_retention_of_hundreds_leaves_no_key_of_them(scene: Scene) -> None:
    actor = await scene.worker()
    await scene.submit_many(300, tags={"a": "b"}, submitted_by="shop")
    while claims := (await actor.claim(coroutines=64)).jobs:
        for each in claims:
            await (actor.fail if each.id[-1] in "02468ace" else actor.finish)(each)
    past = scene.now_ms() / 1000 - 1
    for registry in ("finished", "failed"):
        for job_id in scene.members(registry):
            scene.redis.zadd(f"rq:{registry}:default", {job_id: past})

    more = True
    calls = 0
    while more:
        _, more = await scene.recover()
        calls += 1
        assert calls < 50

    assert _indexes(scene) == {}
    assert not [key for key in scene.stored() if key.startswith(("rq:job:", "rq:results:"))]
    assert scene.members("finished") == scene.members("failed") == []


async def test_suspended_service_still_keeps_house(scene: Scene) -> None:
    """`rq suspend` keeps jobs from beginning; what the dead held is queued all the same."""
    held = await scene.submit()
    due = await scene.submit(delay_seconds=0.001)
    silent, alive = await scene.worker(), await scene.worker()
    await silent.claim(coroutines=1)
    scene.redis.set("rq:suspended", 1)
    scene.silence(silent)

    await scene.recover()
    promoted: list[str] = []
    while not promoted:
        promoted = [each.id for each in (await scene.caretaker.promote())[0]]

    assert scene.queued() == [held, due]
    assert (await alive.claim()).state == "suspended"
    scene.redis.delete("rq:suspended")
    assert [each.id for each in (await alive.claim()).jobs] == [held, due]


async def test_walk_forgets_where_it_was_in_a_queue_that_is_no_more(scene: Scene) -> None:
    await scene.submit_many(300)
    await scene.submit_many(900, queue="email")
    for _ in range(2):
        await scene.recover()
    walked = "rq:recado:walked"
    assert set(scene.redis.hkeys(walked)) == {"default", "email"}

    scene.redis.delete("rq:queue:default")
    await scene.recover()
    assert scene.redis.hkeys(walked) == ["email"]
    # Its entries are still there, but nobody is told of it any more.
    scene.redis.srem("rq:queues", "rq:queue:email")
    await scene.recover()

    assert scene.redis.exists(walked) == 0


def _executed(scene: Scene) -> int:
    stats = scene.redis.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


async def test_one_call_does_a_bounded_amount_whatever_there_is_to_do(scene: Scene) -> None:
    """The server does nothing else meanwhile: some 3,000 commands of a script are 2 to 3 ms."""
    actor = await scene.worker()
    silent = await scene.worker()
    names = [f"queue-{number}" for number in range(2)]
    await scene.submit_many(32)
    held = len((await silent.claim(coroutines=64)).jobs)
    await scene.submit_many(600, submitted_by="shop", tags={"a": "b"})
    while claims := (await actor.claim(coroutines=64)).jobs:
        for each in claims:
            await (actor.fail if each.id[-1] in "02468ace" else actor.finish)(each)
    past = scene.now_ms() / 1000 - 1
    for registry in ("finished", "failed"):
        due = dict.fromkeys(scene.members(registry), past)
        scene.redis.zadd(f"rq:{registry}:default", due)
    for name in names:
        for job_id in await scene.submit_many(300, queue=name):
            scene.redis.expire(f"rq:job:{job_id}", 3600)
    deleted = await scene.submit_many(300)
    scene.redis.delete("rq:queue:default", *(f"rq:job:{job_id}" for job_id in deleted))
    scene.silence(silent)

    calls, more = 0, True
    while more:
        before = _executed(scene)
        _, more = await (scene.caretaker.recover() if calls else scene.recover())
        assert _executed(scene) - before < 3000
        calls += 1
        assert calls < 30

    assert calls > 3
    assert scene.members("finished") == scene.members("failed") == []
    assert len(scene.queued()) == held > 0


@pytest.mark.parametrize(
    "key",
    ["workers", "workers:default", "recado:upkeep_turn", "recado:listens", "recado:walked",
     "recado:walk_at", "recado:upkeep_step", "recado:retained", "rl-keys", "recado:expires",
     "recado:paused", "wip:broken", "deferred:broken", "finished:broken", "queue:broken",
     "scheduled:broken", "recado:bytes", "recado:settle", "recado:recount_at"],
)  # fmt: skip
async def test_key_that_is_something_else_stops_neither_recovery_nor_upkeep(
    scene: Scene, key: str
) -> None:
    """Nor who is born, claims, promotes and leaves."""
    held, due, old = await scene.submit(), await scene.submit(delay_seconds=0.001), "0" * 35
    for number in range(4):
        await scene.submit(queue=f"queue-{number}")
    silent = await scene.worker()
    await silent.claim(coroutines=1)
    scene.redis.hset(f"rq:job:{old}", mapping={"status": "finished", "x_type": "test.note"})
    scene.redis.zadd("rq:finished:default", {old: 1})
    scene.redis.sadd("rq:queues", "rq:queue:broken", "queue")
    scene.redis.sadd("rq:workers", "worker")
    scene.redis.delete(f"rq:{key}")
    (scene.redis.set if "_" not in key else scene.redis.rpush)(f"rq:{key}", "something else")
    scene.silence(silent)

    recovered, _ = await scene.recover()
    for _ in range(3):
        await scene.recover()
    alive = await scene.worker("default")
    promoted: list[str] = []
    while not promoted:
        promoted = [each.id for each in (await scene.caretaker.promote())[0]]

    assert [each.id for each in recovered] == [held]
    assert promoted == [due]
    assert [each.id for each in (await alive.claim()).jobs] == [held, due]
    assert scene.status(old) is None
    await alive.beat()
    await alive.transitions.death()
    assert sorted(scene.queued()) == sorted([held, due])
    assert scene.redis.zcard(BEATS) == 0
