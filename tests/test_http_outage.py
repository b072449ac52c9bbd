"""Who waits for a job or follows it is not told off when Redis is away for a moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import ValkeyServer
from tests.http_doubles import Exchange, until
from tests.web_scene import NOTE, WebScene, web_scene_on


@pytest.fixture
async def web(valkey: ValkeyServer) -> AsyncIterator[WebScene]:
    async with web_scene_on(valkey.url) as scene:
        yield scene


async def test_waiting_and_following_clients_hear_of_the_end_all_the_same(
    web: WebScene, valkey: ValkeyServer
) -> None:
    batch: dict[str, Any] = {"jobs": [NOTE]}
    waiting = asyncio.create_task(web.post("/v1/jobs", NOTE, Prefer="wait=25"))
    whole = asyncio.create_task(web.post("/v1/batches", batch, Prefer="wait=25"))
    await until(lambda: len(web.heart.queued()) == 2)
    followed = await web.submit()
    path = f"/v1/jobs/{followed}/events"
    async with Exchange(web.app, "GET", path, accept="text/event-stream").start() as stream:
        await stream.read(to=b"event: queued")
        valkey.kill()
        valkey.start()
        actor = await web.heart.worker()
        for claimed in (await actor.claim()).jobs:
            await actor.finish(claimed)
        text = (await stream.read(seconds=25)).decode()
    answers = await asyncio.gather(waiting, whole)

    assert [each.status_code for each in answers] == [200, 200]
    assert answers[0].json()["status"] == "finished"
    assert answers[1].json()["counts"] == {"finished": 1}
    assert re.findall(r"^event: (.*)$", text, re.MULTILINE) == ["queued", "started", "finished"]
