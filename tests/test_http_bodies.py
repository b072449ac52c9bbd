"""Bodies that are broken, huge, slow or hostile: a clear problem each, and never a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.http import bodies
from app.http.bodies import read_json_text
from app.http.faults import SlowBodyError
from tests.http_doubles import MemoryQueue, app_over, connect, settings_with

JSON = {"Content-Type": "application/json"}
GOOD = b'{"type":"log.write","params":{"message":"hello"}}'


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue, settings_with(max_body_bytes=2048))) as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"{}{}", b"{'a': 1}", b'{"a": 1,}', b"[NaN]", b"[Infinity]",
        b"[1e999]", b'{"a": {"b": [1, -1e999]}}', b'"\xff\xfe"', b'"\\ud800"', b"\xef\xbb\xbf{}",
        b'{"type": "log.write", "params": {"message": "\xc3"}}', b"[" * 2000, b'{"a":' * 400,
        b'{"a": "\x00"}', b'\x00{}',
    ],
)  # fmt: skip
async def test_body_that_is_not_json_is_400(
    client: httpx2.AsyncClient, queue: MemoryQueue, body: bytes
) -> None:
    response = await client.post("/v1/jobs", content=body, headers=JSON)

    assert response.status_code == 400
    assert response.json()["type"] == "/problems/malformed-json"
    assert queue.drafts == []


async def test_broken_json_is_located(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/jobs", content=b'{"a": 1,\n "b": }', headers=JSON)

    assert "line 2 column 7" in response.json()["detail"]


async def test_deep_nesting_does_not_crash(queue: MemoryQueue) -> None:
    async with connect(app_over(queue)) as client:
        deep = await client.post("/v1/jobs", content=b"[" * 100_000, headers=JSON)
        nested = b'{"a":' * 190 + b"1" + b"}" * 190
        body = b'{"type":"log.write","params":{"message":"x","fields":{"f":%b}}}' % nested
        allowed = await client.post("/v1/jobs", content=body, headers=JSON)
        shown = await client.get(allowed.headers["location"] + "?include=params")

    assert deep.status_code == 400
    assert allowed.status_code == 202
    assert shown.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
async def test_other_content_types_are_415(
    client: httpx2.AsyncClient, queue: MemoryQueue, headers: dict[str, str]
) -> None:
    response = await client.post("/v1/jobs", content=GOOD, headers=headers)

    assert response.status_code == 415
    assert response.json()["type"] == "/problems/unsupported-media-type"
    assert queue.drafts == []


@pytest.mark.parametrize(
    "value", ["application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"']
)
async def test_json_in_utf_8_is_taken(client: httpx2.AsyncClient, value: str) -> None:
    response = await client.post("/v1/jobs", content=GOOD, headers={"Content-Type": value})

    assert response.status_code == 202


async def test_body_over_the_limit_is_413(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    response = await client.post("/v1/jobs", content=b" " * 2048 + GOOD, headers=JSON)

    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert "2048 bytes" in response.json()["detail"]
    assert queue.drafts == []


async def test_body_over_the_limit_without_its_length_is_413(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 100
        yield GOOD

    response = await client.post("/v1/jobs", content=chunks(), headers=JSON)

    assert response.status_code == 413
    assert queue.drafts == []


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5000])
async def test_absurd_length_is_413(client: httpx2.AsyncClient, length: str) -> None:
    response = await client.post(
        "/v1/jobs", content=GOOD, headers=JSON | {"Content-Length": length}
    )

    assert response.status_code == 413


async def test_other_paths_take_one_mebibyte(client: httpx2.AsyncClient) -> None:
    response = await client.request("GET", "/healthz", content=b" " * (1024 * 1024 + 1))

    assert response.status_code == 413


async def test_body_in_pieces_is_one_body(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for index in range(len(GOOD)):
            yield GOOD[index : index + 1]

    response = await client.post("/v1/jobs", content=pieces(), headers=JSON)

    assert response.status_code == 202


async def test_large_body_is_checked_like_a_small_one(queue: MemoryQueue) -> None:
    fill = b'"f":"' + b"x" * 300_000 + b'"'
    async with connect(app_over(queue)) as client:
        good = GOOD[:-2] + b',"fields":{' + fill + b"}}}"
        accepted = await client.post("/v1/jobs", content=good, headers=JSON)
        wrong = await client.post("/v1/jobs", content=b"{" + fill + b"}", headers=JSON)
        broken = await client.post("/v1/jobs", content=b"{" + fill, headers=JSON)

    assert accepted.status_code == 202
    assert wrong.status_code == 422
    assert broken.status_code == 400
    assert len(queue.drafts) == 1


async def test_silent_client_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing arrives")

    with pytest.raises(SlowBodyError):
        await read_json_text(_scope(), receive, 100, silence_seconds=0.01)


async def test_client_that_only_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LEAST_BYTES_PER_SECOND", 1_000_000)

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b" ", "more_body": True}

    with pytest.raises(SlowBodyError, match="Only"):
        await read_json_text(_scope(), receive, 10_000_000, silence_seconds=0.05)


async def test_client_that_leaves_half_way_makes_no_job_and_no_noise(
    queue: MemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": GOOD[:10], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = _scope() | {"path": "/v1/jobs", "method": "POST", "query_string": b""}
    await app_over(queue)(scope, receive, send)

    assert (queue.drafts, sent) == ([], [])
    assert [each for each in caplog.records if each.levelname != "DEBUG"] == []


async def test_disconnect_is_told_apart_from_the_end() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await read_json_text(_scope(), receive, 100)


def _scope() -> dict[str, Any]:
    return {
        "type": "http", "client": ("127.0.0.1", 1), "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
