"""What a worker asks of the server while there is nothing to do, and when it is told of more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.queue.beat import BEAT_SECONDS
from app.queue.hearing import QUIET_SECONDS
from app.queue.transitions import UPKEEP_MS
from app.queue.upkeep import EXPLAIN_SECONDS, PROMOTE_SECONDS, RECOVER_SECONDS, SEARCH_SECONDS
from app.queue.worker import LONGEST_POLL_SECONDS
from tests.heart_scene import RECOVERED_AT, Scene, scene_on

QUEUES = ["data", "default", "email"]


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


def executed(scene: Scene) -> int:
    """Commands that the server has carried out so far, those within scripts too."""
    stats: dict[str, Any] = scene.redis.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")


async def commands_of(scene: Scene, act: Callable[[], Awaitable[Any]]) -> int:
    await act()  # once before, for connections and the script's source
    before = executed(scene)
    await act()
    return executed(scene) - before


async def test_idle_worker_sends_at_most_ten_commands_a_second(scene: Scene) -> None:
    for queue in QUEUES:
        await scene.submit(queue=queue)
    actor = await scene.worker(*QUEUES)
    for claimed in (await actor.claim()).jobs:
        await actor.finish(claimed)
    await actor.claim()
    await scene.recover()  # what has just been, is tidied

    beat = await commands_of(scene, actor.beat)
    promote = await commands_of(scene, scene.caretaker.promote)
    has_scheduled = await commands_of(scene, scene.caretaker.has_scheduled)
    has_waiting = await commands_of(scene, lambda: actor.transitions.has_waiting(QUEUES))
    recover = await commands_of(scene, scene.caretaker.recover)
    # `Scene.recover` itself sends three to make upkeep due.
    explain = await commands_of(scene, scene.caretaker.explain)
    upkeep = await commands_of(scene, scene.recover) - 3 - recover

    a_second = (
        beat / BEAT_SECONDS
        + promote / SEARCH_SECONDS
        + has_scheduled / PROMOTE_SECONDS
        + has_waiting / LONGEST_POLL_SECONDS
        + recover / RECOVER_SECONDS
        + upkeep / (UPKEEP_MS / 1000)
        + 1 / QUIET_SECONDS
        + explain / EXPLAIN_SECONDS
    )
    assert a_second <= 10, (beat, promote, has_scheduled, has_waiting, recover, upkeep)
    assert upkeep > 0
    assert scene.redis.exists(RECOVERED_AT) == 1


async def test_upkeep_is_told_of_a_job_that_may_expire_and_when(scene: Scene) -> None:
    with scene.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("rq:recado:wake")
        pubsub.get_message(timeout=1.0)

        await scene.submit(expires_at=datetime.now(UTC) + timedelta(seconds=60))

        message = pubsub.get_message(timeout=5.0)
        assert message is not None
        assert "@" in message["data"].split(",")
    _, wait_seconds = await scene.caretaker.promote()
    assert wait_seconds is not None
    assert 50 < wait_seconds <= 60


async def test_queues_take_turns_in_upkeep_and_none_is_forgotten(scene: Scene) -> None:
    names = [f"queue-{number}" for number in range(8)]
    job_ids = [await scene.submit(queue=name) for name in names]
    actor = await scene.worker(*names)
    for claimed in (await actor.claim(coroutines=20)).jobs:
        await actor.finish(claimed, ttl=1)
    for name in names:
        scene.redis.zadd(f"rq:finished:{name}", dict.fromkeys(scene.members("finished", name), 1))

    calls = 0
    while any(scene.redis.exists(f"rq:job:{job_id}") for job_id in job_ids):
        calls += 1
        assert calls <= 4
        await scene.recover()
