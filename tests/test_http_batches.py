"""Batches: accepted as one whole or each job for itself, and watched as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from app.queue.records.drafts import JobDraft
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
EMAIL: dict[str, Any] = {
    "type": "email.send", "params": {"to": ["a@example.test"], "subject": "s", "text": "t"}
}  # fmt: skip
BAD_EMAIL: dict[str, Any] = {"type": "email.send", "params": EMAIL["params"] | {"to": ["nobody"]}}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def app(queue: MemoryQueue) -> Starlette:
    return app_over(queue)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app) as client:
        yield client


async def submit(
    client: httpx2.AsyncClient, *jobs: Any, mode: str | None = None, **headers: str
) -> httpx2.Response:
    body: dict[str, Any] = {"jobs": list(jobs)}
    if mode is not None:
        body["mode"] = mode
    return await client.post("/v1/batches", json=body, headers=headers)


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [each["pointer"] for each in response.json()["errors"]]


class TestStrict:
    async def test_batch_is_accepted_as_one_whole(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(client, LOG, EMAIL, LOG | {"options": {"delay": 60}})

        batch = response.json()
        assert response.status_code == 202
        assert response.headers["location"] == f"/v1/batches/{batch['id']}"
        assert response.headers["retry-after"] == "1"
        assert (batch["size"], batch["counts"]) == (3, {"queued": 2, "scheduled": 1})
        assert batch["job_ids"] == [draft.id for draft in queue.drafts]
        assert {draft.batch_id for draft in queue.drafts} == {batch["id"]}
        assert batch["created_at"].endswith("Z")
        assert (batch["failures"], batch["finished_at"]) == ([], None)
        assert batch["links"]["self"] == response.headers["location"]

    async def test_every_bad_job_is_pointed_at_and_none_is_accepted(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(
            client, LOG, EMAIL, {"type": "no.such"}, BAD_EMAIL, 5, LOG | {"options": {"delay": -1}}
        )

        assert pointers(response) == [
            "/jobs/2/type", "/jobs/3/params/to/0", "/jobs/4", "/jobs/5/options/delay",
        ]  # fmt: skip
        assert queue.drafts == []

    async def test_every_one_of_a_thousand_bad_jobs_is_pointed_at(
        self, client: httpx2.AsyncClient
    ) -> None:
        response = await submit(client, *[BAD_EMAIL] * 1000)

        assert pointers(response) == [f"/jobs/{place}/params/to/0" for place in range(1000)]
        assert "999 more in errors)" in response.json()["detail"]

    async def test_beyond_fifty_faults_a_bad_job_has_one_and_the_rest_are_counted(
        self, client: httpx2.AsyncClient
    ) -> None:
        worse = BAD_EMAIL | {"options": {"delay": -1}}

        response = await submit(client, *[worse] * 40)
        assert len(pointers(response)) == 50
        assert {each.split("/")[2] for each in pointers(response)} == set(map(str, range(40)))
        assert "30 more not listed" in response.json()["detail"]

        response = await submit(client, *[worse] * 73)
        assert len({each.split("/")[2] for each in pointers(response)}) == 73
        assert "73 more not listed" in response.json()["detail"]

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ([], [""]),
            ({}, ["/jobs"]),
            ({"jobs": {}}, ["/jobs"]),
            ({"jobs": []}, ["/jobs"]),
            ({"jobs": [LOG], "mode": "loose"}, ["/mode"]),
            ({"jobs": [LOG], "id": "x"}, ["/id"]),
            ({"jobs": [LOG] * 1001}, ["/jobs"]),
        ],
    )
    async def test_body_that_is_no_batch_is_refused(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, body: Any, expected: list[str]
    ) -> None:
        assert pointers(await client.post("/v1/batches", json=body)) == expected
        assert queue.drafts == []

    async def test_a_thousand_jobs_are_taken(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(client, *[LOG] * 1000)

        assert (response.status_code, response.json()["size"]) == (202, 1000)
        assert len(queue.drafts) == len(set(response.json()["job_ids"])) == 1000

    async def test_every_unknown_parent_is_pointed_at(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        known = (await client.post("/v1/jobs", json=LOG)).json()["id"]

        response = await submit(
            client,
            LOG,
            LOG | {"options": {"depends_on": [known, "f" * 35]}},
            LOG | {"options": {"depends_on": [known]}},
            LOG | {"options": {"depends_on": ["e" * 35, known, "f" * 35]}},
        )

        assert pointers(response) == [
            "/jobs/1/options/depends_on/1",
            "/jobs/3/options/depends_on/0",
            "/jobs/3/options/depends_on/2",
        ]
        assert len(queue.drafts) == 1

    async def test_unknown_parents_are_pointed_at_among_other_faults(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        known = (await client.post("/v1/jobs", json=LOG)).json()["id"]
        orphan = {"options": {"depends_on": [known, "f" * 35]}}

        response = await submit(client, LOG | orphan, {"type": "no.such"}, BAD_EMAIL | orphan)

        assert pointers(response) == [
            "/jobs/0/options/depends_on/1",
            "/jobs/1/type",
            "/jobs/2/params/to/0",
            "/jobs/2/options/depends_on/1",
        ]
        assert len(queue.drafts) == 1

    async def test_full_queue_is_503(self, client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
        queue.full = "too many jobs wait in queue default"

        response = await submit(client, LOG, LOG)

        assert response.status_code == 503
        assert response.json()["detail"] == "too many jobs wait in queue default"
        assert response.headers["retry-after"] == "30"


class TestPermissive:
    async def test_each_job_has_its_own_answer_in_order(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(client, LOG, BAD_EMAIL, EMAIL, mode="permissive")

        body = response.json()
        assert response.status_code == 207
        assert response.headers["location"] == f"/v1/batches/{body['id']}"
        assert [each["status"] for each in body["results"]] == [202, 422, 202]
        assert [each["job"]["type"] for each in body["results"] if "job" in each] == [
            "log.write", "email.send",
        ]  # fmt: skip
        problem = body["results"][1]["problem"]
        assert (problem["type"], problem["status"]) == ("/problems/invalid-request", 422)
        assert problem["errors"][0]["pointer"] == "/jobs/1/params/to/0"
        assert len(queue.drafts) == 2

    async def test_unknown_parents_refuse_only_their_own_jobs(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        orphan = LOG | {"options": {"depends_on": ["f" * 35]}}

        response = await submit(client, LOG, orphan, LOG, orphan, mode="permissive")

        results = response.json()["results"]
        assert [each["status"] for each in results] == [202, 422, 202, 422]
        assert results[3]["problem"]["errors"][0]["pointer"] == "/jobs/3/options/depends_on/0"
        assert len(queue.drafts) == 2

    async def test_when_no_job_is_good_there_is_no_batch(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(client, BAD_EMAIL, {"type": "no.such"}, mode="permissive")

        assert response.status_code == 207
        assert response.json()["id"] is None
        assert [each["status"] for each in response.json()["results"]] == [422, 422]
        assert "location" not in response.headers
        assert queue.drafts == []

    async def test_waiting_shows_how_each_job_ended(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.on_submit = lambda draft: queue.end(draft.id, result=1)

        orphan = LOG | {"options": {"depends_on": ["f" * 35]}}

        response = await submit(client, LOG, BAD_EMAIL, orphan, mode="permissive", Prefer="wait=9")

        done, refused, _ = response.json()["results"]
        assert response.status_code == 207
        assert response.headers["preference-applied"] == "wait=9"
        assert (done["status"], done["job"]["status"], done["job"]["result"]) == (
            200,
            "finished",
            1,
        )
        assert refused["status"] == 422


class TestWatching:
    async def test_batch_shows_its_counts_and_failures(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        accepted = await submit(client, *[LOG] * 13)
        ids = accepted.json()["job_ids"]
        for job_id in ids[:12]:
            queue.end(job_id, "failed")

        batch = (await client.get(accepted.headers["location"])).json()

        assert set(batch) == set(accepted.json())
        assert batch["counts"] == {"failed": 12, "queued": 1}
        assert [each["id"] for each in batch["failures"]] == ids[:10]
        assert batch["finished_at"] is None

    async def test_unchanged_batch_is_304(self, client: httpx2.AsyncClient) -> None:
        path = (await submit(client, LOG)).headers["location"]
        etag = (await client.get(path)).headers["etag"]

        assert (await client.get(path, headers={"If-None-Match": etag})).status_code == 304

    async def test_whole_batch_can_be_waited_for(self, app: Starlette, queue: MemoryQueue) -> None:
        body = json.dumps({"jobs": [LOG, LOG]}).encode()
        async with Exchange(
            app, "POST", "/v1/batches", prefer="wait=9", content_type="application/json"
        ).start(body) as exchange:
            await until(lambda: len(queue.drafts) == 2)
            first, second = (draft.id for draft in queue.drafts)
            queue.end(first)
            queue.end(second, "failed")
            batch = json.loads(await exchange.read())

        assert exchange.status == 200
        assert exchange.headers["preference-applied"] == "wait=9"
        assert exchange.headers["location"] == f"/v1/batches/{batch['id']}"
        assert batch["counts"] == {"finished": 1, "failed": 1}
        assert batch["finished_at"] is not None

    async def test_batch_that_goes_on_is_202(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(client, LOG, LOG, Prefer="wait=0")

        assert (response.status_code, response.json()["finished_at"]) == (202, None)
        assert response.json()["counts"] == {"queued": 2}

    @pytest.mark.parametrize(("mode", "status"), [("strict", 202), ("permissive", 207)])
    async def test_accepted_batch_stands_though_redis_goes_meanwhile(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, mode: str, status: int
    ) -> None:
        def end_and_go(draft: JobDraft) -> None:
            queue.end(draft.id)
            queue.unavailable = "Redis does not answer"

        queue.on_submit = end_and_go

        response = await submit(client, LOG, mode=mode, Prefer="wait=1")

        assert response.status_code == status
        assert response.json()["id"] == queue.drafts[0].batch_id

    async def test_lost_subscription_is_had_again(self, app: Starlette, queue: MemoryQueue) -> None:
        body = json.dumps({"jobs": [LOG, LOG]}).encode()
        async with Exchange(
            app, "POST", "/v1/batches", prefer="wait=25", content_type="application/json"
        ).start(body) as exchange:
            await until(lambda: len(queue.drafts) == 2)
            first, second = (draft.id for draft in queue.drafts)
            heard = queue.listeners[second][0]
            queue.end(first)
            queue.tell(second, None)
            await until(lambda: queue.is_watched(second) and heard not in queue.listeners[second])
            queue.end(second)
            await exchange.read()

        assert exchange.status == 200
        assert json.loads(exchange.body)["counts"] == {"finished": 2}

    async def test_jobs_that_ended_before_are_not_waited_for(
        self, app: Starlette, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        headers = {"Idempotency-Key": "k"}
        accepted = await submit(client, LOG, LOG, **headers)
        first, second = accepted.json()["job_ids"]
        queue.end(first)
        body = json.dumps({"jobs": [LOG, LOG]}).encode()
        async with (
            Exchange(app, "GET", accepted.headers["location"], prefer="wait=9").start() as shown,
            Exchange(
                app, "POST", "/v1/batches", prefer="wait=9", idempotency_key="k",
                content_type="application/json",
            ).start(body) as again,
        ):  # fmt: skip
            await until(lambda: len(queue.listeners[second]) == 2)
            queue.end(second)
            await shown.read()
            await again.read()

        assert (shown.status, again.status) == (200, 200)
        assert json.loads(again.body) == json.loads(shown.body)
        assert again.headers["idempotency-replayed"] == "true"

    async def test_foreign_batch_is_404(self, queue: MemoryQueue) -> None:
        keys = [key("a", "submit"), key("b", "submit"), key("o", "operate")]
        async with connect(app_over(queue, settings_with(keys))) as client:
            path = (
                await client.post("/v1/batches", json={"jobs": [LOG]}, headers=bearer("a"))
            ).headers["location"]
            seen = {
                name: (await client.get(path, headers=bearer(name))).status_code for name in "abo"
            }
            unknown = await client.get("/v1/batches/x%0a", headers=bearer("o"))

        assert seen == {"a": 200, "b": 404, "o": 200}
        assert unknown.status_code == 404
        assert unknown.json()["detail"] == "There is no batch of this id."
