"""Selections of failed jobs and what is done with them: exactly those, once, with care."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest

from app.queue.connection import connect
from app.queue.operating import OperationParams, Operator
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.retry import Failure
from app.queue.transitions import Claimed
from jobs.context import JobContext
from jobs.errors import RetryLater
from tests.heart_scene import Actor, LossyNetwork
from tests.http_doubles import bearer, key
from tests.web_scene import NOTE, WebScene, web_scene_on

ALL = {"status": "failed"}
LIMITS = Limits(5, 3600, 3600)


@dataclass(frozen=True)
class Stage:
    """A web scene and the part of a worker that carries operations out."""

    web: WebScene
    operator: Operator

    async def fail(self, *messages: str, **options: Any) -> list[str]:
        """A failed job for each message."""
        actor = await self.web.heart.worker("default.high", "default")
        ids = []
        for message in messages:
            ids.append(await self.web.submit(**options))
            assert await actor.fail(await actor.take(), message) == "done"
        return ids

    async def post(self, path: str, body: Any = None) -> httpx2.Response:
        return await self.web.client.post(f"/v1/{path}", json=body)

    async def preview(self, **wanted: Any) -> dict[str, Any]:
        shown = await self.post("failures/preview", wanted)
        assert shown.status_code == 200, shown.text
        found: dict[str, Any] = shown.json()
        return found

    async def start(self, action: str = "retry", **asked: Any) -> str:
        started = await self.post(f"failures/{action}", asked)
        assert started.status_code == 202, started.text
        assert started.headers["location"] == f"/v1/operations/{started.json()['id']}"
        return str(started.json()["id"])

    async def operation(self, operation_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.web.client.get(f"/v1/operations/{operation_id}")).json()
        return shown

    async def run(self, operation_id: str) -> float | None:
        """One run of its job; how long it would wait then, None when it has ended."""
        try:
            await self.operator.run(OperationParams(), JobContext(job_id=operation_id))
        except RetryLater as error:
            return error.delay_seconds
        return None

    def statuses(self, ids: list[str]) -> list[str | None]:
        return [self.web.heart.status(each) for each in ids]

    async def end(self, count: int, *, message: str | None = None, code: str = "refused") -> None:
        """So many of the queued jobs run: they finish, or fail with this message."""
        actor = await self.web.heart.worker("default.high", "default", "default.low")
        for _ in range(count):
            claim = await actor.claim(coroutines=1)
            assert len(claim.jobs) == 1
            if message is None:
                await actor.finish(claim.jobs[0])
            else:
                await actor.fail(claim.jobs[0], message, code=code)


@asynccontextmanager
async def new_stage(url: str) -> AsyncIterator[Stage]:
    async with web_scene_on(url) as web:
        operator = Operator(web.heart.client, 1000, 10**9)
        yield Stage(web, operator)
        await operator.aclose()


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with new_stage(redis_url) as stage:
        yield stage


async def fail_for_now(actor: Actor, claimed: Claimed, message: str) -> None:
    """Its run fails, and it is tried again later."""
    failure = Failure("refused", message, "PermanentError", retryable=False)
    outcome = outcome_of(claimed, Ended("error", failure=failure), LIMITS, lambda: 0.5)
    assert outcome is not None
    again = replace(outcome, kind="retry", ttl_seconds=-1, delay_seconds=60.0)
    assert await actor.transitions.end(again) == "done"


class TestSelections:
    async def test_preview_counts_and_shows_some(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a", "b")
        fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]

        alike, everything = await stage.preview(fingerprint=fingerprint), await stage.preview(**ALL)

        assert (alike["count"], alike["sample"]) == (2, [ids[1], ids[0]])
        assert (everything["count"], sorted(everything["sample"])) == (3, sorted(ids))
        assert alike["selection"] != everything["selection"]

    async def test_a_full_redis_takes_them_to_make_room(self, stage: Stage) -> None:
        ids = await stage.fail("a", "b")
        redis = stage.web.heart.redis
        redis.config_set("maxmemory", 1)
        try:
            selection = (await stage.preview(**ALL))["selection"]
            operation = await stage.start("discard", selection=selection)
            await stage.run(operation)
        finally:
            redis.config_set("maxmemory", 0)

        assert stage.statuses(ids) == [None, None]

    @pytest.mark.parametrize("hours", [-12, -3, 0, 9, 14])
    async def test_times_are_taken_in_the_zone_that_they_name(
        self, stage: Stage, hours: int
    ) -> None:
        (before,) = await stage.fail("a")
        (after,) = await stage.fail("a")
        made = datetime.fromisoformat((await stage.web.job(after))["created_at"])
        there = made.astimezone(timezone(timedelta(hours=hours))).isoformat()

        assert (await stage.preview(created_before=there))["sample"] == [before]
        assert (await stage.preview(created_after=there))["sample"] == [after]

    @pytest.mark.parametrize("zone", ["Z", "+14:00", "-12:00"])
    async def test_times_that_no_job_has_are_bounds_too(self, stage: Stage, zone: str) -> None:
        ids = await stage.fail("a", "b")

        for long_past, far_ahead in (
            (f"0001-01-01T00:00:00{zone}", f"9999-12-31T23:59:59{zone}"),
            (f"1969-12-31T00:00:00{zone}", f"2113-01-01T00:00:00{zone}"),
        ):
            within = await stage.preview(created_after=long_past, created_before=far_ahead)
            assert sorted(within["sample"]) == sorted(ids)
            assert (await stage.preview(created_before=long_past))["count"] == 0
            assert (await stage.preview(created_after=far_ahead))["count"] == 0

    async def test_filters_are_those_of_the_list(self, stage: Stage) -> None:
        (tagged,) = await stage.fail("a", tags={"shop": "1"})
        (urgent,) = await stage.fail("b", priority="high")
        batch = (await stage.web.post("/v1/batches", {"jobs": [NOTE]})).json()
        actor = await stage.web.heart.worker()
        await actor.fail(await actor.take(), "c")
        created = (await stage.web.job(urgent))["created_at"]

        samples = {
            name: (await stage.preview(**{name: value}))["sample"]
            for name, value in {
                "tag": "shop:1", "batch_id": batch["id"], "created_before": created,
                "created_after": created, "error": "refused", "type": "test.note",
                "queue": "default",
            }.items()
        }  # fmt: skip
        nothing = [
            (await stage.preview(**wanted))["count"]
            for wanted in (
                {"type": "log.write"}, {"queue": "email"}, {"fingerprint": "0" * 16},
                {"error": "timeout"}, {"tag": "shop:1", "batch_id": batch["id"]},
            )
        ]  # fmt: skip

        late = batch["job_ids"][0]
        assert (samples["tag"], samples["batch_id"]) == ([tagged], [late])
        assert (samples["created_before"], sorted(samples["created_after"])) == (
            [tagged], sorted([urgent, late]),
        )  # fmt: skip
        assert all(len(samples[name]) == 3 for name in ("error", "type", "queue"))
        assert nothing == [0] * 5

    async def test_exactly_the_selection_is_hit(self, stage: Stage) -> None:
        chosen = await stage.fail("a", "a", "a")
        token = (await stage.preview(**ALL))["selection"]
        later = await stage.fail("a", "b")
        await stage.post(f"jobs/{chosen[0]}/retry")
        await stage.end(1, message="a")

        operation = await stage.start(selection=token)
        await stage.run(operation)

        assert stage.statuses(chosen) == ["failed", "queued", "queued"]
        assert stage.statuses(later) == ["failed", "failed"]
        shown = await stage.operation(operation)
        assert [shown[name] for name in ("state", "total", "done", "failed", "skipped")] == [
            "finished", 3, 2, 0, 1,
        ]  # fmt: skip

    async def test_selection_may_be_many_pieces(self, stage: Stage) -> None:
        ids = await stage.fail(*["a"] * 70, tags={"t": "1"})
        await stage.fail("a")

        operation = await stage.start(tag="t:1")
        await stage.run(operation)

        assert stage.web.heart.queued() == ids
        assert (await stage.operation(operation))["done"] == 70

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, ""), ({"fingerprint": None}, ""), ({"status": "queued"}, "/status"),
            ({"typo": "x"}, "/typo"), ({"selection": "x", "type": "y"}, ""),
            ({"selection": "x" * 35}, "/selection"), ({"status": "failed", "pace": 0}, "/pace"),
            ({"status": "failed", "canary": "yes"}, "/canary"), ({"tag": "x"}, "/tag"),
            ({"created_after": "yesterday"}, "/created_after"), ([], ""),
        ],
        ids=str,
    )  # fmt: skip
    async def test_what_says_nothing_or_too_much_is_refused(
        self, stage: Stage, body: Any, pointer: str
    ) -> None:
        response = await stage.post("failures/retry", body)

        assert response.status_code == 422
        assert [each["pointer"] for each in response.json()["errors"]] == [pointer]

    async def test_there_is_no_canary_of_a_discard(self, stage: Stage) -> None:
        response = await stage.post("failures/discard", ALL | {"canary": True})

        assert response.status_code == 422


class TestOperations:
    async def test_discarded_jobs_are_gone(self, stage: Stage) -> None:
        ids = await stage.fail("a", "b")
        fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]

        operation = await stage.start("discard", fingerprint=fingerprint)
        begun = await stage.operation(operation)
        await stage.run(operation)

        ended = await stage.operation(operation)
        assert (begun["state"], begun["action"], begun["finished_at"]) == (
            "queued",
            "discard",
            None,
        )
        assert (ended["state"], ended["done"]) == ("finished", 1)
        assert ended["finished_at"] >= ended["created_at"]
        assert stage.statuses(ids) == [None, "failed"]
        assert stage.web.heart.members("failed") == [ids[1]]

    async def test_trail_and_audit_name_key_and_operation(self, stage: Stage) -> None:
        (job_id,) = await stage.fail("a")
        operation = await stage.start(**ALL, pace=5)
        await stage.post(f"operations/{operation}/pause")
        await stage.post(f"operations/{operation}/resume")
        await stage.run(operation)

        path = f"/v1/jobs/{job_id}/events"
        trail = await stage.web.client.get(path, headers={"Accept": "application/json"})
        acts = (await stage.web.client.get("/v1/audit")).json()["data"]

        (by,) = {act["key"] for act in acts}
        assert trail.json()["data"][-1]["detail"] == {
            "by": by, "retried": True, "operation": operation,
        }  # fmt: skip
        target = f"/v1/operations/{operation}"
        assert [(act["action"], act["target"]) for act in acts] == [
            ("resume", target), ("pause", target), ("retry", "/v1/failures"),
        ]  # fmt: skip
        assert acts[2]["detail"] == {"operation": target, "count": 1, "filter": {}, "pace": 5}

    async def test_it_is_paused_resumed_and_stopped(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a", "a")
        operation = await stage.start(**ALL, pace=1)
        await stage.run(operation)
        paused = (await stage.post(f"operations/{operation}/pause")).json()
        wait = await stage.run(operation)
        resumed = (await stage.post(f"operations/{operation}/resume")).json()
        await stage.run(operation)
        stopped = (await stage.post(f"operations/{operation}/stop")).json()
        await stage.run(operation)
        again = [
            await stage.post(f"operations/{operation}/{act}") for act in ("pause", "resume", "stop")
        ]

        assert (paused["state"], paused["done"], wait is not None) == ("paused", 1, True)
        assert (resumed["state"], stopped["state"], stopped["done"]) == ("running", "stopped", 2)
        assert stopped["stopped_by"] == stopped["created_by"]
        assert stage.statuses(ids) == ["queued", "queued", "failed"]
        assert {each.json()["type"] for each in again} == {"/problems/operation-ended"}

    async def test_resuming_wakes_its_job(self, stage: Stage) -> None:
        await stage.fail("a")
        operation = await stage.start(**ALL)
        worker = await stage.web.heart.worker("operations")
        await stage.post(f"operations/{operation}/pause")
        await worker.retry(await worker.take(), 60)

        await stage.post(f"operations/{operation}/resume")
        await stage.web.heart.caretaker.promote()

        assert stage.web.heart.queued("operations") == [operation]

    async def test_pace_says_when_the_next_is_due(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a")
        operation = await stage.start(**ALL, pace=0.01)

        waits = [await stage.run(operation) for _ in range(2)]

        assert all(wait is not None and 90 < wait <= 100 for wait in waits)
        assert stage.statuses(ids) == ["queued", "failed"]

    async def test_full_queue_is_waited_for(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a")
        narrow = Operator(stage.web.heart.client, 1, 10**9)
        operation = await stage.start(**ALL)
        tight = Stage(stage.web, narrow)

        wait = await tight.run(operation)
        before = stage.statuses(ids)
        await stage.end(1)
        await tight.run(operation)
        await narrow.aclose()

        assert (before, wait is not None) == (["queued", "failed"], True)
        assert stage.statuses(ids) == ["finished", "queued"]

    async def test_broken_record_is_told_and_the_rest_goes_on(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a", "a")
        stage.web.heart.redis.hset(f"rq:job:{ids[1]}", "rate_limit_key", "k")
        stage.web.heart.redis.set("rq:rl:k:rate_limited", "no set")

        operation = await stage.start(**ALL)
        await stage.run(operation)

        shown = await stage.operation(operation)
        assert (shown["state"], shown["done"], shown["failed"]) == ("finished", 2, 1)
        assert stage.statuses(ids) == ["queued", "failed", "queued"]

    async def test_lost_replies_make_it_do_nothing_twice(self, stage: Stage) -> None:
        ids = await stage.fail(*["a"] * 80)
        operation = await stage.start(**ALL)
        network = LossyNetwork(int(stage.web.heart.url.rpartition(":")[2].partition("/")[0]))
        await network.open()
        client = connect(network.url)
        lossy = Stage(stage.web, Operator(client, 1000, 10**9))
        network.lose_replies(2)

        while await lossy.run(operation) is not None:
            pass
        await lossy.operator.aclose()
        await client.aclose()
        await network.close()

        shown = await stage.operation(operation)
        assert (shown["state"], shown["done"]) == ("finished", 80)
        assert [stage.web.heart.trail(each).count("queued") for each in ids] == [2] * 80
        assert stage.web.heart.queued() == ids

    async def test_operation_whose_job_was_canceled_is_stopped(self, stage: Stage) -> None:
        await stage.fail("a")
        operation = await stage.start(**ALL)
        await stage.post(f"jobs/{operation}/cancel")

        shown = await stage.operation(operation)
        acted = await stage.post(f"operations/{operation}/resume")

        assert (shown["state"], acted.status_code) == ("stopped", 409)

    async def test_they_are_listed_the_newest_first(self, stage: Stage) -> None:
        ids = await stage.fail("a", "b", tags={"shop": "1"})
        fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]
        first = await stage.start("discard", fingerprint=fingerprint)
        await stage.run(first)
        token = (await stage.preview(tag="shop:1", created_before="2099-01-01T00:00:00Z"))[
            "selection"
        ]
        second = await stage.start(selection=token, canary=True)
        third = await stage.start(**ALL)

        listed = (await stage.web.client.get("/v1/operations")).json()

        assert listed["data"] == [await stage.operation(each) for each in (third, second, first)]
        assert listed["next_cursor"] is None
        assert [each["filter"] for each in listed["data"]] == [
            {},
            {"tag": "shop:1", "created_before": "2099-01-01T00:00:00.000000Z"},
            {"fingerprint": fingerprint},
        ]
        assert [each["state"] for each in listed["data"]] == ["queued", "queued", "finished"]

    async def test_list_turns_pages_and_leaves_out_what_is_no_longer_kept(
        self, stage: Stage
    ) -> None:
        started = [await stage.start(**ALL) for _ in range(6)]
        for gone in (started[0], started[3], started[4]):
            stage.web.heart.redis.delete(f"rq:recado:operation:{gone}")

        pages, path = [], "/v1/operations?limit=1"
        while path:
            page = await stage.web.client.get(path)
            pages.append([each["id"] for each in page.json()["data"]])
            path = str(page.links.get("next", {}).get("url", ""))
        await stage.start(**ALL)

        assert pages == [[started[5]], [started[2]], [started[1]]]
        # What is gone does not stay in the list either.
        assert stage.web.heart.redis.zcard("rq:recado:operations") == 4

    @pytest.mark.parametrize("query", ["cursor=x", "cursor=%C3%A4" + "a" * 30, "limit=0"])
    async def test_list_takes_only_its_own_cursors(self, stage: Stage, query: str) -> None:
        response = await stage.web.client.get(f"/v1/operations?{query}")

        (fault,) = response.json()["errors"]
        assert (response.status_code, fault["parameter"]) == (422, query.partition("=")[0])

    async def test_unknown_operation_is_404(self, stage: Stage) -> None:
        for operation in ("f" * 35, "..%2Fx", "z" * 5000):
            response = await stage.web.client.get(f"/v1/operations/{operation}")
            acted = await stage.post(f"operations/{operation}/stop")
            assert (response.status_code, acted.status_code) == (404, 404)

    async def test_its_job_cannot_be_submitted(self, stage: Stage) -> None:
        response = await stage.post("jobs", {"type": "operation.run", "params": {}})
        types = (await stage.web.client.get("/v1/job-types")).json()["data"]

        assert [each["pointer"] for each in response.json()["errors"]] == ["/type"]
        assert "operation.run" not in {each["name"] for each in types}


class TestCanary:
    async def test_one_then_ten_then_the_rest(self, stage: Stage) -> None:
        await stage.fail(*["a"] * 20)
        operation = await stage.start(**ALL, canary=True)

        done = []
        for running in (1, 10):
            for _ in range(2):  # the second finds that the first wave has not ended
                assert await stage.run(operation) is not None
                shown = await stage.operation(operation)
                done.append((shown["done"], len(shown["waits_for"])))
            await stage.end(running)
        last = await stage.run(operation)

        shown = await stage.operation(operation)
        assert done == [(1, 1), (1, 1), (11, 10), (11, 10)]
        assert (last, shown["done"], shown["state"]) == (None, 20, "finished")
        assert shown["waits_for"] == []

    async def test_it_stops_when_the_same_cause_comes_back(self, stage: Stage) -> None:
        ids = await stage.fail(*["a 1"] * 3)
        fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)

        await stage.end(1, message="a 2")
        ended = await stage.run(operation)

        shown = await stage.operation(operation)
        assert (ended, shown["state"], shown["done"]) == (None, "stopped", 1)
        assert shown["stopped_by"] == fingerprint
        assert stage.statuses(ids) == ["failed"] * 3

    async def test_it_hears_of_the_first_attempt_that_fails(self, stage: Stage) -> None:
        await stage.fail("a", "a")
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)
        actor = await stage.web.heart.worker()
        claimed = await actor.take()
        await fail_for_now(actor, claimed, "a")

        await stage.run(operation)

        assert (await stage.operation(operation))["state"] == "stopped"

    async def test_it_says_that_its_canary_waits_in_a_paused_queue(self, stage: Stage) -> None:
        await stage.fail("a", "a")
        await stage.post("queues/default/pause")
        await stage.web.heart.worker("operations")
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)

        warnings: list[str] = []
        async with asyncio.timeout(10):  # what is known of queues may be a second old
            while "queue default is paused" not in warnings:
                warnings = (await stage.operation(operation))["warnings"]

        assert "no live worker listens to queue operations" not in warnings

    async def test_canary_that_somebody_cancels_tells_nothing_and_another_goes(
        self, stage: Stage
    ) -> None:
        ids = await stage.fail(*["a"] * 3)
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)

        await stage.post(f"jobs/{ids[0]}/cancel")
        await stage.run(operation)
        waits = await stage.run(operation)
        after_cancel = stage.statuses(ids)
        await stage.end(1)
        await stage.run(operation)

        assert after_cancel == ["canceled", "queued", "failed"]
        assert waits is not None
        assert stage.statuses(ids) == ["canceled", "finished", "queued"]

    async def test_canary_that_was_deleted_after_its_end_holds_nothing_up(
        self, stage: Stage
    ) -> None:
        ids = await stage.fail("a", "a")
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)
        await stage.end(1)
        deleted = await stage.web.client.delete(f"/v1/jobs/{ids[0]}")

        await stage.run(operation)

        assert deleted.status_code == 204
        assert stage.statuses(ids) == [None, "queued"]

    async def test_it_waits_for_a_canary_that_does_not_end(self, stage: Stage) -> None:
        ids = await stage.fail("a", "a")
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)
        actor = await stage.web.heart.worker()
        await actor.take()

        waits = [await stage.run(operation) for _ in range(12)]
        page = await stage.web.client.get(f"/console/operations/{operation}")

        assert stage.statuses(ids) == ["started", "failed"]
        assert (await stage.operation(operation))["waits_for"] == ids[:1]
        assert f"/console/jobs/{ids[0]}" in page.text
        # It asks less and less often, and never gives up.
        assert waits[-1] == 5.0
        assert all(each is not None for each in waits)

    async def test_another_cause_does_not_stop_it(self, stage: Stage) -> None:
        await stage.fail("a", "a")
        operation = await stage.start(**ALL, canary=True)
        await stage.run(operation)

        await stage.end(1, message="quite different")
        await stage.run(operation)

        assert (await stage.operation(operation))["done"] == 2


@pytest.mark.parametrize("scope", ["submit", "read"])
async def test_all_of_it_needs_operate(redis_url: str, scope: str) -> None:
    paths = ["failures/preview", "failures/retry", "failures/discard"]
    paths += [f"operations/x/{act}" for act in ("pause", "resume", "stop")]
    async with web_scene_on(redis_url, key("k", scope)) as web:
        headers = bearer("k")
        answers = [
            await web.client.post(f"/v1/{each}", json=ALL, headers=headers) for each in paths
        ]
        for path in ("failures", "operations", "operations/x"):
            answers.append(await web.client.get(f"/v1/{path}", headers=headers))

    assert {each.status_code for each in answers} == {403}
