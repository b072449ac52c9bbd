"""POST /v1/emails: the params of email.send as the body, and `options` among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import MemoryQueue, app_over, connect, settings_with

EMAIL: dict[str, Any] = {"to": ["a@example.test"], "subject": "Hello", "text": "Hi"}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    settings = settings_with(mail_from="Shop <shop@example.test>")
    async with connect(app_over(queue, settings)) as client:
        yield client


async def test_email_is_a_job_with_the_defaults_of_its_type(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    response = await client.post("/v1/emails", json=EMAIL)

    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["type"], job["queue"], job["max_attempts"]) == ("email.send", "email", 8)
    assert queue.drafts[0].timeout_seconds == 60
    assert queue.drafts[0].params == EMAIL | {"from": "Shop <shop@example.test>"}


async def test_email_is_the_same_job_as_through_jobs(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    options = {"priority": "low", "delay": 60}
    await client.post("/v1/emails", json=EMAIL | {"options": options})
    await client.post("/v1/jobs", json={"type": "email.send", "params": EMAIL, "options": options})

    flat, wrapped = queue.drafts
    assert (flat.params, flat.rq_queue, flat.delay_seconds) == (
        wrapped.params, wrapped.rq_queue, wrapped.delay_seconds,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"to": ["a@example.test", "nobody"]}, ["/to/1"]),
        ({"to": []}, ["/to"]),
        ({"to": "nobody"}, ["/to"]),
        ({"from": "no address"}, ["/from"]),
        ({"subject": "a\r\nBcc: b@example.test"}, ["/subject"]),
        ({"text": None}, ["/text"]),
        ({"too": "x"}, ["/too"]),
        ({"options": []}, ["/options"]),
        ({"options": {"delay": -1}, "to": 5, "subject": 5}, ["/options/delay", "/to", "/subject"]),
    ],
)
async def test_bad_fields_are_named_where_they_stand(
    client: httpx2.AsyncClient, queue: MemoryQueue, change: dict[str, Any], expected: list[str]
) -> None:
    response = await client.post("/v1/emails", json=EMAIL | change)

    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == expected
    assert queue.drafts == []


async def test_wrapped_email_has_pointers_into_params(client: httpx2.AsyncClient) -> None:
    body = {"type": "email.send", "params": EMAIL | {"to": ["nobody"]}}

    response = await client.post("/v1/jobs", json=body)

    assert [error["pointer"] for error in response.json()["errors"]] == ["/params/to/0"]


async def test_body_must_be_an_object(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/emails", json=[EMAIL])

    assert response.status_code == 422
    assert response.json()["errors"] == [{"pointer": "", "detail": "must be an object"}]


async def test_sender_must_be_named_where_no_default_is_set(queue: MemoryQueue) -> None:
    settings = settings_with(environment="production")
    async with connect(app_over(queue, settings)) as client:
        response = await client.post("/v1/emails", json=EMAIL)

    assert [error["pointer"] for error in response.json()["errors"]] == ["/from"]
