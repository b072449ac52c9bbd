"""What a queue has no room for is 503; in a permissive batch each job for itself."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.web_scene import NOTE, web_scene_on

EMAIL: dict[str, Any] = {
    "type": "email.send",
    "params": {"from": "a@example.test", "to": "b@example.test", "subject": "s", "text": "t"},
}
LARGE: dict[str, Any] = {"type": "test.note", "params": {"message": "x" * 5000}}


def statuses(response: httpx2.Response) -> list[int]:
    assert response.status_code == 207, response.text
    return [each["status"] for each in response.json()["results"]]


@pytest.mark.parametrize("padding", [0, 100])
async def test_permissive_batch_takes_what_fits(redis_url: str, padding: int) -> None:
    jobs = [NOTE, EMAIL, NOTE, NOTE, *[EMAIL] * padding]
    async with web_scene_on(redis_url, most_queued=101) as web:
        await web.post("/v1/batches", {"jobs": [NOTE] * 99})
        response = await web.post("/v1/batches", {"jobs": jobs, "mode": "permissive"})
        batch = (await web.client.get(response.headers["location"])).json()

        assert statuses(response) == [202, 202, 202, 503, *[202] * padding]
        problem = response.json()["results"][3]["problem"]
        assert problem["type"] == "/problems/queue-unavailable"
        assert problem["detail"] == "too many jobs wait in queue default"
        assert batch["size"] == 3 + padding
        assert len(web.heart.queued()) == 101


async def test_room_is_counted_in_bytes_too(redis_url: str) -> None:
    async with web_scene_on(redis_url, most_bytes=8000) as web:
        response = await web.post(
            "/v1/batches", {"jobs": [NOTE, LARGE, LARGE, NOTE], "mode": "permissive"}
        )

    assert statuses(response) == [202, 202, 503, 202]
    assert "too many bytes" in response.json()["results"][2]["problem"]["detail"]


async def test_batch_for_which_there_is_no_room_at_all_is_503(redis_url: str) -> None:
    async with web_scene_on(redis_url, most_queued=1) as web:
        await web.submit()
        answers = [
            await web.post("/v1/batches", {"jobs": [NOTE, NOTE], "mode": "permissive"}),
            await web.post("/v1/batches", {"jobs": [EMAIL, NOTE]}),
            await web.post("/v1/jobs", NOTE),
        ]
        mixed = await web.post(
            "/v1/batches", {"jobs": [NOTE, {"type": "no.such"}], "mode": "permissive"}
        )

        assert [each.status_code for each in answers] == [503] * 3
        assert [each.headers["retry-after"] for each in answers] == ["30"] * 3
        assert statuses(mixed) == [503, 422]
        assert mixed.json()["id"] is None
        assert len(web.heart.queued()) == 1
        assert web.heart.queued("email") == []


async def test_full_server_is_named_and_can_be_read(redis_url: str) -> None:
    async with web_scene_on(redis_url) as web:
        web.heart.redis.config_set("maxmemory", 1)
        try:
            answers = [
                await web.post("/v1/jobs", NOTE),
                await web.post("/v1/batches", {"jobs": [NOTE] * 100}),
            ]
            ready = await web.client.get("/readyz")
            listed = await web.client.get("/v1/jobs")
        finally:
            web.heart.redis.config_set("maxmemory", 0)

    assert [(each.status_code, each.json()["detail"]) for each in answers] == [
        (503, "Redis is full")
    ] * 2
    assert {each.headers["retry-after"] for each in answers} == {"30"}
    assert ready.status_code == 503
    assert "Redis is full: no new jobs are taken" in ready.json()["reasons"]
    assert listed.status_code == 200
