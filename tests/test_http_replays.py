"""A repeated request gets the first answer again, to the byte, whatever has happened since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.http_doubles import until
from tests.web_scene import NOTE, WebScene, web_scene_on

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url, most_queued=3) as scene:
        yield scene


def same(first: httpx2.Response, again: httpx2.Response) -> bool:
    """The same answer, marked as a replay; what is the request's own aside."""
    own = {"x-request-id", "idempotency-replayed", "preference-applied"}
    first_headers, again_headers = (
        {name: value for name, value in each.headers.items() if name not in own}
        for each in (first, again)
    )
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    return first_headers == again_headers


async def finish_next(web: WebScene) -> None:
    """As a worker that is free at some time soon."""
    actor = await web.heart.worker()
    claimed: list[Any] = []

    async def take() -> None:
        while not claimed:
            claimed.extend((await actor.claim()).jobs)
            await asyncio.sleep(0.005)

    await asyncio.wait_for(take(), 20)
    for each in claimed:
        await actor.finish(each, {"done": True}, ttl=0 if each.number("result_ttl") == 0 else 3600)


@pytest.mark.parametrize("retention", [3600, 0])
async def test_answer_that_was_waited_for_is_repeated_without_waiting(
    web: WebScene, retention: int
) -> None:
    body = NOTE | {"options": {"retention": retention}}
    working = asyncio.create_task(finish_next(web))
    first = await web.post("/v1/jobs", body, "k", Prefer="wait=20")
    await working
    again = await web.post("/v1/jobs", body, "k")
    waited = await web.post("/v1/jobs", body, "k", Prefer="wait=20")
    await web.client.delete(first.headers["location"])
    gone = await web.post("/v1/jobs", body, "k")

    assert (first.status_code, first.json()["status"]) == (200, "finished")
    assert same(first, again)
    assert same(first, waited)
    assert same(first, gone)
    assert "preference-applied" not in again.headers


async def test_answer_after_a_wait_in_vain_is_repeated_and_can_be_waited_for(
    web: WebScene,
) -> None:
    first = await web.post("/v1/jobs", NOTE, "k", Prefer="wait=0")
    await finish_next(web)
    again = await web.post("/v1/jobs", NOTE, "k")
    waited = await web.post("/v1/jobs", NOTE, "k", Prefer="wait=20")

    assert same(first, again)
    assert (waited.status_code, waited.json()["status"]) == (200, "finished")
    assert waited.headers["idempotency-replayed"] == "true"


async def test_first_request_that_still_waits_does_not_hold_up_the_second(web: WebScene) -> None:
    waiting = asyncio.create_task(web.post("/v1/jobs", NOTE, "k", Prefer="wait=20"))
    await until(web.heart.queued)

    second = await web.post("/v1/jobs", NOTE, "k")

    assert second.status_code == 202
    await finish_next(web)
    first = await waiting
    assert (first.status_code, first.json()["id"]) == (200, second.json()["id"])


async def test_warnings_are_those_of_the_first_answer(web: WebScene) -> None:
    first = await web.post("/v1/jobs", NOTE, "k")
    await web.heart.worker()
    async with asyncio.timeout(20):
        while (await web.job(first.json()["id"]))["warnings"]:
            await asyncio.sleep(0.05)

    assert first.json()["warnings"] == ["no live worker listens to queue default"]
    assert same(first, await web.post("/v1/jobs", NOTE, "k"))


@pytest.mark.parametrize(("outcome", "status"), [("finish", "queued"), ("fail", "canceled")])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
async def test_job_of_an_ended_parent_is_repeated_as_it_was(
    web: WebScene, outcome: str, status: str, path: str
) -> None:
    actor = await web.heart.worker()  # at first: nothing to warn of
    parent = await web.submit()
    await getattr(actor, outcome)(await actor.take())
    job = NOTE | {"options": {"depends_on": [parent]}}
    body = job if path == "/v1/jobs" else {"jobs": [job]}

    first = await web.post(path, body, "k")
    again = await web.post(path, body, "k")

    assert same(first, again)
    shown = first.json()
    assert (shown["status"] if path == "/v1/jobs" else shown["counts"]) in (status, {status: 1})


