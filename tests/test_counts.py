"""What is counted of jobs grows in the call that moves them: once, whoever asks again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.queue.control import Control
from app.queue.figures import BOUNDS, Counted, Measures
from app.queue.overview import Overview
from app.queue.records.drafts import new_job_id
from app.queue.submission_times import SubmissionTimes
from app.queue.transitions import Outcome
from tests.conftest import ValkeyServer
from tests.harness import draft
from tests.heart_scene import LossyNetwork, Scene, scene_on
from tests.stock import stock_on

TYPES = ("test.note", "test.flaky", "email.send")
QUEUES = ["default", "email"]


@pytest.fixture
async def network(shared_valkey: ValkeyServer) -> AsyncIterator[LossyNetwork]:
    network = LossyNetwork(shared_valkey.port)
    await network.open()
    yield network
    await network.close()


@pytest.fixture
async def scene(redis_url: str, network: LossyNetwork) -> AsyncIterator[Scene]:
    async with scene_on(redis_url, network) as scene:
        yield scene


async def measures(scene: Scene) -> Measures:
    return await Overview(scene.client, scene.reachability, QUEUES).measures(TYPES)


async def counted(scene: Scene, queue: str = "default", name: str = "test.note") -> Counted:
    found = {(each.queue, each.type): each for each in (await measures(scene)).counted}
    assert (queue, name) in found, found
    return found[queue, name]


async def events(scene: Scene, **where: str) -> dict[str, int]:
    """What was counted more than never."""
    return {name: count for name, count in (await counted(scene, **where)).events.items() if count}


async def test_life_of_a_job_is_counted_step_by_step(scene: Scene) -> None:
    actor = await scene.worker()
    await scene.submit()
    await actor.retry(await actor.take(), 0.0)
    assert await events(scene) == {"submitted": 1, "claimed": 1, "retried": 1}

    await actor.finish(await actor.take())

    assert await events(scene) == {"submitted": 1, "claimed": 2, "retried": 1, "finished": 1}
    found = await counted(scene)
    assert (found.wait.count, found.run.count) == (2, 2)


async def test_run_that_puts_its_job_off_is_no_failed_run(scene: Scene) -> None:
    actor = await scene.worker()
    await scene.submit()
    claimed = await actor.take()

    await actor.transitions.end(
        Outcome(claimed.id, claimed.execution, claimed.queue, "postponed", -1, delay_seconds=60.0)
    )

    assert await events(scene) == {"submitted": 1, "claimed": 1, "postponed": 1}


async def test_each_way_to_end_has_a_count_of_its_own(scene: Scene) -> None:
    actor = await scene.worker()
    ids = await scene.submit_many(5)
    claim = {each.id: each for each in (await actor.claim()).jobs}
    jobs = [claim[job_id] for job_id in ids]
    waiting = await scene.submit()
    control = Control(scene.client, scene.reachability)

    await actor.finish(jobs[0], ttl=0)
    await actor.fail(jobs[1])
    await control.cancel(waiting, "ops")
    await control.cancel(jobs[2].id, "ops")
    kinds: list[Any] = ["stopped", "interrupted", "abandoned"]
    for each, kind in zip(jobs[2:], kinds, strict=True):
        await actor.transitions.end(Outcome(each.id, each.execution, each.queue, kind, 3600))
    await control.aclose()

    assert await events(scene) == {
        "submitted": 6, "claimed": 5, "finished": 1, "failed": 1, "canceled": 1, "stopped": 1,
        "interrupted": 1, "recovered": 1,
    }  # fmt: skip


async def test_what_a_dead_worker_held_is_counted_as_recovered(scene: Scene) -> None:
    actor = await scene.worker()
    await scene.submit()
    await actor.take()
    scene.silence(actor)

    await scene.recover()

    assert await events(scene) == {"submitted": 1, "claimed": 1, "recovered": 1}


@pytest.mark.parametrize("count", [3, 200])
async def test_batch_counts_each_job(scene: Scene, count: int) -> None:
    await scene.submitter.submit_batch(new_job_id(), [draft("test.note") for _ in range(count)])

    assert await events(scene) == {"submitted": count}


async def test_priorities_are_one_queue(scene: Scene) -> None:
    actor = await scene.worker("email.high", "email", "email.low")
    for priority in ("high", "default", "low"):
        await scene.submit("email.send", priority=priority)
    for claimed in (await actor.claim()).jobs:
        await actor.finish(claimed)

    found = await events(scene, queue="email", name="email.send")

    assert found == {"submitted": 3, "claimed": 3, "finished": 3}


async def test_lost_replies_count_once(scene: Scene, network: LossyNetwork) -> None:
    actor = await scene.worker()
    await scene.submit()
    await actor.finish(await actor.take())
    for _ in range(2):
        network.lose_replies()
        await scene.submit()
        network.lose_replies()
        claimed = await actor.take()
        network.lose_replies()
        await actor.finish(claimed)

    assert await events(scene) == {"submitted": 3, "claimed": 3, "finished": 3}


async def test_late_outcome_counts_nothing(scene: Scene) -> None:
    first, second = await scene.worker(), await scene.worker()
    await scene.submit()
    late = await first.take()
    scene.silence(first)
    await scene.recover()
    await second.finish(await second.take())

    assert await first.finish(late) == "late"

    assert (await counted(scene)).events["finished"] == 1


async def test_what_is_not_registered_is_other(scene: Scene, redis_url: str) -> None:
    await scene.submit("test.note_process", queue="elsewhere")
    with stock_on(redis_url) as stock:
        stock.enqueue("test.note", {})
    actor = await scene.worker()
    await actor.finish(await actor.take())

    assert await events(scene, queue="other", name="other") == {"submitted": 1}
    assert await events(scene, name="other") == {"claimed": 1, "finished": 1}


@pytest.mark.parametrize(("waited", "bound"), [(0.0, "1"), (200.0, "300"), (9000.0, "inf")])
async def test_waiting_is_measured_from_the_trail(scene: Scene, waited: float, bound: str) -> None:
    actor = await scene.worker()
    job_id = await scene.submit()
    us = scene.now_ms() * 1000 - round(waited * 1e6)
    scene.redis.hset(f"rq:job:{job_id}", "x_trail", f'[1,{us - 50},"scheduled"]\n[2,{us},"queued"]')

    await actor.take()

    wait = (await counted(scene)).wait
    up_to = dict(zip(BOUNDS, wait.counts, strict=True))
    limit = BOUNDS.index(bound)
    assert sum(up_to[each] for each in BOUNDS[: limit + 1]) == 1
    if waited:
        assert up_to[bound] == 1
    assert wait.sum_seconds >= waited


async def test_job_that_a_stock_tool_queued_has_no_waiting_time(scene: Scene) -> None:
    actor = await scene.worker()
    job_id = await scene.submit()
    await actor.fail(await actor.take())
    with stock_on(scene.url) as stock:
        stock.failed().requeue(job_id)

    await actor.take()

    found = await counted(scene)
    assert (found.events["claimed"], found.wait.count) == (2, 1)


async def test_key_that_is_something_else_costs_the_counts_only(scene: Scene) -> None:
    scene.redis.set("rq:recado:counts", "somebody's")
    actor = await scene.worker()
    plain = await scene.submit()
    tagged = await scene.submit(tags={"a": "b"})
    for claimed in (await actor.claim()).jobs:
        await actor.finish(claimed)

    assert [scene.status(each) for each in (plain, tagged)] == ["finished", "finished"]


async def test_upkeep_notes_the_counts_once_a_minute(scene: Scene) -> None:
    await scene.submit()
    await scene.recover()
    (key,) = _noted_minutes(scene)
    noted = scene.redis.get(key)
    await scene.submit()
    await scene.recover()

    keys = _noted_minutes(scene)
    # The minute may have turned between the two.
    assert len(keys) <= 2
    assert scene.redis.get(key) == noted
    assert json.loads(noted)["counts"] == {"submitted|default|test.note": "1"}
    assert 3600 < scene.redis.ttl(key) <= 3900


async def test_upkeep_notes_what_waits_and_since_when(scene: Scene) -> None:
    overview = Overview(scene.client, scene.reachability, ["email"])
    await scene.recover()
    scene.redis.delete(*_noted_minutes(scene))
    for priority in ("default", "high"):
        job_id = await scene.submit(queue="email", priority=priority)
    old = datetime.now(UTC) - timedelta(minutes=5)
    scene.redis.hset(f"rq:job:{job_id}", "enqueued_at", old.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    scene.redis.set("rq:queue:broken", "somebody's")
    scene.redis.sadd("rq:queues", "rq:queue:broken")
    await scene.recover()

    hour = await overview.hour()
    assert hour[-1].depths == {"email": 2}
    assert 300 <= hour[-1].oldest_ages["email"] < 330
    scene.redis.flushall()
    assert await overview.hour() == hour  # a note that is known is not asked for again


async def test_submissions_of_several_processes_are_summed_up(scene: Scene) -> None:
    first, second = SubmissionTimes(scene.client), SubmissionTimes(scene.client)
    for seconds in (0.001, 0.004, 2.0):
        first.add(seconds)
    second.add(5000.0)
    await asyncio.gather(first.tell(), second.aclose())
    await first.tell()

    found = (await measures(scene)).submissions

    told = {bound: n for bound, n in zip(BOUNDS, found.counts, strict=True) if n}
    assert told == {"0.005": 2, "2.5": 1, "inf": 1}
    assert found.sum_seconds == pytest.approx(5002.005)


async def test_submissions_that_a_full_redis_does_not_note_are_told_later(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    times = SubmissionTimes(scene.client)
    times.add(0.001)
    scene.redis.config_set("maxmemory", 1)
    try:
        await times.tell()
    finally:
        scene.redis.config_set("maxmemory", 0)
    times.add(2.0)
    await times.tell()

    found = (await measures(scene)).submissions

    told = {bound: n for bound, n in zip(BOUNDS, found.counts, strict=True) if n}
    assert told == {"0.005": 1, "2.5": 1}
    assert found.sum_seconds == pytest.approx(2.001)
    assert not caplog.records


async def test_rates_are_of_about_the_last_minute(scene: Scene) -> None:
    overview = Overview(scene.client, scene.reachability, ["default"])
    (unknown,) = await overview.queues()
    _note(scene, 40, {"submitted|default|test.note": "10"})
    _note(scene, 100, {"submitted|default|test.note": "1"})
    scene.redis.hset("rq:recado:counts", mapping={
        "submitted|default|test.note": 50, "finished|default|test.note": 15,
        "failed|default|test.flaky": 5, "submitted|email|email.send": 7,
    })  # fmt: skip

    (known, _) = await Overview(scene.client, scene.reachability, QUEUES).queues()

    assert (unknown.rate_in, unknown.rate_out) == (None, None)
    assert known.rate_in is not None
    assert known.rate_out is not None
    # 40 came and 20 ended since the note 40 s ago, or some seconds more on a slow machine.
    assert 40 / 60 < known.rate_in <= 1.0
    assert known.rate_out == pytest.approx(known.rate_in / 2, abs=0.01)


async def test_last_hour_is_told_by_the_minute(scene: Scene) -> None:
    _note(scene, 240, {"submitted|default|test.note": "1"})
    _note(scene, 120, {
        "submitted|default|test.note": "5", "claimed|default|test.note": "2",
        "wait:1|default|test.note": "2", "wait_us|default|test.note": "1500000",
        "finished|default|test.note": "1", "submitted|email|email.send": "100",
    })  # fmt: skip
    scene.redis.set(_minute_key(scene, 60), "not JSON")

    minutes = await Overview(scene.client, scene.reachability, QUEUES).minutes("default")

    (minute,) = minutes
    assert minute.seconds == pytest.approx(120.0, abs=30)  # the notes were made one by one
    assert (minute.accepted, minute.ended["finished"], minute.ended["failed"]) == (4, 1, 0)
    assert (minute.wait.count, minute.wait.sum_seconds) == (2, 1.5)
    assert minute.wait.quantile(0.5) == 0.75
    assert minute.run.quantile(0.5) is None


def _noted_minutes(scene: Scene) -> list[str]:
    keys = scene.redis.keys("rq:recado:counts:*")
    return [key for key in keys if not key.endswith(":waiting")]


def _note(scene: Scene, ago_seconds: int, counts: dict[str, str]) -> None:
    """As upkeep noted it so long ago."""
    at = scene.now_ms() * 1000 - ago_seconds * 1_000_000
    scene.redis.set(_minute_key(scene, ago_seconds), json.dumps({"at": str(at), "counts": counts}))


def _minute_key(scene: Scene, ago_seconds: int) -> str:
    return f"rq:recado:counts:{(scene.now_ms() // 1000 - ago_seconds) // 60}"
