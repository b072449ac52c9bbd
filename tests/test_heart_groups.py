"""Failed jobs by cause: right whoever fails them, takes them up or forgets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.heart_scene import Actor
from tests.stock import stock_on
from tests.web_scene import WebScene, web_scene_on


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


async def fail(web: WebScene, *messages: str, ttl: int = 3600, **options: Any) -> list[str]:
    """A failed job for each message."""
    actor = await web.heart.worker()
    ids = []
    for message in messages:
        ids.append(await web.submit(**options))
        assert await actor.fail(await actor.take(), message, ttl=ttl) == "done"
    return ids


async def groups(web: WebScene, **query: Any) -> list[dict[str, Any]]:
    shown = await web.client.get("/v1/failures", params=query)
    assert shown.status_code == 200, shown.text
    found: list[dict[str, Any]] = shown.json()["data"]
    return found


async def counts(web: WebScene) -> list[int]:
    return [group["count"] for group in await groups(web)]


async def retry(web: WebScene, job_id: str) -> None:
    assert (await web.client.post(f"/v1/jobs/{job_id}/retry")).status_code == 202


async def test_alike_failures_are_one_group(web: WebScene) -> None:
    ids = await fail(web, "no user 1", "another cause", "no user 22")

    first, second = await groups(web)

    assert (first["count"], first["samples"], second["count"]) == (2, [ids[2], ids[0]], 1)
    assert first["error"] == {"class": "PermanentError", "message": "no user …"}
    assert (first["type"], first["queue"], first["state"]) == ("test.note", "default", "open")
    assert first["trend"] == {"1h": 2, "24h": 2, "7d": 2}
    assert first["first_seen"] < second["last_seen"] < first["last_seen"]
    assert first["fingerprint"] == (await web.job(ids[0]))["error"]["fingerprint"]


async def test_pages_lead_to_one_another(web: WebScene) -> None:
    words = ["one", "two", "three", "four", "five"]
    await fail(web, *words)

    path, seen = "/v1/failures?limit=2", []
    while path:
        page = await web.client.get(path)
        seen += [each["error"]["message"] for each in page.json()["data"]]
        path = page.headers.get("link", "").partition(">")[0].removeprefix("<")
    wrong = await web.client.get("/v1/failures?cursor=x")

    assert seen == words[::-1]
    assert wrong.status_code == 422


async def test_waiting_for_another_attempt_is_no_failure_yet(web: WebScene) -> None:
    await web.submit()
    actor = await web.heart.worker()
    await actor.retry(await actor.take(), 60)

    assert await groups(web) == []


async def test_cleared_cause_that_comes_back_is_regressed(web: WebScene) -> None:
    job_id, other = await fail(web, "again", "again")
    await retry(web, job_id)
    partly = await groups(web)
    await retry(web, other)
    cleared = await groups(web)
    actor = await web.heart.worker()
    claim = await actor.claim()
    await actor.fail(claim.jobs[0], "again")

    (group,) = await groups(web)

    assert (partly[0]["state"], partly[0]["count"], cleared) == ("open", 1, [])
    assert (group["state"], group["count"], group["trend"]["1h"]) == ("regressed", 1, 3)
    assert group["first_seen"] == partly[0]["first_seen"]


async def test_deleted_jobs_leave_their_group(web: WebScene) -> None:
    ids = await fail(web, "a", "a")
    await web.client.delete(f"/v1/jobs/{ids[0]}")
    left = await counts(web)
    await web.client.delete(f"/v1/jobs/{ids[1]}")

    assert (left, await counts(web)) == ([1], [])


async def test_end_of_retention_forgets_a_cause_but_does_not_clear_it(web: WebScene) -> None:
    await fail(web, "old", ttl=1)
    (job_id,) = web.heart.members("failed")
    web.heart.redis.zadd("rq:failed:default", {job_id: web.heart.now_ms() / 1000 - 5})

    await web.heart.recover()
    forgotten = (await groups(web), web.heart.redis.keys("rq:recado:failure:*"))
    await fail(web, "old")

    assert forgotten == ([], [])
    assert [group["state"] for group in await groups(web)] == ["open"]


async def test_jobs_that_are_not_kept_count_in_no_group(web: WebScene) -> None:
    await fail(web, "gone", ttl=0)

    assert await groups(web) == []


async def test_stopped_jobs_are_no_failures(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    await web.client.post(f"/v1/jobs/{job_id}/cancel")
    await actor.retry(claimed, 60)

    assert ((await web.job(job_id))["status"], await groups(web)) == ("stopped", [])


class TestStockTools:
    async def test_requeued_job_leaves_its_group_when_it_is_claimed(self, web: WebScene) -> None:
        (job_id,) = await fail(web, "a")
        with stock_on(web.heart.url) as stock:
            stock.failed().requeue(job_id)
        actor = await web.heart.worker()

        await actor.take()

        assert await groups(web) == []

    async def test_upkeep_finds_what_was_requeued_and_waits(self, web: WebScene) -> None:
        kept, job_id = await fail(web, "a", "a")
        with stock_on(web.heart.url) as stock:
            stock.failed().requeue(job_id)

        await web.heart.recover()

        assert [group["samples"] for group in await groups(web)] == [[kept]]

    @pytest.mark.parametrize("wanted", ["status", "error", "fingerprint"])
    async def test_who_finds_a_finished_job_in_a_list_takes_it_out_of_its_group(
        self, web: WebScene, wanted: str
    ) -> None:
        """A stock worker ran it; upkeep goes by one of these lists, and previews by another."""
        kept, job_id = await fail(web, "a", "a")
        error = (await web.job(job_id))["error"]
        web.heart.redis.zrem("rq:failed:default", job_id)
        web.heart.redis.hset(f"rq:job:{job_id}", "status", "finished")
        value = {"status": "failed", "error": error["code"], "fingerprint": error["fingerprint"]}

        await web.client.get("/v1/jobs", params={wanted: value[wanted]})

        assert [group["samples"] for group in await groups(web)] == [[kept]]

    async def test_upkeep_finds_deleted_jobs(self, web: WebScene) -> None:
        kept, job_id = await fail(web, "a", "a")
        web.heart.redis.delete(f"rq:job:{job_id}")
        web.heart.redis.zrem("rq:failed:default", job_id)

        await web.heart.recover()

        assert [group["samples"] for group in await groups(web)] == [[kept]]

    async def test_upkeep_groups_what_failed_before_there_were_groups(self, web: WebScene) -> None:
        ids = await fail(web, "a", "a")
        for key in web.heart.redis.keys("rq:recado:fail*"):
            web.heart.redis.delete(key)
        before = await groups(web)

        await web.heart.recover()

        (group,) = await groups(web)
        assert (before, sorted(group["samples"])) == ([], sorted(ids))


async def test_abandoned_and_broken_jobs_have_causes_too(web: WebScene) -> None:
    caretaker = web.heart.new_caretaker(abandoned_limit=1)
    await web.submit()
    actor: Actor = await web.heart.worker()
    await actor.take()
    web.heart.silence(actor)
    await web.heart.recover(caretaker)
    broken = await web.submit()
    web.heart.redis.hset(f"rq:job:{broken}", "timeout", "abc")
    await (await web.heart.worker()).claim()
    await caretaker.aclose()

    classes = {group["error"]["class"] for group in await groups(web)}

    assert classes == {"AbandonedJobError", "BrokenRecord"}


async def test_causes_that_were_cleared_are_remembered_in_bounds(web: WebScene) -> None:
    now_us = web.heart.now_ms() * 1000
    old = {f"{number:016x}": now_us - 10**6 + number for number in range(1000)}
    web.heart.redis.zadd("rq:recado:cleared", old)
    web.heart.redis.hset(f"rq:recado:failure:{0:016x}", "first", 1)
    (job_id,) = await fail(web, "a")

    await retry(web, job_id)

    assert web.heart.redis.zcard("rq:recado:cleared") == 1000
    assert web.heart.redis.exists(f"rq:recado:failure:{0:016x}") == 0