async def test_batch_is_repeated_with_what_was_refused(web: WebScene) -> None:
    orphan = NOTE | {"options": {"depends_on": ["no-such-job-anywhere"]}}
    late = NOTE | {"options": {"expires_at": PAST}}
    bad = {"type": "no.such"}
    elsewhere = {"type": "log.write", "params": {"message": "m"}, "options": {"priority": "low"}}
    body = {"jobs": [bad, NOTE, orphan, NOTE, late, NOTE, NOTE, elsewhere], "mode": "permissive"}

    first = await web.post("/v1/batches", body, "k")
    again = await web.post("/v1/batches", body, "k")
    web.heart.redis.hdel(next(iter(web.heart.redis.keys("*idempotency*"))), "answer")
    made_again = await web.post("/v1/batches", body, "k")

    statuses = [each["status"] for each in first.json()["results"]]
    assert statuses == [422, 202, 422, 202, 422, 202, 503, 202]
    assert same(first, again)
    # Its answer lost, or not yet there: the same jobs, refused for the same reasons.
    results = made_again.json()["results"]
    assert [each["status"] for each in results] == statuses
    assert [each.get("job") for each in results] == [
        each.get("job") for each in first.json()["results"]
    ]
    pointers = [
        each["problem"]["errors"][0]["pointer"] for each in results if each["status"] == 422
    ]
    assert pointers == [
        "/jobs/0/type", "/jobs/2/options/depends_on/0", "/jobs/4/options/expires_at",
    ]  # fmt: skip


async def test_time_that_passes_does_not_make_a_repeated_request_another(web: WebScene) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=4)
    options = {"delay": 2, "expires_at": expires_at.isoformat()}
    jobs = [NOTE | {"options": options}]
    firsts = [
        await web.post("/v1/jobs", jobs[0], "job"),
        await web.post("/v1/batches", {"jobs": jobs}, "batch"),
    ]
    # A delay that began now would end too late.
    await until(lambda: datetime.now(UTC) > expires_at - timedelta(seconds=1.5))

    agains = [
        await web.post("/v1/jobs", jobs[0], "job"),
        await web.post("/v1/batches", {"jobs": jobs}, "batch"),
    ]
    fresh = await web.post("/v1/jobs", jobs[0], "another")

    assert [each.status_code for each in firsts] == [202, 202]
    assert [same(first, again) for first, again in zip(firsts, agains, strict=True)] == [True] * 2
    assert fresh.status_code == 422
    assert fresh.json()["errors"] == [
        {"pointer": "/options/expires_at", "detail": "must be after the job's start"}
    ]


@pytest.mark.parametrize("padding", [0, 100])
async def test_fresh_batch_of_late_jobs_is_refused_with_a_key_too(
    redis_url: str, padding: int
) -> None:
    late = NOTE | {"options": {"expires_at": PAST}}
    orphan = NOTE | {"options": {"depends_on": ["f" * 35], "expires_at": PAST}}
    body = {"jobs": [NOTE, late, *[NOTE] * padding, orphan]}
    async with web_scene_on(redis_url) as web:
        refused = await web.post("/v1/batches", body, "k")
        accepted = await web.post("/v1/batches", {"jobs": [NOTE]}, "k")
        permissive = await web.post("/v1/batches", body | {"mode": "permissive"}, "other")

    last = padding + 2
    assert refused.status_code == 422
    assert [each["pointer"] for each in refused.json()["errors"]] == [
        "/jobs/1/options/expires_at",
        f"/jobs/{last}/options/expires_at",
        f"/jobs/{last}/options/depends_on/0",
    ]
    # What was refused has not used up its key.
    assert accepted.status_code == 202
    statuses = [each["status"] for each in permissive.json()["results"]]
    assert statuses == [202, 422, *[202] * padding, 422]


async def test_first_batch_that_is_still_being_accepted_is_409(redis_url: str) -> None:
    body = {"jobs": [NOTE] * 1000}
    async with web_scene_on(redis_url) as web:
        first = asyncio.create_task(web.post("/v1/batches", body, "k"))
        # Accepted, and not all queued yet: there this web process dies.
        await until(lambda: web.heart.redis.keys("rq:recado:batch:*:todo"))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

        pending = await web.post("/v1/batches", body, "k")
        await web.heart.recover()
        more = True
        while more:
            _, more = await web.heart.recover()
        again = await web.post("/v1/batches", body, "k")

    assert pending.status_code == 409
    assert pending.json()["type"] == "/problems/idempotency-pending"
    assert pending.headers["retry-after"] == "1"
    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["counts"] == {"queued": 1000}
