"""The templates over HTTP: listed, previewed, and used in an e-mail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

RESET: dict[str, Any] = {
    "product": "Shop", "reset_url": "https://shop.example/r", "expires_minutes": 30,
}  # fmt: skip
PREVIEW = "/v1/templates/password_reset/preview"


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue, settings_with(mail_from="shop@example.test"))) as client:
        yield client


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422
    return [error["pointer"] for error in response.json()["errors"]]


async def test_list_says_what_each_has_to_be_given(client: httpx2.AsyncClient) -> None:
    response = await client.get("/v1/templates")

    listed = {each["name"]: each for each in response.json()["data"]}
    assert list(listed) == [
        "job_failed", "job_finished", "notification", "password_reset", "welcome",
    ]  # fmt: skip
    assert listed["password_reset"] == {
        "name": "password_reset",
        "locales": ["en", "pt-BR"],
        "variables": [
            {"name": "product", "type": "string", "required": True},
            {"name": "name", "type": "string", "required": False},
            {"name": "reset_url", "type": "string", "required": True, "format": "uri"},
            {"name": "expires_minutes", "type": "integer", "required": True},
        ],
    }


async def test_preview_is_what_the_mail_will_be(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    preview = (await client.post(PREVIEW, json={"variables": RESET, "locale": "pt"})).json()

    assert list(preview) == ["subject", "text", "html"]
    assert preview["subject"] == "Redefina sua senha de Shop"
    assert "https://shop.example/r" in preview["text"]
    assert preview["html"].startswith("<!doctype html>")
    assert queue.drafts == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["/variables"]),
        ({"variables": {}}, ["/variables/product", "/variables/reset_url",
                             "/variables/expires_minutes"]),
        ({"variables": RESET | {"a/b": 1}}, ["/variables/a~1b"]),
        ({"variables": RESET | {"reset_url": "javascript:x"}}, ["/variables/reset_url"]),
        ({"variables": RESET, "locale": "fr"}, ["/locale"]),
        ({"variables": RESET, "subject": "x"}, ["/subject"]),
        ({"variables": RESET, "template": "welcome"}, ["/template"]),
        ([], [""]),
    ],
)  # fmt: skip
async def test_preview_names_bad_fields(
    client: httpx2.AsyncClient, body: Any, expected: list[str]
) -> None:
    assert pointers(await client.post(PREVIEW, json=body)) == expected


async def test_preview_of_what_is_not_there_is_404(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/templates/nope/preview", json={"variables": {}})

    assert response.status_code == 404
    assert response.json()["type"] == "/problems/not-found"


async def test_email_keeps_what_the_template_is_given_and_not_what_it_makes(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    body = {"to": ["a@b.co"], "template": "password_reset", "variables": RESET, "locale": "pt-BR"}

    response = await client.post("/v1/emails", json=body)

    assert response.status_code == 202
    assert queue.drafts[0].params == body | {"from": "shop@example.test"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"variables": {"product": "x"}}, ["/variables/reset_url", "/variables/expires_minutes"]),
        ({"variables": RESET | {"typo": 1}}, ["/variables/typo"]),
        ({"variables": None}, ["/variables"]),
        ({"locale": "fr"}, ["/locale"]),
        ({"template": "nope"}, ["/template"]),
        ({"template": "job_canceled"}, ["/template"]),  # the service's own
        ({"text": "x", "html": "y"}, ["/html", "/text"]),
        ({"template": None}, ["/locale", "/variables", "/subject", "/text"]),
    ],
)
async def test_email_names_bad_fields_of_its_template(
    client: httpx2.AsyncClient, queue: MemoryQueue, change: dict[str, Any], expected: list[str]
) -> None:
    body = {"to": "a@b.co", "template": "password_reset", "variables": RESET, "locale": "en"}

    assert pointers(await client.post("/v1/emails", json=body | change)) == expected
    job = {"type": "email.send", "params": body | change}
    found = pointers(await client.post("/v1/jobs", json=job))
    assert found == [f"/params{each}" for each in expected]
    assert queue.drafts == []


async def test_any_key_may_look_and_none_may_not(queue: MemoryQueue) -> None:
    app = app_over(queue, settings_with([key(scope, scope) for scope in ("submit", "read")]))
    async with connect(app) as client:
        for name in ("submit", "read"):
            listed = await client.get("/v1/templates", headers=bearer(name))
            shown = await client.post(PREVIEW, json={"variables": RESET}, headers=bearer(name))
            assert (listed.status_code, shown.status_code) == (200, 200)
        unknown = await client.get("/v1/templates")

    assert unknown.status_code == 401
