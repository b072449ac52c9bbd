"""Prefer: wait holds the answer until the job ends, and no longer than it was asked to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from app.http.prefer import asked_wait
from app.http.waiting import Closing
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from tests.http_doubles import Exchange, MemoryQueue, app_over, connect, until

LOG: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
BODY = json.dumps(LOG).encode()
JSON = {"content_type": "application/json"}


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


async def submit(client: httpx2.AsyncClient, prefer: str, **headers: str) -> httpx2.Response:
    return await client.post("/v1/jobs", json=LOG, headers={"Prefer": prefer, **headers})


async def lose_subscription(queue: MemoryQueue, job_id: str) -> None:
    """Redis goes and comes back; return when the job is waited for again."""
    queue.unavailable = "Redis does not answer"
    queue.tell(job_id, None)
    await until(lambda: not queue.is_watched(job_id))
    queue.unavailable = None
    await until(lambda: queue.is_watched(job_id))


class TestHeader:
    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            (["wait=10"], 10),
            (["wait=0"], 0),
            (["wait=26"], 25),
            (["wait=999999999"], 25),
            (["WAIT = 10"], 10),
            (['wait="10"'], 10),
            (["respond-async, wait=10"], 10),
            (["wait=10, respond-async"], 10),
            (["wait=10; strict"], 10),
            (["handling=lenient", "wait=10"], 10),
            (['foo="a, wait=3", wait=10'], 10),
            (['foo="wait=3'], None),
            (["foo; wait=3"], None),
            (["wait=5, wait=10"], 5),
            (["wait=x, wait=10"], None),
            (["wait"], None),
            (["wait="], None),
            (["wait=-1"], None),
            (["wait=1.5"], None),
            (["wait=1e1"], None),
            (["wait=" + "9" * 5000], None),
            (["wait=１０"], None),
            (["waiting=3"], None),
            (["a" * 60_000], None),
            (["," * 30_000 + "wait=2"], 2),
            ([""], None),
            ([], None),
        ],
    )
    def test_wait_is_read_as_the_rfc_says(self, given: list[str], seconds: int | None) -> None:
        headers = [(b"prefer", value.encode()) for value in given]

        assert asked_wait({"headers": headers}) == seconds


class TestSubmitting:
    async def test_ended_job_is_answered_with_its_result(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.on_submit = lambda draft: queue.end(draft.id, result={"n": 1})

        response = await submit(client, "wait=60")

        job = response.json()
        assert response.status_code == 200
        assert (job["status"], job["result"]) == ("finished", {"n": 1})
        assert response.headers["preference-applied"] == "wait=25"
        assert response.headers["location"] == f"/v1/jobs/{job['id']}"
        assert "retry-after" not in response.headers

    @pytest.mark.parametrize("status", ["failed", "canceled", "stopped"])
    async def test_every_end_is_an_end(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, status: Any
    ) -> None:
        queue.on_submit = lambda draft: queue.end(draft.id, status)

        response = await submit(client, "wait=10")

        assert (response.status_code, response.json()["status"]) == (200, status)

    async def test_job_that_has_not_ended_is_202_as_it_stands(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        def start(draft: JobDraft) -> None:
            queue.views[draft.id].status = "started"

        queue.on_submit = start

        response = await submit(client, "wait=0")

        assert response.status_code == 202
        assert response.json()["status"] == "started"
        assert response.headers["preference-applied"] == "wait=0"
        assert response.headers["retry-after"] == "1"

    async def test_nonsense_is_ignored(self, client: httpx2.AsyncClient) -> None:
        response = await submit(client, "wait=soon")

        assert response.status_code == 202
        assert "preference-applied" not in response.headers

    async def test_email_can_be_waited_for_too(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.on_submit = lambda draft: queue.end(draft.id)
        email = {"to": "a@example.test", "subject": "s", "text": "t"}

        response = await client.post("/v1/emails", json=email, headers={"Prefer": "wait=5"})

        assert response.status_code == 200

    async def test_job_that_is_not_kept_is_told_from_its_last_event(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.on_submit = lambda draft: queue.end(draft.id, result={"n": 1})
        body = LOG | {"options": {"retention": 0}}

        response = await client.post("/v1/jobs", json=body, headers={"Prefer": "wait=5"})

        job = response.json()
        assert response.status_code == 200
        assert (job["status"], job["attempt"], job["result"]) == ("finished", 1, None)
        assert job["ended_at"] is not None
        assert "retention" in job["warnings"][0]

    async def test_repeated_request_waits_for_the_first_ones_job(
        self, app: Starlette, queue: MemoryQueue, client: httpx2.AsyncClient
    ) -> None:
        headers = {"Idempotency-Key": "k"}
        first = await client.post("/v1/jobs", json=LOG, headers=headers)
        job_id = first.json()["id"]
        async with Exchange(
            app, "POST", "/v1/jobs", prefer="wait=9", idempotency_key="k", **JSON
        ) as again:
            again.start(BODY)
            await until(lambda: queue.is_watched(job_id))
            queue.end(job_id)
            body = json.loads(await again.read())

        assert (again.status, body["id"], body["status"]) == (200, job_id, "finished")
        assert again.headers["idempotency-replayed"] == "true"
        ended = await submit(client, "wait=9", **headers)
        assert (ended.status_code, ended.json()["id"]) == (200, job_id)

    async def test_repeated_request_whose_job_is_gone_is_answered_as_the_first(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        first = await client.post("/v1/jobs", json=LOG, headers={"Idempotency-Key": "k"})
        queue.views.clear()

        again = await submit(client, "wait=9", **{"Idempotency-Key": "k"})

        assert (again.status_code, again.json()) == (202, first.json())

    async def test_redis_away_is_503_and_nothing_waits(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.unavailable = "Redis does not answer"

        response = await submit(client, "wait=20")

        assert response.status_code == 503
        assert queue.drafts == []

    async def test_accepted_job_is_202_though_redis_goes_meanwhile(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        def end_and_go(draft: JobDraft) -> None:
            queue.end(draft.id)
            queue.unavailable = "Redis does not answer"

        queue.on_submit = end_and_go

        response = await submit(client, "wait=1")

        assert response.status_code == 202
        assert response.json()["id"] == queue.drafts[0].id


class TestPatience:
    async def test_client_that_leaves_is_no_longer_waited_for(
        self, app: Starlette, queue: MemoryQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        exchange = Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON).start(BODY)
        await until(lambda: queue.drafts)
        job_id = queue.drafts[0].id
        exchange.leave()
        assert exchange.task is not None
        await exchange.task

        assert not queue.is_watched(job_id)
        assert exchange.status is None
        assert [each for each in caplog.records if each.levelname in {"WARNING", "ERROR"}] == []

    async def test_end_of_the_process_answers_who_waits(
        self, app: Starlette, queue: MemoryQueue, closing: Closing
    ) -> None:
        async with Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON) as exchange:
            exchange.start(BODY)
            await until(lambda: queue.drafts)
            closing.begin()
            await exchange.read()

        assert exchange.status == 202
        assert exchange.headers["preference-applied"] == "wait=25"

    @pytest.mark.parametrize("retention", [3600, 0])
    async def test_lost_subscription_is_had_again(
        self, app: Starlette, queue: MemoryQueue, retention: int
    ) -> None:
        body = json.dumps(LOG | {"options": {"retention": retention}}).encode()
        async with Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON) as exchange:
            exchange.start(body)
            await until(lambda: queue.drafts)
            job_id = queue.drafts[0].id
            await lose_subscription(queue, job_id)
            await lose_subscription(queue, job_id)
            queue.end(job_id, result={"n": 1})
            await exchange.read()

        assert exchange.status == 200
        assert json.loads(exchange.body)["status"] == "finished"

    async def test_job_that_ends_and_is_gone_before_it_is_looked_at_is_told(
        self, app: Starlette, queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = queue.job

        async def end_first(job_id: str) -> JobView | None:
            monkeypatch.setattr(queue, "job", look)
            queue.end(job_id)
            return await look(job_id)

        body = json.dumps(LOG | {"options": {"retention": 0}}).encode()
        async with Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON) as exchange:
            exchange.start(body)
            await until(lambda: queue.drafts)
            queue.unavailable = "Redis does not answer"
            queue.tell(queue.drafts[0].id, None)
            await until(lambda: not queue.is_watched(queue.drafts[0].id))
            monkeypatch.setattr(queue, "job", end_first)
            queue.unavailable = None
            await exchange.read()

        assert exchange.status == 200
        assert json.loads(exchange.body)["status"] == "finished"

    async def test_job_that_ended_while_nobody_could_hear_is_told(
        self, app: Starlette, queue: MemoryQueue
    ) -> None:
        async with Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON) as exchange:
            exchange.start(BODY)
            await until(lambda: queue.drafts)
            job_id = queue.drafts[0].id
            heard = queue.listeners.pop(job_id)
            queue.end(job_id)
            queue.listeners[job_id] = heard
            queue.tell(job_id, None)
            await exchange.read()

        assert exchange.status == 200

    async def test_a_thousand_wait_at_once_and_others_are_answered(
        self, app: Starlette, queue: MemoryQueue, client: httpx2.AsyncClient
    ) -> None:
        waiting = [
            Exchange(app, "POST", "/v1/jobs", prefer="wait=25", **JSON).start(BODY)
            for _ in range(1000)
        ]
        await until(lambda: len(queue.drafts) == 1000)
        assert (await client.get("/v1/job-types")).status_code == 200

        for draft in list(queue.drafts):
            queue.end(draft.id)
        await asyncio.gather(*(each.read() for each in waiting))

        assert {each.status for each in waiting} == {200}
        for each in waiting:
            assert each.task is not None
            await each.task


class TestWatching:
    async def test_job_can_be_waited_for_by_who_watches_it(
        self, app: Starlette, queue: MemoryQueue, client: httpx2.AsyncClient
    ) -> None:
        path = (await client.post("/v1/jobs", json=LOG)).headers["location"]
        job_id = path.rpartition("/")[2]
        async with Exchange(app, "GET", path, prefer="wait=9") as exchange:
            exchange.start()
            await until(lambda: queue.is_watched(job_id))
            queue.end(job_id, result=7)
            job = json.loads(await exchange.read())

        assert (exchange.status, job["status"], job["result"]) == (200, "finished", 7)
        assert exchange.headers["preference-applied"] == "wait=9"
        assert exchange.headers["etag"]

    async def test_ended_job_is_shown_at_once(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        path = (await client.post("/v1/jobs", json=LOG)).headers["location"]
        queue.end(path.rpartition("/")[2])

        response = await client.get(path, headers={"Prefer": "wait=25"})

        assert response.json()["status"] == "finished"
        assert response.headers["preference-applied"] == "wait=25"

    async def test_job_that_goes_on_is_200_when_the_time_is_up(
        self, client: httpx2.AsyncClient
    ) -> None:
        path = (await client.post("/v1/jobs", json=LOG)).headers["location"]

        response = await client.get(path, headers={"Prefer": "wait=0"})

        assert (response.status_code, response.json()["status"]) == (200, "queued")
