"""How far a job is: on the job, in its trail and in its stream, under one numbering."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.queue.calling import run_script, to_json
from app.queue.scripts import PROGRESS
from app.queue.transitions import Claimed, Outcome
from tests.harness import draft, service
from tests.heart_scene import Actor
from tests.http_doubles import Exchange
from tests.web_scene import NOTE, WebScene, web_scene_on

KEPT = 10


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


def word(current: int) -> dict[str, Any]:
    return {"current": current, "total": 100, "unit": "rows", "message": "a\nb"}


async def tell(actor: Actor, claimed: Claimed, *numbers: int) -> None:
    """As a worker reports it, once for each."""
    for current in numbers:
        parts = [claimed.id, claimed.execution, to_json(word(current))]
        await run_script(actor.scene.lane, PROGRESS, actor.name, 1, *parts)


async def trail(web: WebScene, job_id: str) -> list[dict[str, Any]]:
    response = await web.client.get(
        f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"}
    )
    return list(response.json()["data"])


async def test_trail_keeps_the_newest_words_and_numbers_go_on(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    await tell(actor, claimed, *range(1, 31))
    assert (await web.job(job_id))["progress"] == word(30)

    await actor.finish(claimed)

    events = await trail(web, job_id)
    assert [each["event"] for each in events] == [
        "queued", "started", *["progress"] * KEPT, "finished",
    ]  # fmt: skip
    told = [each["detail"] for each in events if each["event"] == "progress"]
    assert told == [word(number) for number in range(21, 31)]
    numbers = [int(each["id"]) for each in events]
    assert numbers == [1, 2, *range(23, 33), 33]
    assert all(one <= other for one, other in pairwise(each["at"] for each in events))


async def test_client_that_comes_back_goes_on_where_it_was(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    path = f"/v1/jobs/{job_id}/events"
    async with Exchange(web.app, "GET", path, accept="text/event-stream").start() as stream:
        await stream.read(to=b"event: started")
        await tell(actor, claimed, 1, 2)
        first = (await stream.read(to=b'"current":2')).decode()
    await tell(actor, claimed, 3)
    last = re.findall(r"^id: (.*)$", first, re.MULTILINE)[-1]
    async with Exchange(
        web.app, "GET", path, accept="text/event-stream", last_event_id=last
    ).start() as stream:
        await stream.read(to=b'"current":3')
        await actor.finish(claimed)
        second = (await stream.read()).decode()

    ids = re.findall(r"^id: (.*)$", first + second, re.MULTILINE)
    assert ids == [each["id"] for each in await trail(web, job_id)] == list("123456")
    assert re.findall(r'"current":(\d+)', first + second) == ["1", "2", "3"]


async def test_word_of_a_run_that_is_no_longer_the_workers_is_not_told(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    await actor.finish(claimed)

    await tell(actor, claimed, 5)

    assert [each["event"] for each in await trail(web, job_id)] == ["queued", "started", "finished"]
    assert (await web.job(job_id))["progress"] is None


async def test_last_word_comes_with_the_end(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()

    await actor.transitions.end(
        Outcome(
            claimed.id, claimed.execution, claimed.queue, "finished", 60,
            progress_json=to_json(word(100)),
        )
    )  # fmt: skip

    events = [each["event"] for each in await trail(web, job_id)]
    assert events == ["queued", "started", "progress", "finished"]
    assert (await web.job(job_id))["progress"] == word(100)


async def test_times_of_a_run_are_those_of_the_job(web: WebScene) -> None:
    ahead = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=123456)
    at = ahead.isoformat().replace("+00:00", "Z")
    drafts: list[dict[str, Any]] = [{"scheduled_at": at}, {"expires_at": at}, {"delay": 61.5}]
    answers = [
        (await web.post("/v1/jobs", NOTE | {"options": {"priority": "low", **options}})).json()
        for options in drafts
    ]
    job_id = await web.submit()
    actor = await web.heart.worker()
    await actor.fail(await actor.take())

    for given in answers:
        shown = await web.job(given["id"])
        times = ("created_at", "scheduled_at", "expires_at")
        assert [shown[name] for name in times] == [given[name] for name in times]
    assert answers[0]["scheduled_at"] == at
    job = await web.job(job_id)
    (attempt,) = job["attempts"]
    assert (attempt["started_at"], attempt["ended_at"]) == (job["started_at"], job["ended_at"])
    assert (await trail(web, job_id))[0]["at"] == job["created_at"]


def test_run_of_any_kind_tells_its_last_word(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        drafts = [
            replace(draft(name, size=500), max_attempts=1)
            for name in ("test.progress", "test.progress_process")
        ]
        jobs = running.run(*drafts)

    for job in jobs:
        assert job.status == "finished"
        assert job.progress == {"current": 499, "total": None, "unit": "rows", "message": ""}
