"""Operations that get in each other's way, and in that of an operator who does one job by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.http_doubles import bearer, key
from tests.test_operations import ALL, Stage, new_stage
from tests.web_scene import web_scene_on


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with new_stage(redis_url) as stage:
        yield stage


async def run_in_turns(stage: Stage, *operations: str) -> None:
    """A step of each, as workers beside each other would, until all have ended."""
    going = [*operations]
    while going:
        going = [each for each in going if await stage.run(each) is not None]


async def counts(stage: Stage, operation: str) -> tuple[str, int, int, int]:
    shown = await stage.operation(operation)
    return shown["state"], shown["done"], shown["failed"], shown["skipped"]


async def test_two_operators_retry_overlapping_selections_and_each_job_goes_once(
    stage: Stage,
) -> None:
    ids = await stage.fail(*["a"] * 40, tags={"shop": "1"})
    ids += await stage.fail(*["a"] * 30)
    first = await stage.start(tag="shop:1")
    second = await stage.start(**ALL)

    await run_in_turns(stage, first, second)

    one, other = await counts(stage, first), await counts(stage, second)
    assert one[1] + other[1] == 70
    assert (one[1] + one[3], other[1] + other[3]) == (40, 70)
    assert sorted(stage.web.heart.queued()) == sorted(ids)
    assert [stage.web.heart.trail(each).count("queued") for each in ids] == [2] * 70


async def test_what_is_retried_is_not_discarded_by_another_who_comes_later(stage: Stage) -> None:
    ids = await stage.fail(*["a"] * 70)
    retrying = await stage.start(**ALL, pace=1)
    discarding = await stage.start("discard", **ALL)
    await stage.run(retrying)

    await stage.run(discarding)
    await stage.post(f"operations/{retrying}/stop")

    assert (await counts(stage, discarding)) == ("finished", 69, 0, 1)
    assert stage.web.heart.queued() == [ids[0]]
    assert stage.web.heart.members("failed") == []
    assert stage.statuses(ids) == ["queued", *[None] * 69]


async def test_selection_may_be_used_again_and_hits_what_is_left_of_it(stage: Stage) -> None:
    ids = await stage.fail("a", "b")
    fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]
    token = (await stage.preview(**ALL))["selection"]
    await stage.run(await stage.start("discard", fingerprint=fingerprint))
    later = await stage.fail("a")

    again = await stage.start(selection=token)
    await stage.run(again)

    assert (await counts(stage, again)) == ("finished", 1, 0, 1)
    assert stage.statuses([*ids, *later]) == [None, "queued", "failed"]


async def test_selection_that_is_no_longer_kept_begins_nothing(stage: Stage) -> None:
    ids = await stage.fail("a")
    token = (await stage.preview(**ALL))["selection"]
    seconds = stage.web.heart.redis.ttl(f"rq:recado:selection:{token}")
    stage.web.heart.redis.delete(f"rq:recado:selection:{token}")

    answers = [
        await stage.post(f"failures/{action}", {"selection": token})
        for action in ("retry", "discard")
    ]

    assert 3500 < seconds <= 3600
    assert [each.status_code for each in answers] == [422, 422]
    assert stage.statuses(ids) == ["failed"]
    assert (await stage.web.client.get("/v1/operations")).json()["data"] == []


async def test_selection_of_another_key_is_good_and_the_act_names_who_used_it(
    redis_url: str,
) -> None:
    async with web_scene_on(redis_url, key("ann", "operate"), key("ben", "operate")) as web:
        ask = web.client.post
        found = await ask("/v1/failures/preview", json=ALL, headers=bearer("ann"))
        token = {"selection": found.json()["selection"]}
        started = await ask("/v1/failures/retry", json=token, headers=bearer("ben"))
        acts = await web.client.get("/v1/audit", headers=bearer("ann"))

    assert started.json()["created_by"] == "ben"
    assert [each["key"] for each in acts.json()["data"]] == ["ben"]


async def test_job_that_was_edited_and_retried_by_hand_is_left_alone(stage: Stage) -> None:
    ids = await stage.fail("a", "a", "a")
    token = (await stage.preview(**ALL))["selection"]
    options = {"priority": "high", "tags": {"by": "hand"}}
    edited = await stage.post(f"jobs/{ids[1]}/retry", {"options": options})
    await stage.end(1, message="a")

    operation = await stage.start(selection=token)
    await stage.run(operation)

    assert edited.status_code == 202
    assert (await counts(stage, operation)) == ("finished", 2, 0, 1)
    assert stage.statuses(ids) == ["queued", "failed", "queued"]


async def test_cause_that_was_discarded_and_comes_back_says_so(stage: Stage) -> None:
    await stage.fail("a", "a")
    await stage.run(await stage.start("discard", **ALL))
    cleared = (await stage.web.client.get("/v1/failures")).json()["data"]

    (again,) = await stage.fail("a")

    (group,) = (await stage.web.client.get("/v1/failures")).json()["data"]
    assert cleared == []
    assert (group["state"], group["count"], group["samples"]) == ("regressed", 1, [again])


async def test_canary_that_another_operation_takes_up_stops_nothing(stage: Stage) -> None:
    ids = await stage.fail("a", "a")
    careful = await stage.start(**ALL, canary=True)
    await stage.run(careful)
    await stage.end(1, message="quite different")
    other = await stage.start(**ALL)
    await stage.run(other)

    await stage.run(careful)

    assert (await counts(stage, other))[:2] == ("finished", 2)
    assert (await counts(stage, careful))[0] in {"running", "finished"}
    assert stage.statuses(ids) == ["queued", "queued"]


async def test_paused_operation_that_hears_of_its_cause_ends_when_it_is_resumed(
    stage: Stage,
) -> None:
    ids = await stage.fail("a", "a")
    operation = await stage.start(**ALL, canary=True)
    await stage.run(operation)
    await stage.post(f"operations/{operation}/pause")
    await stage.end(1, message="a")
    await stage.run(operation)
    paused = (await stage.operation(operation))["state"]

    await stage.post(f"operations/{operation}/resume")
    await stage.run(operation)

    shown = await stage.operation(operation)
    assert (paused, shown["state"], shown["done"]) == ("paused", "stopped", 1)
    assert stage.statuses(ids) == ["failed", "failed"]


async def test_workers_that_die_while_it_is_paused_do_not_end_it(stage: Stage) -> None:
    ids = await stage.fail("a")
    operation = await stage.start(**ALL)
    await stage.post(f"operations/{operation}/pause")
    caretaker = stage.web.heart.new_caretaker(abandoned_limit=3)
    for _ in range(2):
        worker = await stage.web.heart.worker("operations")
        await worker.take()
        stage.web.heart.silence(worker)
        await stage.web.heart.recover(caretaker)
    await caretaker.aclose()

    await stage.post(f"operations/{operation}/resume")
    await stage.run(operation)

    assert (await stage.operation(operation))["state"] == "finished"
    assert stage.statuses(ids) == ["queued"]
