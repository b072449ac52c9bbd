"""Looking at queues and workers, and emptying a queue, over a real Valkey."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rq import suspension

from app.http import queues
from app.queue import scripts
from app.queue.calling import BROKEN_EXC, run_script
from app.queue.control import EMPTY_JOBS
from tests.http_doubles import bearer, key
from tests.stock import stock_on
from tests.web_scene import NOTE, WebScene, web_scene_on


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as web:
        yield web


async def every(web: WebScene) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await web.client.get("/v1/queues")).json()["data"]
    return data


async def queue(web: WebScene, name: str = "default") -> dict[str, Any]:
    data = await every(web)
    assert [each["name"] for each in data] == sorted({each["name"] for each in data})
    shown: dict[str, Any]
    (shown,) = [each for each in data if each["name"] == name]
    return shown


async def empty(web: WebScene, name: str = "default") -> int:
    response = await web.client.delete(f"/v1/queues/{name}/jobs", params={"confirm": name})
    assert response.status_code == 200, response.text
    assert response.json()["name"] == name
    return int(response.json()["canceled"])


class TestQueues:
    async def test_each_registered_queue_is_there_before_anything_was_in_it(
        self, web: WebScene
    ) -> None:
        assert await queue(web, "email") == {
            "name": "email", "depth": 0, "oldest_age": None, "running": 0, "scheduled": 0,
            "deferred": 0, "failed": 0, "bytes": 0, "rate_in": None, "rate_out": None,
            "workers": 0, "paused": False, "pause_reason": None,
        }  # fmt: skip

    async def test_jobs_are_counted_where_they_are(self, web: WebScene) -> None:
        actor = await web.heart.worker("default.high", "default", "default.low")
        failing = await web.submit()
        await actor.fail(await actor.take())
        await web.submit()
        running = await actor.take()
        for priority in ("high", "default", "low"):
            await web.submit(priority=priority)
        await web.submit(delay=3600)
        await web.submit(depends_on=[running.id])

        shown = await queue(web)

        counts = {name: shown[name] for name in ("depth", "running", "scheduled", "deferred")}
        assert counts == {"depth": 3, "running": 1, "scheduled": 1, "deferred": 1}
        assert (shown["failed"], shown["workers"]) == (1, 1)
        assert shown["bytes"] > 0
        assert web.heart.status(failing) == "failed"

    async def test_oldest_age_is_of_the_job_that_has_waited_longest(self, web: WebScene) -> None:
        _, second, low = (
            await web.submit(), await web.submit(), await web.submit(priority="low")
        )  # fmt: skip
        for job_id, age in ((second, 100), (low, 300)):
            text = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            web.heart.redis.hset(f"rq:job:{job_id}", "enqueued_at", text)

        assert 299 < (await queue(web))["oldest_age"] < 360

    async def test_entry_without_a_record_has_no_age(self, web: WebScene) -> None:
        web.heart.redis.sadd("rq:queues", "rq:queue:default")
        web.heart.redis.rpush("rq:queue:default", "gone", "odd")
        web.heart.redis.set("rq:job:odd", "no hash")

        shown = await queue(web)

        assert (shown["depth"], shown["oldest_age"]) == (2, None)

    async def test_stock_producers_queue_is_shown_and_can_be_held(self, web: WebScene) -> None:
        with stock_on(web.heart.url) as stock:
            stock.queue("reports").enqueue("some.function")

        shown = await queue(web, "reports")
        paused = await web.client.post("/v1/queues/reports/pause")

        assert (shown["depth"], shown["workers"]) == (1, 0)
        assert paused.status_code == 200
        assert (await queue(web, "reports"))["paused"] is True

    async def test_queue_that_paused_itself_says_why(self, web: WebScene) -> None:
        web.heart.redis.sadd("rq:recado:paused", "email")
        error = '{"code":"smtp_auth","message":"535 no"}'
        web.heart.redis.hset("rq:recado:paused_why", "email", error)

        shown = await queue(web, "email")

        assert (shown["paused"], shown["pause_reason"]) == (True, "smtp_auth: 535 no")

    async def test_one_queue_tells_of_its_last_hour(self, web: WebScene) -> None:
        web.heart.redis.sadd("rq:queues", "rq:queue:default")

        response = await web.client.get("/v1/queues/default.high")
        unknown = await web.client.get("/v1/queues/nowhere")

        assert response.json() == await queue(web) | {"minutes": [], "waiting": []}
        assert unknown.status_code == 404

    async def test_what_waited_in_the_last_hour_is_told_by_the_minute(self, web: WebScene) -> None:
        web.heart.redis.sadd("rq:queues", "rq:queue:default")
        now = datetime.now(UTC)
        for ago, depth in ((120, 7), (60, 0)):
            at = now - timedelta(seconds=ago)
            since = (at - timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            at_us = round(at.timestamp() * 1_000_000)
            waited = {"default": [depth, since]} if depth else {}
            note = json.dumps({"at": str(at_us), "queues": waited})
            web.heart.redis.set(f"rq:recado:counts:{at_us // 60_000_000}:waiting", note)

        deep, empty = (await web.client.get("/v1/queues/default")).json()["waiting"]

        assert (deep["depth"], empty["depth"], empty["oldest_age"]) == (7, 0, None)
        assert deep["oldest_age"] == pytest.approx(30, abs=0.01)
        assert deep["at"] < empty["at"]

    async def test_queue_with_a_slash_in_its_name_can_be_acted_on(self, web: WebScene) -> None:
        with stock_on(web.heart.url) as stock:
            stock.queue("team/reports").enqueue("some.function")
        path = "/v1/queues/team/reports"

        acts = [(await web.client.post(f"{path}/{act}")).json() for act in ("pause", "resume")]
        shown = await web.client.get(path)

        assert [each["paused"] for each in acts] == [True, False]
        assert (shown.json()["name"], shown.json()["depth"]) == ("team/reports", 1)
        assert await empty(web, "team/reports") == 1


class TestEmptying:
    async def test_what_waits_is_canceled_and_the_rest_stays(self, web: WebScene) -> None:
        actor = await web.heart.worker()
        await web.submit()
        running = await actor.take()
        later = await web.submit(delay=3600)
        waiting = [await web.submit(priority=each) for each in ("high", "default", "low")]

        assert await empty(web) == 3

        for job_id in waiting:
            job = await web.job(job_id)
            assert (job["status"], job["reason"]) == ("canceled", "requested")
            assert job["ended_at"] is not None
        assert web.heart.status(running.id) == "started"
        assert web.heart.status(later) == "scheduled"
        shown = await queue(web)
        assert (shown["depth"], shown["running"], shown["scheduled"]) == (0, 1, 1)
        (act,) = (await web.client.get("/v1/audit")).json()["data"]
        assert (act["key"], act["action"], act["target"]) == (
            "local",
            "empty",
            "/v1/queues/default",
        )
        assert act["detail"] == {"waiting": 3}

    async def test_deep_queue_is_emptied_in_pieces(self, web: WebScene) -> None:
        ids = await web.heart.submit_many(2 * EMPTY_JOBS + 5)

        assert await empty(web) == len(ids)

        assert {web.heart.status(each) for each in ids} == {"canceled"}
        assert web.heart.queued() == []
        assert (await queue(web))["bytes"] == 0
        listed = await web.client.get("/v1/jobs", params={"status": "canceled", "limit": 200})
        assert {each["id"] for each in listed.json()["data"]} == set(ids)

    async def test_answer_comes_before_a_proxy_gives_up_and_the_rest_on_request(
        self, web: WebScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queues, "EMPTY_SECONDS", 0.0)
        ids = await web.heart.submit_many(EMPTY_JOBS + 5)

        told = []
        for _ in range(3):
            answer = await web.client.delete("/v1/queues/default/jobs?confirm=default")
            told.append((answer.json()["canceled"], answer.json()["is_complete"]))

        assert told == [(EMPTY_JOBS, False), (5, False), (0, True)]
        assert {web.heart.status(each) for each in ids} == {"canceled"}

    async def test_what_comes_meanwhile_stays(self, web: WebScene) -> None:
        before = await web.heart.submit_many(3)

        async def piece(asked_at: bytes) -> list[Any]:
            arguments = ["default", 2, asked_at, "ops", BROKEN_EXC]
            answer: list[Any] = await run_script(web.heart.lane, scripts.EMPTY, *arguments)
            return answer

        first = await piece(b"")
        after = await web.submit()
        second = await piece(first[2])

        assert (first[:2], second[:2]) == ([2, 1], [1, 0])
        assert {web.heart.status(each) for each in before} == {"canceled"}
        assert web.heart.queued() == [after]

    async def test_dependents_are_settled_as_by_a_cancel(self, web: WebScene) -> None:
        parent = await web.submit()
        child = await web.submit(depends_on=[parent])
        tolerant = await web.submit(depends_on=[parent], allow_failure=True)

        assert await empty(web) == 1

        job = await web.job(child)
        assert (job["status"], job["reason"]) == ("canceled", "parent_failed")
        assert web.heart.status(tolerant) == "queued"

    async def test_slot_of_a_canceled_job_goes_on(self, web: WebScene) -> None:
        key_of_one = {"key": "k", "limit": 1}
        first = await web.submit(concurrency=key_of_one)
        second = await web.submit(concurrency=key_of_one)

        assert await empty(web) == 1

        assert web.heart.status(first) == "canceled"
        assert web.heart.queued() == [second]

    async def test_broken_and_doubled_entries_hold_nothing_up(self, web: WebScene) -> None:
        actor = await web.heart.worker()
        running_id = await web.submit()
        await actor.take()
        healthy = await web.submit()
        web.heart.redis.set("rq:job:odd", "no hash")
        web.heart.redis.lpush("rq:queue:default", "gone", running_id, "odd")

        assert await empty(web) == 1

        assert web.heart.queued() == []
        assert web.heart.status(running_id) == "started"
        assert web.heart.status(healthy) == "canceled"
        assert web.heart.status("odd") == "failed"

    @pytest.mark.parametrize("confirm", [None, "email", "default.high", ""])
    async def test_without_its_name_nothing_is_emptied(
        self, web: WebScene, confirm: str | None
    ) -> None:
        await web.submit()
        params = {} if confirm is None else {"confirm": confirm}

        response = await web.client.delete("/v1/queues/default/jobs", params=params)

        assert response.status_code == 422
        assert response.json()["errors"][0]["parameter"] == "confirm"
        assert len(web.heart.queued()) == 1

    async def test_unknown_queue_is_404(self, web: WebScene) -> None:
        response = await web.client.delete("/v1/queues/nowhere/jobs?confirm=nowhere")

        assert response.status_code == 404


class TestWorkers:
    async def test_worker_is_shown_with_what_it_runs(self, web: WebScene) -> None:
        actor = await web.heart.worker("email", "email.high")
        job_id = await web.submit()
        other = await web.heart.worker()
        await other.beat(await other.take())

        data = (await web.client.get("/v1/workers")).json()["data"]
        shown = {each["name"]: each for each in data}

        assert set(shown) == {actor.name, other.name}
        idle, busy = shown[actor.name], shown[other.name]
        assert (idle["queues"], idle["running"], idle["is_alive"]) == (["email"], [], True)
        assert (busy["running"], busy["running_count"]) == ([job_id], 1)
        assert (busy["pid"], busy["host"], busy["slots"]) == (1, "host", None)
        assert 0 <= busy["heartbeat_age"] < 10
        assert busy["started_at"] is not None

    async def test_silent_worker_is_not_alive_and_one_that_left_is_gone(
        self, web: WebScene
    ) -> None:
        silent, gone = await web.heart.worker(), await web.heart.worker()
        web.heart.silence(silent)
        await gone.transitions.death()

        (shown,) = (await web.client.get("/v1/workers")).json()["data"]

        assert (shown["name"], shown["is_alive"]) == (silent.name, False)
        assert shown["heartbeat_age"] > 10
        assert (await queue(web))["workers"] == 0

    async def test_stock_worker_is_shown_too(self, web: WebScene) -> None:
        now = datetime.now(UTC)
        record = {
            "birth": now, "last_heartbeat": now - timedelta(seconds=60), "queues": "default",
            "pid": 7, "hostname": "old", "state": "busy",
        }  # fmt: skip
        text = {
            name: value.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(value, datetime) else value
            for name, value in record.items()
        }
        web.heart.redis.hset("rq:worker:stock", mapping=text)
        web.heart.redis.sadd("rq:workers", "rq:worker:stock")
        web.heart.redis.sadd("rq:worker:stock:executions", "some-job:some-execution")

        (shown,) = (await web.client.get("/v1/workers")).json()["data"]

        assert (shown["name"], shown["is_alive"], shown["pid"]) == ("stock", True, 7)
        assert (shown["state"], shown["running"], shown["slots"]) == ("busy", ["some-job"], None)
        assert 59 < shown["heartbeat_age"] < 120


class TestReadiness:
    async def test_suspended_workers_are_told_of_and_jobs_carry_the_warning(
        self, web: WebScene
    ) -> None:
        await web.heart.worker(*[each["name"] for each in await every(web)])
        before = await web.client.get("/readyz")
        with stock_on(web.heart.url) as stock:
            suspension.suspend(stock.connection)

            suspended = await web.client.get("/readyz")
            job_id = await web.submit()
            warned = await web.job(job_id)
            measured = await web.client.get("/metrics")

            suspension.resume(stock.connection)
        after = await web.client.get("/readyz")

        assert [each.status_code for each in (before, suspended, after)] == [200, 503, 200]
        (reason,) = suspended.json()["reasons"]
        assert "rq resume" in reason
        assert reason in warned["warnings"]
        assert "recado_suspended 1.0" in measured.text

    async def test_queue_as_deep_as_it_may_become_is_told_of(self, redis_url: str) -> None:
        async with web_scene_on(redis_url, most_queued=2) as web:
            await web.heart.worker(*[each["name"] for each in await every(web)])
            await web.submit(priority="low")
            await web.submit(priority="low", delay=3600)
            refused = await web.post("/v1/jobs", NOTE | {"options": {"priority": "low"}})
            ready = await web.client.get("/readyz")

        assert refused.status_code == 503
        assert ready.json()["reasons"] == [
            "queue default.low is full: no new jobs are taken for it"
        ]

    async def test_queue_with_as_many_bytes_as_it_may_have_is_told_of(self, redis_url: str) -> None:
        async with web_scene_on(redis_url, most_bytes=1000) as web:
            await web.heart.worker(*[each["name"] for each in await every(web)])
            web.heart.redis.hset("rq:recado:bytes", "default", 1000)
            ready = await web.client.get("/readyz")

        assert ready.json()["reasons"] == ["queue default is full: no new jobs are taken for it"]


async def test_read_looks_and_operate_acts(redis_url: str) -> None:
    keys = [key("s", "submit"), key("r", "read"), key("o", "operate")]
    looks = ["/v1/queues", "/v1/queues/email", "/v1/workers", "/metrics"]
    async with web_scene_on(redis_url, *keys) as web:

        async def statuses(path: str, method: str = "GET") -> list[int]:
            answers = [
                await web.client.request(method, path, headers=bearer(name)) for name in "sro"
            ]
            return [each.status_code for each in answers]

        assert [await statuses(path) for path in looks] == [[403, 200, 200]] * len(looks)
        emptied = await statuses("/v1/queues/email/jobs?confirm=email", "DELETE")
        assert emptied == [403, 403, 200]
