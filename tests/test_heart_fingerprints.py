"""Failed jobs are found by their fingerprint for as long as it is theirs, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.queue.claimed import read_call
from app.queue.fingerprints import fingerprint
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.retry import Failure
from jobs import catalog
from tests.harness import JOB_MODULES, draft, service, wait_until_ended
from tests.harness import submit as submit_all
from tests.heart_scene import Actor, Scene
from tests.web_scene import NOTE, WebScene, web_scene_on

LISTS = "rq:recado:i:fingerprint:*"


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


async def end(actor: Actor, message: str, *, delay: float | None = None, code: str = "c") -> str:
    """The next job's run ends with an error, and another attempt in `delay` seconds."""
    claimed = await actor.take()
    call = read_call(claimed, catalog.load([JOB_MODULES]))
    failure = Failure(code, message, "ValueError", delay is not None, delay_seconds=delay)
    ended = Ended("error", failure=failure, call=call)
    outcome = outcome_of(claimed, ended, Limits(5, 3600, 3600), lambda: 0.5)
    assert outcome is not None
    assert await actor.transitions.end(outcome) == "done"
    return claimed.id


async def found(web: WebScene, **query: str) -> list[str]:
    response = await web.client.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["data"]]


def lists(scene: Scene) -> dict[str, list[str]]:
    prefix = len(LISTS) - 1
    return {key[prefix:]: scene.redis.zrange(key, 0, -1) for key in scene.redis.keys(LISTS)}


async def test_alike_failures_are_one_list(web: WebScene) -> None:
    actor = await web.heart.worker()
    ids = []
    for message in ("no user 1", "no user 2222", "another cause", "no user 333333"):
        await web.submit()
        ids.append(await end(actor, message))

    errors = [(await web.job(each))["error"] for each in ids]
    alike = errors[0]["fingerprint"]
    assert [each["fingerprint"] == alike for each in errors] == [True, True, False, True]
    assert alike == fingerprint("test.note", "ValueError", "no user 4", "tests.job_types:note")
    expected = [ids[3], ids[1], ids[0]]
    assert await found(web, fingerprint=alike) == expected
    assert await found(web, fingerprint=alike, status="failed", type="test.note") == expected
    assert await found(web, fingerprint=alike, status="finished") == []
    assert await found(web, fingerprint="0" * 16) == []
    assert await found(web, fingerprint="no fingerprint: of ours") == []
    attempt = (await web.job(ids[0]))["attempts"][0]
    assert attempt["error"]["fingerprint"] == alike


async def test_job_that_is_tried_again_is_found_by_its_last_error(web: WebScene) -> None:
    actor = await web.heart.worker()
    job_id = await web.submit()
    await end(actor, "first", delay=0)
    (first,) = lists(web.heart)
    await end(actor, "second", delay=0)
    (second,) = lists(web.heart)

    assert first != second
    assert lists(web.heart) == {second: [job_id]}
    assert await found(web, fingerprint=first) == []
    assert await found(web, fingerprint=second) == [job_id]
    job = await web.job(job_id)
    assert [each["error"]["fingerprint"] for each in job["attempts"]] == [first, second]


async def test_job_that_finished_after_all_costs_the_list_nothing(web: WebScene) -> None:
    actor = await web.heart.worker()
    job_id = await web.submit()
    await end(actor, "first", delay=0)
    assert len(web.heart.redis.keys("rq:recado:i:error:*")) == 1

    await actor.finish(await actor.take())

    assert (await web.job(job_id))["error"] is None
    assert lists(web.heart) == {}
    assert web.heart.redis.keys("rq:recado:i:error:*") == []


async def test_deleted_job_leaves_the_list(web: WebScene) -> None:
    actor = await web.heart.worker()
    for _ in range(2):
        await web.submit()
        job_id = await end(actor, "alike")

    assert (await web.client.delete(f"/v1/jobs/{job_id}")).status_code == 204

    (left,) = lists(web.heart).values()
    assert len(left) == 1
    assert job_id not in left


