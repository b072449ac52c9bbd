"""Watching jobs as they go: one subscription, any number of listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.queue.connection import Reachability, end_tasks
from app.queue.errors import QueueUnavailableError
from app.queue.events import Watcher
from app.queue.progress import ProgressReporter
from app.queue.records.drafts import new_job_id
from app.queue.records.views import Event
from tests.conftest import ValkeyServer
from tests.harness import draft
from tests.heart_scene import Scene, scene_on


@asynccontextmanager
async def watching(scene: Scene) -> AsyncIterator[Watcher]:
    watcher = Watcher(scene.client, Reachability())
    running = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        await end_tasks([running])


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
async def watcher(scene: Scene) -> AsyncIterator[Watcher]:
    async with watching(scene) as watcher:
        yield watcher


async def test_events_arrive_in_order_as_the_trail_keeps_them(
    scene: Scene, watcher: Watcher
) -> None:
    submitted = draft("test.note")
    heard: list[Event] = []
    async with watcher.events(submitted.id) as events:
        await scene.submitter.submit(submitted)
        actor = await scene.worker()
        claimed = await actor.take()
        reporter = ProgressReporter(actor.transitions._end_lane, actor.name)
        reporter.note(claimed, 3, 10, "rows", "reading")
        async for event in events:
            heard.append(event)
            if event.name == "progress":
                await actor.finish(claimed)
            if event.is_last:
                break

    assert [each.name for each in heard] == ["queued", "started", "progress", "finished"]
    assert heard[2].detail["current"] == 3
    trail = await scene.views.trail(submitted.id)
    assert trail is not None
    assert [each._replace(detail={}) for each in trail] == [
        each._replace(detail={}) for each in heard
    ]
    progress = (await scene.view(submitted.id)).progress
    assert progress == {"current": 3, "total": 10, "unit": "rows", "message": "reading"}


async def test_waiting_ends_when_all_jobs_have(scene: Scene, watcher: Watcher) -> None:
    drafts = [draft("test.note") for _ in range(3)]
    async with watcher.ended([each.id for each in drafts]) as waiting:
        for each in drafts:
            await scene.submitter.submit(each)
        actor = await scene.worker()
        first, second, third = (await actor.claim()).jobs
        await actor.finish(first)
        await actor.fail(second)
        assert await waiting.wait(0.05) is False
        await actor.finish(third, ttl=0)
        assert await waiting.wait(10) is True


async def test_a_thousand_wait_over_one_subscription(scene: Scene, watcher: Watcher) -> None:
    ids = [new_job_id() for _ in range(1000)]
    before = scene.redis.info("clients")["connected_clients"]
    async with AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(watcher.ended([each])) for each in ids]
        assert scene.redis.info("clients")["connected_clients"] - before <= 2
        for each in ids:
            scene.redis.publish(f"rq:recado:job:{each}", '[2,1795303511720000,"finished"]')
        done = await asyncio.gather(*(each.wait(10) for each in waiting))
    assert all(done)
    assert watcher._listeners == {}


async def test_lost_subscription_ends_the_iterator_and_the_next_one_works(
    valkey: ValkeyServer,
) -> None:
    async with scene_on(valkey.url) as scene, watching(scene) as watcher:
        submitted = draft("test.note")
        async with watcher.events(submitted.id) as events:
            valkey.kill()
            assert [each async for each in events] == []
        with pytest.raises(QueueUnavailableError):
            async with watcher.events(submitted.id):
                pass
        valkey.start()
        async with watcher.events(submitted.id) as events:
            await scene.submitter.submit(submitted)
            assert (await anext(aiter(events))).name == "queued"
