"""Lists tell what a look at each job would, and cost no more than what they show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests.web_scene import NOTE, WebScene, web_scene_on

REACH, LOOKED_AT = 1000, 1000


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url, most_queued=10_000) as scene:
        yield scene


async def page(web: WebScene, **query: Any) -> dict[str, Any]:
    response = await web.client.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def test_list_tells_positions_as_the_job_does(web: WebScene) -> None:
    high = [await web.submit(priority="high") for _ in range(2)]
    plain = [await web.submit() for _ in range(3)]
    await web.submit(delay=60)
    alone = (await web.post("/v1/jobs", NOTE | {"options": {"priority": "low"}})).json()["id"]

    listed = {each["id"]: each["position"] for each in (await page(web))["data"]}

    expected = dict(zip([*high, *plain, alone], range(1, 7), strict=True))
    assert {job_id: at for job_id, at in listed.items() if at is not None} == expected
    for job_id, position in listed.items():
        assert (await web.job(job_id))["position"] == position


async def test_rate_of_the_last_minutes_makes_an_estimate_in_lists_too(web: WebScene) -> None:
    actor = await web.heart.worker()  # at first: where nobody works nothing is estimated
    first, second = await web.submit(), await web.submit()
    await actor.finish((await actor.claim(coroutines=1)).jobs[0])
    third = await web.submit()

    listed = {each["id"]: each["eta_seconds"] for each in (await page(web))["data"]}

    assert listed[first] is None
    # One left in the last minute: the next one will in a minute, and the second in two.
    assert listed[second] >= 60
    assert listed[third] == pytest.approx(2 * listed[second], abs=0.1)


async def test_who_waits_far_back_is_not_counted(web: WebScene) -> None:
    await web.heart.submit_many(REACH - 1)
    last, beyond = await web.submit(), await web.submit()

    listed = {each["id"]: each["position"] for each in (await page(web, limit=2))["data"]}

    assert listed == {last: REACH, beyond: None}
    assert (await web.job(beyond))["position"] == REACH + 1


def mark_finished(web: WebScene, ids: Iterable[str]) -> None:
    """In their records alone: which jobs are queued is seen nowhere else."""
    with web.heart.redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hset(f"rq:job:{job_id}", "status", "finished")
        pipeline.execute()


async def test_page_looks_at_so_many_records_and_no_more(web: WebScene) -> None:
    oldest = await web.heart.submit_many(2)
    mark_finished(web, await web.heart.submit_many(LOOKED_AT))

    first = await page(web, status="queued")
    second = await page(web, status="queued", cursor=first["next_cursor"])

    assert first["data"] == []
    assert first["next_cursor"] is not None
    assert [each["id"] for each in second["data"]] == sorted(oldest, reverse=True)


async def test_short_page_goes_on_where_it_stopped(web: WebScene) -> None:
    ids = await web.heart.submit_many(LOOKED_AT + 50)
    wanted = sorted(ids)[::210]
    mark_finished(web, set(ids).difference(wanted))

    found: list[str] = []
    sizes = []
    cursor: dict[str, str] = {}
    while True:
        shown = await page(web, status="queued", limit=10, **cursor)
        found += [each["id"] for each in shown["data"]]
        sizes.append(len(shown["data"]))
        if shown["next_cursor"] is None:
            break
        cursor = {"cursor": shown["next_cursor"]}

    assert found == sorted(wanted, reverse=True)
    assert sizes[0] < len(wanted)
