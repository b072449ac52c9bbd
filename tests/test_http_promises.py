"""Single sentences of the contract, each where a client and a real Redis meet."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.queue.transitions import Outcome
from tests.conftest import ValkeyServer
from tests.harness import REQUEUED_SECONDS
from tests.http_doubles import bearer, key
from tests.web_scene import NOTE, WebScene, web_scene_on

DAY = 24 * 3600
TRAIL = {"Accept": "application/json"}
EMAIL = {"from": "a@example.test", "to": "b@example.test", "subject": "s", "text": "t"}


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


async def test_ids_sort_by_time_and_tell_nothing_of_the_next(web: WebScene) -> None:
    ids = [await web.submit() for _ in range(50)]
    batch = (await web.post("/v1/batches", {"jobs": [NOTE] * 50})).json()
    ids += [max(batch["job_ids"])]

    assert ids == sorted(ids)
    assert all(re.fullmatch("[A-Za-z0-9_-]{20,40}", each) for each in [*ids, batch["id"]])
    # Where the time ends nothing repeats, and no two ids have a beginning of that in common.
    endings = [each[13:] for each in [*ids, *batch["job_ids"]]]
    assert len({each[:8] for each in endings}) == len(set(endings))


@pytest.mark.parametrize(
    "job_id", ["..%2F..%2Fetc%2Fpasswd", "x" * 20 + "%0A", "%00" * 20, "x" * 10_000, "*" * 20]
)
async def test_id_that_is_none_is_not_there_whatever_is_asked(web: WebScene, job_id: str) -> None:
    answers = [
        await web.client.request(method, f"/v1/jobs/{job_id}{more}")
        for method, more in (
            ("GET", ""), ("DELETE", ""), ("GET", "/events"), ("POST", "/cancel"),
            ("GET", "/artifacts/a.csv"),
        )
    ]  # fmt: skip
    answers.append(await web.client.get(f"/v1/batches/{job_id}"))

    assert {each.status_code for each in answers} == {404}
    assert {each.headers["content-type"] for each in answers} == {"application/problem+json"}


async def test_escaped_nul_is_text_like_any_other(web: WebScene) -> None:
    body = {"type": "test.note", "params": {"message": "a\0b"}, "options": {"tags": {"t": "ä"}}}

    job = (await web.post("/v1/jobs", body)).json()
    shown = (await web.client.get(f"/v1/jobs/{job['id']}?include=params")).json()

    assert shown["params"]["message"] == "a\0b"


async def test_key_is_kept_for_a_day_and_means_nothing_after_it(web: WebScene) -> None:
    first = (await web.post("/v1/jobs", NOTE, "k" * 255)).json()
    (kept,) = web.heart.redis.keys("rq:recado:idempotency:*")
    assert DAY - 60 < web.heart.redis.ttl(kept) <= DAY

    web.heart.redis.delete(kept)

    again = await web.post("/v1/jobs", NOTE, "k" * 255)
    assert again.json()["id"] != first["id"]
    assert "idempotency-replayed" not in again.headers


async def test_keys_with_read_or_operate_see_what_others_submit(redis_url: str) -> None:
    keys = [key("a", "submit"), key("b", "submit"), key("r", "read"), key("o", "operate")]
    async with web_scene_on(redis_url, *keys) as web:
        job = (await web.client.post("/v1/jobs", json=NOTE, headers=bearer("a"))).json()
        path = f"/v1/jobs/{job['id']}"
        batch = await web.client.post("/v1/batches", json={"jobs": [NOTE]}, headers=bearer("a"))
        seen = {
            each.name: [
                (await web.client.get(where, headers=bearer(each.name) | TRAIL)).status_code
                for where in (path, f"{path}/events", batch.headers["location"])
            ]
            for each in keys
        }
        listed = {
            each.name: len(
                (await web.client.get("/v1/jobs", headers=bearer(each.name))).json()["data"]
            )
            for each in keys
        }

    assert {name: set(codes) for name, codes in seen.items() if name != "b"} == {
        "a": {200}, "r": {200}, "o": {200},
    }  # fmt: skip
    assert seen["b"] == [404, 404, 404]
    assert listed == {"a": 2, "b": 0, "r": 2, "o": 2}


@pytest.mark.parametrize("as_it_ends", ["retry", "stopped"])
async def test_stopped_job_is_kept_as_long_as_a_canceled_one(
    web: WebScene, as_it_ends: str
) -> None:
    job_id = await web.submit(retention=100)
    actor = await web.heart.worker()
    claimed = await actor.take()
    assert (await web.post(f"/v1/jobs/{job_id}/cancel", None)).status_code == 202

    kind: Any = as_it_ends
    await actor.transitions.end(Outcome(job_id, claimed.execution, "default", kind, -1))

    shown = await web.job(job_id)
    assert (shown["status"], shown["reason"]) == ("stopped", "requested")
    assert 0 < web.heart.redis.ttl(f"rq:job:{job_id}") <= 100 + REQUEUED_SECONDS
    due = web.heart.redis.zscore("rq:failed:default", job_id) - web.heart.now_ms() / 1000
    assert 0 < due <= 100


async def test_redis_that_does_not_answer_is_503_and_reads_are_too(valkey: ValkeyServer) -> None:
    async with web_scene_on(valkey.url, give_up_seconds=3.0) as web:
        job_id = await web.submit()
        assert valkey.process is not None
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                answers = await asyncio.gather(
                    web.post("/v1/jobs", NOTE), web.client.get(f"/v1/jobs/{job_id}"),
                    web.client.get("/v1/jobs"), web.post(f"/v1/jobs/{job_id}/cancel", None),
                )  # fmt: skip
        finally:
            valkey.process.send_signal(signal.SIGCONT)
        after = await web.post("/v1/jobs", NOTE)
        # Who got no answer may have a job all the same, and then a whole one.
        statuses = {(await web.job(each))["status"] for each in web.heart.queued()}

    assert [each.status_code for each in answers] == [503] * 4
    for each in answers:
        assert each.json()["detail"] == "Redis does not answer"
        assert int(each.headers["retry-after"]) > 0
    assert after.status_code == 202
    assert statuses == {"queued"}


async def test_read_only_redis_is_named_and_can_be_read(valkey: ValkeyServer) -> None:
    async with web_scene_on(valkey.url) as web:
        job_id = await web.submit()
        web.heart.redis.replicaof("127.0.0.1", "1")
        writes: list[Any] = [
            await web.post("/v1/jobs", NOTE), await web.post("/v1/emails", EMAIL),
            await web.post("/v1/batches", {"jobs": [NOTE]}),
            await web.post(f"/v1/jobs/{job_id}/cancel", None),
            await web.client.post("/v1/queues/default/pause"),
        ]  # fmt: skip
        ready = await web.client.get("/readyz")
        reads = [await web.client.get(path) for path in (f"/v1/jobs/{job_id}", "/v1/jobs")]

    assert [each.status_code for each in writes] == [503] * 5
    assert {each.json()["detail"] for each in writes} == {
        "Redis is a read-only replica: nothing can be written here"
    }
    assert {each.headers["retry-after"] for each in writes} == {"30"}
    assert ready.json()["reasons"][0] == "Redis is a read-only replica: nothing can be written here"
    assert [each.status_code for each in reads] == [200, 200]
