"""Idempotency-Key: a request sent twice makes one job, and another request is no repetition."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import (
    Exchange,
    MemoryQueue,
    app_over,
    bearer,
    connect,
    key,
    settings_with,
)

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
EMAIL = {"to": ["a@example.test"], "subject": "Hello", "text": "Hi"}
BATCH = {"jobs": [LOG, LOG | {"options": {"delay": 60}}]}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue)) as client:
        yield client


async def send(
    client: httpx2.AsyncClient, given: str = "k1", path: str = "/v1/jobs", body: Any = LOG
) -> httpx2.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": given})


@pytest.mark.parametrize(
    ("path", "body", "jobs"),
    [("/v1/jobs", LOG, 1), ("/v1/emails", EMAIL, 1), ("/v1/batches", BATCH, 2)],
)
async def test_repeated_request_gets_the_first_answer(
    client: httpx2.AsyncClient, queue: MemoryQueue, path: str, body: Any, jobs: int
) -> None:
    first = await send(client, path=path, body=body)
    again = await send(client, path=path, body=body)

    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(queue.drafts) == jobs


async def test_request_id_is_each_requests_own(client: httpx2.AsyncClient) -> None:
    first = await send(client)
    again = await client.post(
        "/v1/jobs", json=LOG, headers={"Idempotency-Key": "k1", "X-Request-Id": "second"}
    )

    assert again.headers["x-request-id"] == "second"
    assert again.json()["request_id"] == first.headers["x-request-id"]


async def test_permissive_batch_is_repeated_with_its_results(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    body = {"jobs": [LOG, {"type": "no.such"}, LOG], "mode": "permissive"}
    first = await send(client, path="/v1/batches", body=body)
    again = await send(client, path="/v1/batches", body=body)

    def ids(response: httpx2.Response) -> list[Any]:
        return [each.get("job") for each in response.json()["results"]]

    assert first.status_code == again.status_code == 207
    assert ids(again) == ids(first)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(queue.drafts) == 2


async def test_same_json_otherwise_written_is_the_same_request(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    first = await send(client)
    spaced = json.dumps(dict(reversed(LOG.items())), indent=2).replace("hello", "\\u0068ello")
    again = await client.post(
        "/v1/jobs", content=spaced,
        headers={"Idempotency-Key": "k1", "Content-Type": "application/json"},
    )  # fmt: skip

    assert again.json()["id"] == first.json()["id"]
    assert len(queue.drafts) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", LOG | {"params": {"message": "other"}}),
        ("/v1/jobs", LOG | {"options": {}}),
        ("/v1/emails", EMAIL),
        ("/v1/batches", BATCH),
    ],
)
async def test_another_request_under_the_key_is_refused(
    client: httpx2.AsyncClient, queue: MemoryQueue, path: str, body: Any
) -> None:
    await send(client)

    response = await send(client, path=path, body=body)

    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-mismatch"
    assert len(queue.drafts) == 1


async def test_keys_belong_to_an_api_key(queue: MemoryQueue) -> None:
    keys = [key("a", "submit"), key("b", "submit")]
    async with connect(app_over(queue, settings_with(keys))) as client:
        answers = [
            await client.post("/v1/jobs", json=LOG, headers=bearer(name) | {"Idempotency-Key": "k"})
            for name in ("a", "b", "a")
        ]

    ids = [each.json()["id"] for each in answers]
    assert ids[0] == ids[2] != ids[1]


async def test_first_request_still_on_its_way_is_409(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    queue.pending_keys.add("k1")

    response = await send(client, path="/v1/batches", body=BATCH)

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/idempotency-pending"
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("quoted", "bare"),
    [('"k 1"', "k 1"), ('"a\\"b\\\\c"', 'a"b\\c'), ('"' + "x" * 255 + '"', "x" * 255)],
)
async def test_quoted_and_bare_name_the_same_key(
    client: httpx2.AsyncClient, queue: MemoryQueue, quoted: str, bare: str
) -> None:
    first = await send(client, quoted)
    again = await send(client, bare)

    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "given",
    [b"", b'""', b"x" * 256, b'"' + b"x" * 256 + b'"', b'"open', b'"a"b"', b'"a\\b"', "é".encode(),
     b"a\tb", b"a\x7f", b'"k";a=1'],
)  # fmt: skip
async def test_key_that_is_none_is_400(
    client: httpx2.AsyncClient, queue: MemoryQueue, given: bytes
) -> None:
    response = await client.post("/v1/jobs", json=LOG, headers={b"Idempotency-Key": given})

    assert response.status_code == 400
    assert response.json()["type"] == "/problems/invalid-header"
    assert "Idempotency-Key" in response.json()["detail"]
    assert queue.drafts == []


async def test_two_keys_are_400(client: httpx2.AsyncClient) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    response = await client.post("/v1/jobs", json=LOG, headers=twice)

    assert response.status_code == 400


async def test_refused_request_does_not_use_up_its_key(client: httpx2.AsyncClient) -> None:
    assert (await send(client, body={"type": "no.such"})).status_code == 422

    response = await send(client)

    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers


async def test_client_that_left_after_the_body_finds_its_job_by_the_key(
    queue: MemoryQueue, client: httpx2.AsyncClient
) -> None:
    exchange = Exchange(
        app_over(queue), "POST", "/v1/jobs", content_type="application/json", idempotency_key="k1"
    ).start(json.dumps(LOG).encode())
    exchange.leave()
    assert exchange.task is not None
    await exchange.task

    response = await send(client)

    assert response.headers["idempotency-replayed"] == "true"
    assert [draft.id for draft in queue.drafts] == [response.json()["id"]]
