"""promote: a scheduled job is queued when its time has come, by the server's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.heart_scene import Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def test_never_early_and_to_the_millisecond(scene: Scene) -> None:
    """promote itself says how long to wait: trusting it, one arrives neither early nor late."""
    job_id = await scene.submit(delay_seconds=0.05)
    due = scene.redis.zscore("rq:scheduled:default", job_id)
    while scene.queued() == []:
        before = scene.now_ms() / 1000
        promoted, wait = await scene.caretaker.promote()
        after = scene.now_ms() / 1000
        if promoted:
            assert due <= after + 0.001
        else:
            assert before <= due
            assert wait is not None
            assert due - after - 0.002 <= wait <= due - before + 0.002

    assert scene.queued() == [job_id]
    assert scene.members("scheduled") == []
    assert scene.trail(job_id) == ["scheduled", "queued"]
    assert (await scene.view(job_id)).enqueued_at is not None


async def test_time_is_kept_to_the_microsecond(scene: Scene) -> None:
    at = datetime(2099, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    job_id = await scene.submit(scheduled_at=at)

    assert scene.redis.zscore("rq:scheduled:default", job_id) == pytest.approx(
        at.timestamp(), abs=1e-6
    )
    assert (await scene.view(job_id)).scheduled_at == at


async def test_time_in_the_past_is_queued_at_once(scene: Scene) -> None:
    job_id = await scene.submit(scheduled_at=datetime.now(UTC) - timedelta(hours=1))

    assert scene.queued() == [job_id]
    assert scene.members("scheduled") == []
    assert scene.trail(job_id) == ["queued"]


async def test_overdue_job_is_queued_at_once(scene: Scene) -> None:
    job_id = await scene.submit_overdue(datetime.now(UTC) - timedelta(hours=1))

    promoted, wait = await scene.caretaker.promote()

    assert [each.id for each in promoted] == [job_id]
    assert wait is None


async def test_queue_that_a_stock_scheduler_works_on_is_left_to_it(scene: Scene) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    locked = await scene.submit_overdue(past)
    free = await scene.submit_overdue(past, queue="email")
    scene.redis.set("rq:scheduler-lock:default", "another", ex=60)

    promoted, _ = await scene.caretaker.promote()

    assert [each.id for each in promoted] == [free]
    assert scene.status(locked) == "scheduled"
    assert scene.redis.get("rq:scheduler-lock:default") == "another"
    scene.redis.delete("rq:scheduler-lock:default")
    assert [each.id for each in (await scene.caretaker.promote())[0]] == [locked]
    assert scene.redis.exists("rq:scheduler-lock:default") == 0


async def test_entry_whose_job_is_elsewhere_is_dropped(scene: Scene) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    gone, finished, broken, sound = [await scene.submit_overdue(past) for _ in range(4)]
    scene.redis.delete(f"rq:job:{gone}", f"rq:job:{broken}")
    scene.redis.hset(f"rq:job:{finished}", "status", "finished")
    scene.redis.set(f"rq:job:{broken}", "not a job")

    promoted, _ = await scene.caretaker.promote()

    assert [each.id for each in promoted] == [sound]
    assert scene.queued() == [sound]
    assert scene.members("scheduled") == []
    assert scene.status(finished) == "finished"
    assert scene.members("failed") == [broken]


async def test_hundreds_that_are_due_come_over_several_calls_in_their_order(scene: Scene) -> None:
    base = datetime.now(UTC) - timedelta(hours=1)
    job_ids = [await scene.submit_overdue(base + timedelta(milliseconds=n)) for n in range(250)]

    first, wait = await scene.caretaker.promote()
    assert 0 < len(first) < 250
    assert wait == 0
    while wait is not None:
        _, wait = await scene.caretaker.promote()

    assert scene.queued() == job_ids
