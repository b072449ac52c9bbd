"""Names that RQ would not give, in bytes that no tool can read: they stop nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from app.queue.records.views import JobFilter
from tests.heart_scene import Scene, scene_on

LATIN = "caf\xe9".encode("latin-1")


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    """What is stored, byte by byte."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def _record(raw: redis.Redis, job_id: bytes, **fields: Any) -> None:
    record: dict[Any, Any] = {"data": b'["x",null,[],{}]', "origin": "default", **fields}
    raw.hset(b"rq:job:" + job_id, mapping=record)
    raw.sadd("rq:queues", "rq:queue:default")


async def _listed(scene: Scene) -> list[str]:
    return [job.id for job in (await scene.views.jobs(JobFilter(), 10, None)).jobs]


async def test_entry_in_unreadable_bytes_is_dropped_and_its_neighbour_runs(
    scene: Scene, raw: redis.Redis
) -> None:
    raw.rpush("rq:queue:default", LATIN)
    job_id = await scene.submit()
    actor = await scene.worker()

    claim = await actor.claim()

    assert [each.id for each in claim.jobs] == [job_id]
    assert len(claim.dropped) == 1
    assert raw.llen("rq:queue:default") == 0


@pytest.mark.parametrize("odd", [LATIN, b"a:b", b"a\nb"], ids=["bytes", "colon", "line"])
async def test_record_under_such_an_id_is_put_aside_for_whoever_wants_to_know(
    scene: Scene, raw: redis.Redis, odd: bytes
) -> None:
    _record(raw, odd, status="queued")
    raw.rpush("rq:queue:default", odd)
    await scene.recover()
    actor = await scene.worker()

    claim = await actor.claim()

    assert (claim.jobs, len(claim.dropped)) == ([], 1)
    assert raw.exists(b"rq:job:" + odd) == 0
    assert 0 < raw.ttl(b"rq:recado:broken:" + odd) <= 86400
    assert await _listed(scene) == []


async def test_such_a_scheduled_job_keeps_no_other_from_its_time(
    scene: Scene, raw: redis.Redis
) -> None:
    _record(raw, LATIN, status="scheduled")
    raw.zadd("rq:scheduled:default", {LATIN: 1.0})
    job_id = await scene.submit(delay_seconds=3600.0)
    raw.zadd("rq:scheduled:default", {job_id: 2.0})

    promoted, _ = await scene.caretaker.promote()

    assert [each.id for each in promoted] == [job_id]
    assert raw.zcard("rq:scheduled:default") == 0
    assert raw.exists(b"rq:recado:broken:" + LATIN) == 1
    assert await _listed(scene) == [job_id]


async def test_attempt_that_is_no_number_keeps_no_job_from_its_time(
    scene: Scene, raw: redis.Redis
) -> None:
    job_id = await scene.submit(delay_seconds=3600.0)
    raw.hset(f"rq:job:{job_id}", "x_attempt", "first")
    raw.zadd("rq:scheduled:default", {job_id: 1.0})

    promoted, _ = await scene.caretaker.promote()

    assert [(each.id, each.attempt) for each in promoted] == [(job_id, 0)]


async def test_queue_of_such_a_name_is_cared_for_like_any_other(
    scene: Scene, raw: redis.Redis
) -> None:
    raw.sadd("rq:queues", b"rq:queue:" + LATIN)
    _record(raw, b"in-time", origin=LATIN, status="scheduled")
    raw.zadd(b"rq:scheduled:" + LATIN, {b"in-time": 1.0})
    _record(raw, b"popped", origin=LATIN, status="queued")
    raw.rpush(b"rq:queue:" + LATIN + b":intermediate", b"popped")
    raw.set(b"rq:queue:" + LATIN + b":intermediate:first_seen:popped", 1)

    promoted, _ = await scene.caretaker.promote()
    recovered, _ = await scene.recover()

    assert [each.id for each in promoted] == ["in-time"]
    assert [each.id for each in recovered] == ["popped"]
    assert raw.lrange(b"rq:queue:" + LATIN, 0, -1) == [b"popped", b"in-time"]
