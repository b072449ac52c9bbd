"""The rate of a key: what every answer tells, and what too many requests get."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from app.queue.records.drafts import Allowance
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LOG = {"type": "log.write", "params": {"message": "hello"}}
KEYS = [key("s", "submit"), key("r", "read")]


def allowance(*, allowed: bool = True, remaining: int = 99) -> Allowance:
    return Allowance(allowed, 100, remaining, reset_seconds=59, window_seconds=60)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue, settings_with(KEYS, rate_limit="100/60"))) as client:
        yield client


async def test_answer_tells_what_remains(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    queue.allowances = [allowance()]

    response = await client.post("/v1/jobs", json=LOG, headers=bearer("s"))

    assert response.status_code == 202
    assert response.headers["ratelimit-policy"] == '"default";q=100;w=60'
    assert response.headers["ratelimit"] == '"default";r=99;t=59'


@pytest.mark.parametrize("path", ["/v1/job-types", "/v1/jobs"])
async def test_rate_is_told_once_where_other_origins_may_call(
    queue: MemoryQueue, path: str
) -> None:
    settings = settings_with(KEYS, rate_limit="100/60", cors_origins=["https://shop.example"])
    queue.allowances = [allowance()]
    origin = {"Origin": "https://shop.example"}

    async with connect(app_over(queue, settings)) as client:
        response = await client.get(path, headers=bearer("s") | origin)

    assert response.headers.get_list("ratelimit") == ['"default";r=99;t=59']
    assert response.headers.get_list("ratelimit-policy") == ['"default";q=100;w=60']
    assert len(response.headers.get_list("x-request-id")) == 1


async def test_too_many_requests_are_429(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    queue.allowances = [allowance(allowed=False, remaining=0)]

    response = await client.post("/v1/jobs", json=LOG, headers=bearer("s"))

    assert response.status_code == 429
    assert response.json()["type"] == "/problems/rate-limited"
    assert response.headers["retry-after"] == "59"
    assert response.headers["ratelimit"] == '"default";r=0;t=59'
    assert queue.drafts == []


@pytest.mark.parametrize(
    ("name", "body", "status"), [("r", LOG, 403), ("s", {}, 422), ("s", LOG, 503)]
)
async def test_refused_requests_count_and_are_told_too(
    client: httpx2.AsyncClient, queue: MemoryQueue, name: str, body: object, status: int
) -> None:
    queue.allowances = [allowance()]
    queue.full = "too many jobs wait" if status == 503 else None

    response = await client.post("/v1/jobs", json=body, headers=bearer(name))

    assert response.status_code == status
    assert response.headers["ratelimit"] == '"default";r=99;t=59'
    assert queue.allowances == []


async def test_request_passes_when_rates_cannot_be_counted(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    queue.unavailable = "Redis does not answer"

    types = await client.get("/v1/job-types", headers=bearer("s"))
    job = await client.post("/v1/jobs", json=LOG, headers=bearer("s"))

    assert types.status_code == 200
    assert "ratelimit" not in types.headers
    assert job.status_code == 503


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/problems"])
async def test_open_paths_are_not_limited(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)

    assert response.status_code == 200
    assert "ratelimit" not in response.headers


async def test_unknown_key_is_not_counted(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    response = await client.get("/v1/job-types", headers=bearer("x"))

    assert response.status_code == 401
    assert "ratelimit" not in response.headers


async def test_without_the_setting_nothing_is_limited(queue: MemoryQueue) -> None:
    async with connect(app_over(queue)) as client:
        response = await client.post("/v1/jobs", json=LOG)

    assert "ratelimit" not in response.headers
