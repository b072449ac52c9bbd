"""What stock tools fail has a cause, too: it is listed, grouped and retried like the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from rq import SimpleWorker
from rq.registry import StartedJobRegistry

from app.queue.calling import pack_traceback
from app.queue.explaining import class_and_message
from app.queue.records.views import JobFilter
from tests.stock import Stock, stock_on
from tests.web_scene import WebScene, web_scene_on


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    with stock_on(redis_url) as stock:
        yield stock


async def explain(web: WebScene) -> int:
    await web.heart.caretaker.promote()
    return await web.heart.caretaker.explain()


async def groups(web: WebScene) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await web.client.get("/v1/failures")).json()["data"]
    return found


def fail_as_stock(web: WebScene, job_id: str, end: str) -> None:
    """As a stock worker leaves a job whose function raised."""
    text = f'Traceback (most recent call last):\n  File "a.py", line 1, in run\n    run()\n{end}\n'
    redis = web.heart.redis
    redis.lrem("rq:queue:default", 0, job_id)
    redis.hset(f"rq:job:{job_id}", "status", "failed")
    redis.zadd("rq:failed:default", {job_id: web.heart.now_ms() / 1000 + 3600})
    redis.xadd(f"rq:results:{job_id}", {"type": 2, "exc_string": pack_traceback(text)})


async def test_job_that_a_stock_worker_failed_is_in_a_group(web: WebScene, stock: Stock) -> None:
    job = stock.queue().enqueue("json.loads", "{")
    ours = await web.submit()
    worker = SimpleWorker([stock.queue()], connection=stock.connection,
                          serializer=stock.queue().serializer)  # fmt: skip
    worker.work(burst=True, max_jobs=1)
    assert await groups(web) == []

    assert await explain(web) == 1

    (group,) = await groups(web)
    assert (group["count"], group["samples"], group["type"]) == (1, [job.id], "json.loads")
    assert group["error"]["class"] == "JSONDecodeError"
    shown = await web.job(job.id)
    assert shown["error"]["fingerprint"] == group["fingerprint"]
    assert shown["error"]["message"].startswith("Expecting property name")
    found = await web.heart.views.jobs(JobFilter(status="failed"), 20, None)
    assert [each.id for each in found.jobs] == [job.id]
    assert await explain(web) == 0
    assert web.heart.queued() == [ours]


async def test_alike_failures_of_stock_tools_are_one_group_and_can_be_retried(
    web: WebScene,
) -> None:
    ids = [await web.submit() for _ in range(3)]
    for number, job_id in enumerate(ids):
        fail_as_stock(web, job_id, f"app.errors.Refused: no user {number}\nask again")

    await explain(web)

    (group,) = await groups(web)
    assert (group["count"], group["error"]["class"]) == (3, "Refused")
    assert group["error"]["message"] == "no user … ask again"
    assert (await web.client.post(f"/v1/jobs/{ids[0]}/retry")).status_code == 202
    (group,) = await groups(web)
    assert group["count"] == 2


async def test_job_that_stock_upkeep_failed_has_its_cause(web: WebScene, stock: Stock) -> None:
    job_id = stock.enqueue("test.note", {}).id
    web.heart.redis.lrem("rq:queue:default", 0, job_id)
    web.heart.redis.zadd("rq:wip:default", {f"{job_id}:0123": 1})
    web.heart.redis.hset(f"rq:job:{job_id}", "status", "started")
    StartedJobRegistry(connection=stock.connection, serializer=stock.queue().serializer).cleanup()

    await explain(web)

    (group,) = await groups(web)
    assert (group["samples"], group["type"]) == ([job_id], "test.note")
    assert group["error"]["class"] == "AbandonedJobError"


async def test_job_that_failed_here_before_and_then_at_a_stock_worker_is_grouped_anew(
    web: WebScene,
) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    await actor.retry(await actor.take(), 0)
    fail_as_stock(web, job_id, "ValueError")

    await explain(web)

    (group,) = await groups(web)
    assert (group["count"], group["error"]["class"]) == (1, "ValueError")


async def test_failures_of_ours_and_what_cannot_be_read_are_left_alone(web: WebScene) -> None:
    await web.submit()
    actor = await web.heart.worker()
    await actor.fail(await actor.take())
    before = await groups(web)
    redis = web.heart.redis
    redis.set("rq:job:odd", "something else")
    redis.zadd("rq:failed:default", {"odd": 1e10, "gone": 1e10})
    redis.sadd("rq:queues", "rq:queue:broken")
    redis.set("rq:failed:broken", "something else")

    assert await explain(web) == 0

    assert await groups(web) == before


async def test_hundreds_are_explained_over_several_calls(web: WebScene) -> None:
    ids = await web.heart.submit_many(300)
    for job_id in ids:
        fail_as_stock(web, job_id, "ValueError: bad")

    calls = 0
    while await explain(web):
        calls += 1
        assert calls < 40

    assert calls > 3
    (group,) = await groups(web)
    assert group["count"] == 300


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Traceback:\n  File\n    x\na.b.C: one\ntwo", ("C", "one\ntwo")),
        ("Traceback:\n  File\n    x\nKeyError", ("KeyError", "")),
        ("killed: signal 9", ("UnknownError", "killed: signal 9")),
        ("", ("UnknownError", "")),
    ],
)
def test_cause_is_what_the_end_of_a_traceback_says(text: str, told: tuple[str, str]) -> None:
    assert class_and_message(text) == told


async def test_walk_over_what_has_failed_comes_to_the_oldest(web: WebScene) -> None:
    """Behind hundreds that have a cause, of which each call looks at some."""
    redis = web.heart.redis
    (oldest,) = await web.heart.submit_many(1)
    fail_as_stock(web, oldest, "ValueError: bad")
    redis.zadd("rq:failed:default", {oldest: 1})
    await web.heart.submit_many(600)
    actor = await web.heart.worker()
    while jobs := (await actor.claim(coroutines=64)).jobs:
        for each in jobs:
            await actor.fail(each)

    calls = 0
    while await explain(web) == 0:
        calls += 1
        assert calls < 10

    assert calls > 0
    assert (await web.job(oldest))["error"]["class"] == "ValueError"