async def test_stale_entries_are_repaired_by_who_finds_them(web: WebScene) -> None:
    actor = await web.heart.worker()
    ids = []
    for _ in range(2):
        await web.submit(tags={"a": "b"})
        ids.append(await end(actor, "alike"))
    (word,) = lists(web.heart)
    # By stock tools: one is requeued and finishes elsewhere, the other's record is deleted.
    web.heart.redis.hset(f"rq:job:{ids[0]}", "status", "finished")
    web.heart.redis.delete(f"rq:job:{ids[1]}")

    assert await found(web, fingerprint=word) == []
    assert await found(web, tag="a:b") == [ids[0]]

    assert lists(web.heart) == {}
    assert web.heart.redis.zrange("rq:recado:i:tag:a:b", 0, -1) == [ids[0]]


async def test_failures_that_no_run_has_told_have_one_too(web: WebScene) -> None:
    heart = web.heart
    abandoned, broken = await web.submit(), await web.submit(priority="low")
    heart.redis.hset(f"rq:job:{broken}", "x_failures", "many")
    silent = await heart.worker("default")
    await silent.take()
    heart.silence(silent)
    strict = heart.new_caretaker(abandoned_limit=1)
    await heart.recover(strict)
    await strict.aclose()
    assert (await (await heart.worker("default.low")).claim()).broken == [broken]

    errors = [(await web.job(each))["error"] for each in (abandoned, broken)]

    assert [each["code"] for each in errors] == ["abandoned", "broken_record"]
    told = errors[0]
    assert told["fingerprint"] == fingerprint("test.note", told["class"], told["message"], "")
    for job_id, error in zip((abandoned, broken), errors, strict=True):
        assert await found(web, fingerprint=error["fingerprint"]) == [job_id]


async def test_word_that_a_job_makes_up_does_not_name_a_list_of_any_length(web: WebScene) -> None:
    actor = await web.heart.worker()
    await web.submit()
    await end(actor, "m", code="c" * 5000)

    names = web.heart.redis.keys("rq:recado:i:*")
    assert max(map(len, names)) < 600
    assert await found(web, status="failed") != []


def test_place_of_the_failure_counts_wherever_the_job_runs(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        drafts = [
            draft(name, **params)
            for name in ("test.refuse", "test.refuse_process")
            for params in ({"size": 1}, {"size": 22}, {"message": "never 4"})
        ]
        timed_out = replace(draft("test.wait", gate="never"), timeout_seconds=0.2, max_attempts=1)
        jobs = wait_until_ended(running.url, *submit_all(running.url, *drafts, timed_out))

    errors = [job.error for job in jobs if job.error is not None]
    assert len(errors) == 7
    for (one, other, elsewhere), name, function in (
        (errors[:3], "test.refuse", "refuse_here"),
        (errors[3:6], "test.refuse_process", "refuse_in_process"),
    ):
        expected = fingerprint(name, "ValueError", "never 5", "tests.job_types:refuse")
        assert one.fingerprint == other.fingerprint == expected
        assert elsewhere.fingerprint == fingerprint(
            name, "ValueError", "never 5", f"tests.job_types:{function}"
        )
    assert errors[6].fingerprint == fingerprint(
        "test.wait", "JobTimeout", errors[6].message, "tests.job_types:wait"
    )


async def test_filters_together_find_what_fits_all_of_them(web: WebScene) -> None:
    """What drives the query is the smallest list, and what decides is the record."""
    actor = await web.heart.worker()
    for tags in ({"size": "few"}, {}, {}):
        await web.post("/v1/jobs", NOTE | {"options": {"tags": tags}})
        await end(actor, "alike")
    (word,) = lists(web.heart)

    assert len(await found(web, fingerprint=word, tag="size:few")) == 1
    assert len(await found(web, fingerprint=word)) == 3
