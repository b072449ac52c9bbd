"""GET /v1/jobs: filters, pages and who sees what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from app.queue.records.views import JobFilter
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue)) as client:
        yield client


async def test_jobs_are_listed_newest_first_as_they_are_shown(client: httpx2.AsyncClient) -> None:
    paths = [(await client.post("/v1/jobs", json=LOG)).headers["location"] for _ in range(3)]

    listed = (await client.get("/v1/jobs")).json()

    assert [each["links"]["self"] for each in listed["data"]] == paths[::-1]
    assert listed["data"][0] == (await client.get(paths[-1])).json()
    assert listed["next_cursor"] is None


async def test_pages_lead_to_one_another(client: httpx2.AsyncClient) -> None:
    for _ in range(5):
        await client.post("/v1/jobs", json=LOG)

    seen: list[str] = []
    path = "/v1/jobs?limit=2&queue=default"
    while path:
        page = await client.get(path)
        seen += [each["id"] for each in page.json()["data"]]
        link = page.headers.get("link", "")
        assert bool(link) == (page.json()["next_cursor"] is not None)
        path = link.partition(">")[0].removeprefix("<")
        assert link == "" or link.endswith('rel="next"')

    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("status=failed", {"status": "failed"}),
        ("type=email.send&queue=email", {"type": "email.send", "queue": "email"}),
        ("error=timeout&fingerprint=f1", {"error": "timeout", "fingerprint": "f1"}),
        ("batch_id=b1", {"batch_id": "b1"}),
        ("tag=order:17", {"tag": ("order", "17")}),
        ("tag=at:12:30", {"tag": ("at", "12:30")}),
        ("tag=flag:", {"tag": ("flag", "")}),
        (
            "created_after=2026-01-01T00:00:00Z",
            {"created_after": datetime(2026, 1, 1, tzinfo=UTC)},
        ),
        (
            "created_before=2026-01-01T02:00:00%2B02:00",
            {"created_before": datetime(2026, 1, 1, tzinfo=UTC)},
        ),
        (
            "created_before=2026-01-01T02:00:00+02:00",
            {"created_before": datetime(2026, 1, 1, tzinfo=UTC)},
        ),
    ],
)
async def test_filters_reach_the_queue(
    client: httpx2.AsyncClient, queue: MemoryQueue, query: str, expected: dict[str, Any]
) -> None:
    response = await client.get(f"/v1/jobs?{query}")

    assert response.status_code == 200
    assert queue.filters == [(JobFilter(**expected), 50, None)]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("type=", "type"),
        ("queue=" + "x" * 501, "queue"),
        ("tag=order", "tag"),
        ("tag=:17", "tag"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01", "created_after"),
        ("created_before=2026-01-01T00:00:00", "created_before"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("cursor=made-up", "cursor"),
        ("stauts=failed", "stauts"),
        ("status=failed&status=queued", "status"),
    ],
)
async def test_bad_parameter_is_named(
    client: httpx2.AsyncClient, query: str, parameter: str
) -> None:
    response = await client.get(f"/v1/jobs?{query}")

    assert response.status_code == 422
    assert [each["parameter"] for each in response.json()["errors"]] == [parameter]


async def test_every_bad_parameter_is_named_at_once(client: httpx2.AsyncClient) -> None:
    response = await client.get("/v1/jobs?limit=0&status=x&created_after=y")

    assert {each["parameter"] for each in response.json()["errors"]} == {
        "limit", "status", "created_after",
    }  # fmt: skip


async def test_limit_may_be_two_hundred(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    await client.get("/v1/jobs?limit=200")

    assert queue.filters[0][1] == 200


async def test_submit_key_lists_only_its_own(queue: MemoryQueue) -> None:
    keys = [key("a", "submit"), key("b", "submit"), key("r", "read"), key("o", "operate")]
    async with connect(app_over(queue, settings_with(keys))) as client:
        await client.post("/v1/jobs", json=LOG, headers=bearer("a"))
        seen = {
            name: len((await client.get("/v1/jobs", headers=bearer(name))).json()["data"])
            for name in "abro"
        }

    assert seen == {"a": 1, "b": 0, "r": 1, "o": 1}


async def test_jobs_that_wait_carry_their_queues_warnings(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    ids = [(await client.post("/v1/jobs", json=LOG)).json()["id"] for _ in range(2)]
    queue.end(ids[0])
    queue.capacity_warnings = ["queue default is paused"]

    waiting, ended = (await client.get("/v1/jobs")).json()["data"]

    assert waiting["warnings"] == ["queue default is paused"]
    assert ended["warnings"] == []


async def test_redis_away_is_503(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    queue.unavailable = "Redis does not answer"

    assert (await client.get("/v1/jobs")).status_code == 503
