"""Canceling and deleting jobs, pausing and resuming queues, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
KEYS = [
    key("a", "submit"), key("b", "submit"), key("r", "read"), key("o", "operate"),
    key("m", "submit", "read"),
]  # fmt: skip


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue, settings_with(KEYS))) as client:
        yield client


async def submit(client: httpx2.AsyncClient, **options: Any) -> str:
    response = await client.post("/v1/jobs", json=LOG | {"options": options}, headers=bearer("a"))
    return str(response.json()["id"])


class TestCancel:
    async def test_waiting_job_is_canceled(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        job_id = await submit(client)

        response = await client.post(f"/v1/jobs/{job_id}/cancel", headers=bearer("a"))

        assert response.status_code == 200
        assert (response.json()["status"], response.json()["reason"]) == ("canceled", "requested")
        assert queue.acts == [("cancel", job_id, "a")]

    async def test_running_job_is_asked_to_stop(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        job_id = await submit(client)
        queue.views[job_id].status = "started"

        response = await client.post(f"/v1/jobs/{job_id}/cancel", json={}, headers=bearer("o"))

        assert (response.status_code, response.json()["status"]) == (202, "started")
        assert queue.acts == [("cancel", job_id, "o")]

    async def test_canceled_job_that_is_not_kept_is_still_shown(
        self, client: httpx2.AsyncClient
    ) -> None:
        job_id = await submit(client, retention=0)

        response = await client.post(f"/v1/jobs/{job_id}/cancel", headers=bearer("a"))

        assert (response.status_code, response.json()["status"]) == (200, "canceled")

    @pytest.mark.parametrize("status", ["finished", "failed", "canceled", "stopped"])
    async def test_ended_job_is_409(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, status: Any
    ) -> None:
        job_id = await submit(client)
        queue.end(job_id, status)

        response = await client.post(f"/v1/jobs/{job_id}/cancel", headers=bearer("a"))

        assert response.status_code == 409
        assert response.json()["type"] == "/problems/job-ended"
        assert status in response.json()["detail"]

    async def test_fields_are_refused(self, client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
        job_id = await submit(client)

        typo = await client.post(f"/v1/jobs/{job_id}/cancel", json={"a/b": 1}, headers=bearer("a"))
        array = await client.post(f"/v1/jobs/{job_id}/cancel", json=[1], headers=bearer("a"))
        broken = await client.post(
            f"/v1/jobs/{job_id}/cancel", content=b"{",
            headers=bearer("a") | {"Content-Type": "application/json"},
        )  # fmt: skip

        assert [each["pointer"] for each in typo.json()["errors"]] == ["/a~1b"]
        assert (typo.status_code, array.status_code, broken.status_code) == (422, 422, 400)
        assert queue.acts == []


class TestDelete:
    async def test_ended_job_is_gone(self, client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
        job_id = await submit(client)
        queue.end(job_id)

        response = await client.delete(f"/v1/jobs/{job_id}", headers=bearer("a"))
        after = await client.get(f"/v1/jobs/{job_id}", headers=bearer("a"))

        assert (response.status_code, response.content) == (204, b"")
        assert after.status_code == 404
        assert queue.acts == [("delete", job_id, "a")]

    async def test_job_that_has_not_ended_is_409(self, client: httpx2.AsyncClient) -> None:
        job_id = await submit(client)

        response = await client.delete(f"/v1/jobs/{job_id}", headers=bearer("a"))

        assert response.status_code == 409
        assert response.json()["type"] == "/problems/job-not-ended"
        assert "queued" in response.json()["detail"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/cancel"), ("DELETE", "")])
async def test_who_may_end_and_remove_a_job(
    client: httpx2.AsyncClient, queue: MemoryQueue, method: str, path: str
) -> None:
    seen = {}
    for name in "brmoa":
        job_id = await submit(client)
        if method == "DELETE":
            queue.end(job_id)
        response = await client.request(method, f"/v1/jobs/{job_id}{path}", headers=bearer(name))
        seen[name] = response.status_code

    assert seen.pop("b") == 404
    assert seen.pop("r") == seen.pop("m") == 403
    assert set(seen.values()) <= {200, 204}
    assert len(queue.acts) == 2


@pytest.mark.parametrize(("method", "path"), [("POST", "/cancel"), ("DELETE", ""), ("GET", "")])
@pytest.mark.parametrize("job_id", ["f" * 35, "..%2Fx", "a%0ab", "z" * 10_000])
async def test_id_that_is_none_is_404(
    client: httpx2.AsyncClient, method: str, path: str, job_id: str
) -> None:
    response = await client.request(method, f"/v1/jobs/{job_id}{path}", headers=bearer("o"))

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


class TestQueues:
    async def test_queue_is_paused_and_resumed(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        paused = await client.post("/v1/queues/email/pause", headers=bearer("o"))
        assert queue.paused == {"email"}
        resumed = await client.post("/v1/queues/email/resume", headers=bearer("o"))

        assert (paused.status_code, paused.json()) == (200, {"name": "email", "paused": True})
        assert (resumed.status_code, resumed.json()) == (200, {"name": "email", "paused": False})
        assert queue.acts == [("pause", "email", "o"), ("resume", "email", "o")]
        assert queue.paused == set()

    async def test_a_priority_names_its_queue(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await client.post("/v1/queues/email.high/pause", headers=bearer("o"))

        assert response.json()["name"] == "email"
        assert queue.paused == {"email"}

    @pytest.mark.parametrize("name", ["no-such", "EMAIL", "a%0ab", "x" * 5000])
    async def test_unknown_queue_is_404(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, name: str
    ) -> None:
        response = await client.post(f"/v1/queues/{name}/pause", headers=bearer("o"))

        assert response.status_code == 404
        assert response.json()["detail"] == "There is no queue of this name."
        assert queue.acts == []

    @pytest.mark.parametrize("name", ["a", "r"])
    async def test_it_needs_operate(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, name: str
    ) -> None:
        response = await client.post("/v1/queues/email/pause", headers=bearer(name))

        assert response.status_code == 403
        assert queue.acts == []
