"""A job's events: a stream that replays, goes on and ends, and the same trail as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from app.http import events
from app.http.assembly import Parts
from app.http.waiting import Closing
from app.queue.errors import QueueUnavailableError
from tests.http_doubles import (
    Exchange,
    MemoryQueue,
    app_over,
    bearer,
    connect,
    key,
    settings_with,
    until,
)

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
STREAM = {"accept": "text/event-stream"}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def closing() -> Closing:
    return Closing()


@pytest.fixture
def app(queue: MemoryQueue, closing: Closing) -> Starlette:
    return app_over(queue, closing=closing)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app) as client:
        yield client


@pytest.fixture
async def job_id(client: httpx2.AsyncClient) -> str:
    return str((await client.post("/v1/jobs", json=LOG)).json()["id"])


def follow(app: Starlette, job_id: str, **headers: str) -> Exchange:
    return Exchange(app, "GET", f"/v1/jobs/{job_id}/events", **(STREAM | headers))


def names(text: str | bytes) -> list[str]:
    decoded = text if isinstance(text, str) else text.decode()
    return re.findall(r"^event: (\w+)$", decoded, re.MULTILINE)


async def test_ended_job_is_told_whole_and_the_stream_ends(
    client: httpx2.AsyncClient, queue: MemoryQueue, job_id: str
) -> None:
    queue.happen(job_id, "started", attempt=1, worker="w.1")
    queue.end(job_id)

    response = await client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert names(response.text) == ["queued", "started", "finished"]
    blocks = response.text.split("\n\n")
    assert blocks[0] == "retry: 2000"
    id_line, event_line, data_line = blocks[2].splitlines()
    assert (id_line, event_line) == ("id: 2", "event: started")
    data = json.loads(data_line.removeprefix("data: "))
    assert (data["attempt"], data["worker"], data["job_id"]) == (1, "w.1", job_id)
    assert data["at"].endswith("Z")


async def test_stream_goes_on_until_the_job_ends(
    app: Starlette, queue: MemoryQueue, job_id: str
) -> None:
    async with follow(app, job_id).start() as stream:
        await stream.read(to=b"event: queued")
        queue.happen(job_id, "started")
        await stream.read(to=b"event: started")
        queue.happen(job_id, "progress", current=1)
        await stream.read(to=b"id: 3\nevent: progress")
        queue.happen(job_id, "progress", current=2)
        queue.tell(job_id, queue.trails[job_id][2])
        queue.end(job_id)
        text = await stream.read()

    assert names(text) == ["queued", "started", "progress", "progress", "finished"]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("1", ["started", "retry_scheduled"]),
        ("2", ["retry_scheduled"]),
        ("2.17", ["queued", "started", "retry_scheduled"]),
        ("garbage", ["queued", "started", "retry_scheduled"]),
        ("9" * 5000, ["queued", "started", "retry_scheduled"]),
        ("", ["queued", "started", "retry_scheduled"]),
    ],
)
async def test_stream_resumes_behind_the_last_event(
    app: Starlette, queue: MemoryQueue, job_id: str, last: str, expected: list[str]
) -> None:
    queue.happen(job_id, "started")
    queue.happen(job_id, "retry_scheduled")
    async with follow(app, job_id, last_event_id=last).start() as stream:
        await stream.read(to=b"event: retry_scheduled")
        queue.end(job_id, "failed")
        text = await stream.read()

    assert names(text) == [*expected, "failed"]


async def test_who_comes_back_after_the_end_is_told_to_stay_away(
    client: httpx2.AsyncClient, queue: MemoryQueue, job_id: str
) -> None:
    queue.end(job_id)

    response = await client.get(
        f"/v1/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": "2"}
    )

    assert (response.status_code, response.content) == (204, b"")


async def test_retried_job_is_followed_beyond_its_first_failure(
    app: Starlette, queue: MemoryQueue, job_id: str
) -> None:
    queue.happen(job_id, "failed")
    queue.happen(job_id, "queued")
    async with follow(app, job_id).start() as stream:
        await until(lambda: queue.is_watched(job_id))
        queue.end(job_id)
        text = await stream.read()

    assert names(text) == ["queued", "failed", "queued", "finished"]


async def test_late_outcome_is_in_the_trail_only(
    client: httpx2.AsyncClient, queue: MemoryQueue, job_id: str
) -> None:
    queue.end(job_id)
    queue.happen(job_id, "late", outcome="finished")

    stream = await client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)
    trail = await client.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})

    assert names(stream.text) == ["queued", "finished"]
    assert [each["event"] for each in trail.json()["data"]] == ["queued", "finished", "late"]


async def test_lost_subscription_is_made_up_for_by_the_trail(
    app: Starlette, queue: MemoryQueue, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RESUBSCRIBE_SECONDS", 0.01)
    async with follow(app, job_id).start() as stream:
        await stream.read(to=b"event: queued")
        heard = queue.listeners.pop(job_id)
        queue.happen(job_id, "started")
        queue.listeners[job_id] = heard
        queue.tell(job_id, None)
        await stream.read(to=b"event: started")
        queue.end(job_id)
        text = await stream.read()

    assert names(text) == ["queued", "started", "finished"]


async def test_stream_ends_when_redis_goes_and_the_client_comes_again(
    app: Starlette, queue: MemoryQueue, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RESUBSCRIBE_SECONDS", 0.01)
    async with follow(app, job_id).start() as stream:
        await stream.read(to=b"event: queued")
        queue.failure = QueueUnavailableError("Redis does not answer")
        queue.tell(job_id, None)
        text = await stream.read()

    assert stream.status == 200
    assert names(text) == ["queued"]


async def test_silence_is_broken_by_pings(queue: MemoryQueue, job_id: str) -> None:
    assert Parts.__dataclass_fields__["ping_seconds"].default == 15
    async with follow(app_over(queue, ping_seconds=0.01), job_id).start() as stream:
        await stream.read(to=b"event: queued")
        await stream.read(to=b": ping\n\n: ping\n\n")
        queue.end(job_id)
        text = await stream.read()

    assert names(text) == ["queued", "finished"]


async def test_client_that_leaves_is_forgotten(
    app: Starlette, queue: MemoryQueue, job_id: str
) -> None:
    async with follow(app, job_id).start() as stream:
        await stream.read(to=b"event: queued")
        assert queue.is_watched(job_id)

    assert not queue.is_watched(job_id)


async def test_end_of_the_process_ends_the_stream(
    app: Starlette, queue: MemoryQueue, job_id: str, closing: Closing
) -> None:
    async with follow(app, job_id).start() as stream:
        await stream.read(to=b"event: queued")
        closing.begin()
        await stream.read()

    assert not queue.is_watched(job_id)


async def test_head_does_not_follow(app: Starlette, job_id: str) -> None:
    async with Exchange(app, "HEAD", f"/v1/jobs/{job_id}/events", **STREAM).start() as exchange:
        await exchange.read()

    assert exchange.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("accept", [None, "*/*", "text/html, */*;q=0.8"])
async def test_stream_is_what_a_client_gets_that_asks_for_nothing(
    client: httpx2.AsyncClient, queue: MemoryQueue, job_id: str, accept: str | None
) -> None:
    queue.happen(job_id, "canceled", reason="requested", by="ops")
    if accept is None:
        client.headers.pop("accept", None)

    headers = {} if accept is None else {"Accept": accept}
    response = await client.get(f"/v1/jobs/{job_id}/events", headers=headers)

    assert response.headers["content-type"] == "text/event-stream"
    assert "event: canceled" in response.text


async def test_trail_is_json_when_that_is_asked_for(
    client: httpx2.AsyncClient, queue: MemoryQueue, job_id: str
) -> None:
    queue.happen(job_id, "canceled", reason="requested", by="ops")

    headers = {"Accept": "application/json"}
    response = await client.get(f"/v1/jobs/{job_id}/events", headers=headers)

    assert response.headers["content-type"] == "application/json"
    assert response.headers["vary"] == "accept"
    last = response.json()["data"][-1]
    assert (last["id"], last["event"]) == ("2", "canceled")
    assert last["detail"] == {"reason": "requested", "by": "ops"}
    assert last["at"].endswith("Z")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_foreign_and_unknown_jobs_have_no_events(queue: MemoryQueue, accept: str) -> None:
    keys = [key("a", "submit"), key("b", "submit"), key("r", "read")]
    async with connect(app_over(queue, settings_with(keys))) as client:
        path = (await client.post("/v1/jobs", json=LOG, headers=bearer("a"))).headers["location"]
        queue.end(path.rpartition("/")[2])
        headers = {"Accept": accept}
        statuses = [
            (await client.get(f"{path}/events", headers=bearer(name) | headers)).status_code
            for name in ("a", "b", "r")
        ]
        unknown = await client.get("/v1/jobs/x%0ay/events", headers=bearer("r") | headers)

    assert statuses == [200, 404, 200]
    assert unknown.status_code == 404
