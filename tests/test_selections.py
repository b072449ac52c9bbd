"""What a filter finds among failed jobs, held against each job's own record."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from app.queue import selecting
from app.queue.calling import run_script
from app.queue.outcomes import Ended, outcome_of
from app.queue.retry import Failure
from tests.stock import stock_on
from tests.test_operations import LIMITS, Stage, new_stage
from tests.web_scene import NOTE

ALL = {"status": "failed"}
TAGS: tuple[dict[str, str], ...] = ({"shop": "1"}, {"shop": "1", "part": "a:b"}, {"shop": "2"}, {})


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with new_stage(redis_url) as stage:
        yield stage


async def fail_many_kinds(stage: Stage) -> list[dict[str, Any]]:
    """Some of each priority, tag, code and cause, and a batch; as they are shown."""
    priorities = ("default", "high", "low")
    for number, (priority, tags) in enumerate(itertools.product(priorities, TAGS)):
        await stage.web.submit(priority=priority, tags=tags)
        await stage.end(1, message="a" if number % 2 else "b", code=("x", "y.z", "ü ü")[number % 3])
    await stage.web.post("/v1/batches", {"jobs": [NOTE, NOTE]})
    await stage.end(2, message="a")
    listed = await stage.web.client.get("/v1/jobs?status=failed&limit=200")
    jobs: list[dict[str, Any]] = listed.json()["data"]
    assert len(jobs) == 14
    return jobs


def is_meant(job: dict[str, Any], wanted: dict[str, str]) -> bool:
    tag, _, value = wanted.get("tag", "").partition(":")
    checks = {
        "status": True,
        "type": job["type"] == wanted.get("type"),
        "queue": job["queue"] == wanted.get("queue"),
        "error": job["error"]["code"] == wanted.get("error"),
        "fingerprint": job["error"]["fingerprint"] == wanted.get("fingerprint"),
        "tag": job["tags"].get(tag) == value,
        "batch_id": job["batch_id"] == wanted.get("batch_id"),
        "created_after": job["created_at"] >= wanted.get("created_after", ""),
        "created_before": job["created_at"] < wanted.get("created_before", ""),
    }
    return all(checks[name] for name in wanted)


async def test_every_pair_of_filters_finds_what_the_records_say(stage: Stage) -> None:
    jobs = await fail_many_kinds(stage)
    middle = sorted(job["created_at"] for job in jobs)[7]
    filters = [
        {"status": "failed"}, {"type": "test.note"}, {"type": "log.write"},
        {"queue": "default"}, {"queue": "default.high"}, {"queue": "email"},
        {"error": "x"}, {"error": "y.z"}, {"error": "ü ü"}, {"error": "y"},
        {"fingerprint": jobs[0]["error"]["fingerprint"]},
        {"fingerprint": jobs[-1]["error"]["fingerprint"]},
        {"tag": "shop:1"}, {"tag": "part:a:b"}, {"tag": "part:a"}, {"tag": "shop:"},
        {"batch_id": jobs[0]["batch_id"]}, {"batch_id": "f" * 35},
        {"created_after": middle}, {"created_before": middle},
        {"created_after": "2020-01-01T00:00:00Z"}, {"created_before": "2020-01-01T00:00:00Z"},
    ]  # fmt: skip

    counted = [0, 0]
    for one, other in itertools.combinations(filters, 2):
        wanted = one | other
        shown = await stage.preview(**wanted)
        expected = {job["id"] for job in jobs if is_meant(job, wanted)}
        assert shown["count"] == len(expected), wanted
        assert set(shown["sample"]) <= expected, wanted
        assert len(shown["sample"]) == min(10, len(expected)), wanted
        counted[bool(expected)] += 1
    # Both answers were among them.
    assert min(counted) > 20


async def test_operation_hits_what_the_preview_counted(stage: Stage) -> None:
    jobs = await fail_many_kinds(stage)
    wanted = {"tag": "shop:1", "error": "x", "queue": "default"}
    expected = {job["id"] for job in jobs if is_meant(job, wanted)}

    operation = await stage.start("discard", **wanted)
    await stage.run(operation)

    left = (await stage.web.client.get("/v1/jobs?status=failed&limit=200")).json()["data"]
    assert expected
    assert {job["id"] for job in jobs} - {job["id"] for job in left} == expected
    assert (await stage.operation(operation))["skipped"] == 0


@pytest.mark.parametrize("wanted", [{"error": "refused"}, {"queue": "default"}, ALL], ids=str)
async def test_what_stock_producers_made_is_found_among_ours(
    stage: Stage, wanted: dict[str, str]
) -> None:
    ids = await stage.fail("a")
    with stock_on(stage.web.heart.url) as stock:
        ids += [stock.enqueue("test.note", {}).id]
    await stage.end(1, message="a")

    shown = await stage.preview(**wanted)

    assert (shown["count"], sorted(shown["sample"])) == (2, sorted(ids))


@pytest.mark.parametrize("wanted", [{"error": "refused"}, {"tag": "shop:1"}, ALL], ids=str)
async def test_what_fails_while_it_is_counted_is_not_counted(
    stage: Stage, wanted: dict[str, str]
) -> None:
    first, _ = await stage.fail("a", "a", tags={"shop": "1"})
    # The second failed after the moment that this preview is about.
    stage.web.heart.redis.set("rq:recado:failed_seq", 1)

    shown = await stage.preview(**wanted)

    assert (shown["count"], shown["sample"]) == (1, [first])


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"tag": "shop:1"}, 11_000), ({"tag": "shop:2"}, 50), ({"error": "refused"}, 10_501),
        ({"tag": "shop:1", "error": "refused"}, 10_500), ({"queue": "default"}, 10_900),
        ({"tag": "shop:2", "queue": "default"}, 49), (ALL, 11_001),
    ],
    ids=str,
)  # fmt: skip
async def test_large_causes_are_counted_to_the_last_job(
    stage: Stage, wanted: dict[str, str], count: int
) -> None:
    (job_id,) = await stage.fail("a")
    fingerprint = (await stage.web.job(job_id))["error"]["fingerprint"]
    ids = [f"{number:013x}{'0' * 22}" for number in range(11_000)]
    store = stage.web.heart.redis
    store.zadd(
        f"rq:recado:failure:{fingerprint}:jobs", dict(zip(ids, range(2, 11_002), strict=True))
    )
    store.set("rq:recado:failed_seq", 11_001)
    # They are not all of one queue and one code.
    store.hdel(f"rq:recado:failure:{fingerprint}", "only_queue", "only_code")
    for name, members in {
        "recado:i:tag:shop:1": ids, "recado:i:tag:shop:2": ids[::220],
        "recado:i:error:refused": ids[500:], "failed:default": ids[101:5000],
        "failed:default.high": ids[5000:9000], "failed:default.low": ids[9000:],
        "recado:i:status:failed": ids,
    }.items():  # fmt: skip
        store.zadd(f"rq:{name}", dict.fromkeys(members, 0))

    shown = await stage.preview(**wanted)

    assert shown["count"] == count
    assert len(shown["sample"]) == 10


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({"tag": "shop:1"}, 3000), ({"tag": "shop:2"}, 300), ({"queue": "default"}, 3000), ({}, 3000)],
    ids=str,
)
async def test_no_call_reads_thousands_of_records_near_a_bound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str], count: int
) -> None:
    (job_id,) = await stage.fail("a")
    job = await stage.web.job(job_id)
    store, fingerprint = stage.web.heart.redis, job["error"]["fingerprint"]
    made = int(job_id[:13], 16)
    ids = [f"{made + number:013x}{'0' * 22}" for number in range(3000)]
    jobs = dict(zip(ids, range(2, 3002), strict=True))
    store.zadd(f"rq:recado:failure:{fingerprint}:jobs", jobs)
    store.set("rq:recado:failed_seq", 3001)
    store.hdel(f"rq:recado:failure:{fingerprint}", "only_queue", "only_code")
    for name, members in {
        "recado:i:tag:shop:1": ids, "recado:i:tag:shop:2": ids[::10], "failed:default": ids,
        f"recado:i:fingerprint:{fingerprint}": ids,
    }.items():  # fmt: skip
        store.zadd(f"rq:{name}", dict.fromkeys(members, 0))
    with store.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hset(f"rq:job:{each}", "created_at", job["created_at"])
        pipeline.execute()
    reads = list[int]()

    async def counted(*arguments: Any) -> Any:
        before = store.info("commandstats").get("cmdstat_hget", {"calls": 0})["calls"]
        answer = await run_script(*arguments)
        reads.append(store.info("commandstats")["cmdstat_hget"]["calls"] - before)
        return answer

    monkeypatch.setattr(selecting, "run_script", counted)
    # The first job has no tag.
    first = not wanted or "queue" in wanted

    shown = await stage.preview(created_after=job["created_at"], **wanted)

    assert shown["count"] == count + first
    assert len(shown["sample"]) == 10
    assert max(reads) <= 1001


@pytest.mark.parametrize("name", ["queue", "error"])
async def test_cause_of_two_queues_or_codes_is_looked_through(stage: Stage, name: str) -> None:
    heart = stage.web.heart
    actor = await heart.worker("default", "other")
    found: dict[str, list[str]] = {"default": [], "other": []}
    for value in ("default", "other", "default"):
        job_id = await heart.submit(queue=value if name == "queue" else "default")
        code = value if name == "error" else "refused"
        assert await actor.fail(await actor.take(), "a", code=code) == "done"
        found[value].append(job_id)

    shown = {value: await stage.preview(**{name: value}) for value in found}
    alone = await stage.preview(fingerprint=(await stage.web.job(job_id))["error"]["fingerprint"])

    assert {value: sorted(each["sample"]) for value, each in shown.items()} == found
    assert alone["count"] == 3


async def test_all_of_one_queue_and_code_are_counted_without_a_look_at_each(stage: Stage) -> None:
    ids = await stage.fail("a", "a", "b")
    stage.web.heart.redis.config_resetstat()

    shown = await stage.preview(queue="default", error="refused")
    others = await stage.preview(queue="email", error="refused")

    calls = stage.web.heart.redis.info("commandstats")
    assert (shown["count"], sorted(shown["sample"]), others["count"]) == (3, sorted(ids), 0)
    assert not [each for each in calls if each.startswith(("cmdstat_eval", "cmdstat_zinter"))]


@pytest.mark.parametrize(
    "wanted", [{}, {"error": "refused"}, {"tag": "shop:1"}, {"fingerprint": ""}], ids=str
)
async def test_what_stock_tools_took_up_is_not_counted_by_queue(
    stage: Stage, wanted: dict[str, str]
) -> None:
    """Upkeep tells their cause, a while later."""
    *taken, kept = await stage.fail("a", "a", "a", "a", tags={"shop": "1"})
    if "fingerprint" in wanted:
        wanted = {"fingerprint": (await stage.web.job(kept))["error"]["fingerprint"]}
    with stock_on(stage.web.heart.url) as stock:
        for each in taken:
            stock.failed().requeue(each)

    shown = await stage.preview(queue="default", **wanted)

    assert (shown["count"], shown["sample"]) == (1, [kept])


async def stop_a_run(stage: Stage) -> None:
    job_id = await stage.web.submit()
    actor = await stage.web.heart.worker()
    claimed = await actor.take()
    await stage.post(f"jobs/{job_id}/cancel")
    await actor.retry(claimed, 60)
    assert stage.web.heart.status(job_id) == "stopped"


async def fail_in_two_queues(stage: Stage) -> None:
    actor = await stage.web.heart.worker("default", "other")
    for queue in ("default", "other"):
        await stage.web.heart.submit(queue=queue)
        assert await actor.fail(await actor.take(), "of two queues") == "done"


@pytest.mark.parametrize(("beside", "count"), [(stop_a_run, 2), (fail_in_two_queues, 3)])
async def test_what_else_is_in_the_registries_costs_no_look_at_each(
    stage: Stage, beside: Callable[[Stage], Awaitable[None]], count: int
) -> None:
    ids = await stage.fail("a", "a")
    await beside(stage)
    stage.web.heart.redis.config_resetstat()

    whole = await stage.preview(queue="default")
    alone = await stage.preview(
        queue="default", fingerprint=(await stage.web.job(ids[0]))["error"]["fingerprint"]
    )

    calls = stage.web.heart.redis.info("commandstats")
    looks = [each for each in calls if each in {"cmdstat_evalsha", "cmdstat_eval"}]
    assert (whole["count"], alone["count"]) == (count, 2)
    # Only the cause of two queues is looked through.
    assert bool(looks) == (count == 3)


async def test_job_that_an_older_worker_entered_is_looked_at(stage: Stage) -> None:
    """It adds jobs to causes of newer ones, and does not tell what they have in common."""
    heart = stage.web.heart
    actor = await heart.worker("default", "other")
    ids, shown = list[str](), list[list[int]]()
    for queue, code in (("default", "refused"), ("other", "y"), ("default", "refused")):
        ids.append(await heart.submit(queue=queue))
        key = next(iter(heart.redis.keys("rq:recado:failure:????????????????")), b"")
        before = heart.redis.hgetall(key)
        assert await actor.fail(await actor.take(), "a", code=code) == "done"
        if queue == "other":
            heart.redis.delete(key)
            heart.redis.hset(key, mapping=before)
        shown.append([
            (await stage.preview(**each))["count"]
            for each in ({"queue": "default"}, {"queue": "other"}, {"error": "y"})
        ])  # fmt: skip

    assert shown == [[1, 0, 0], [1, 1, 1], [2, 1, 1]]


async def test_what_waits_for_another_attempt_is_not_counted_by_time(stage: Stage) -> None:
    """It stands in the list of the cause beside those that have failed."""
    (job_id,) = await stage.fail("a")
    await stage.web.submit(max_attempts=5)
    actor = await stage.web.heart.worker()
    failure = Failure("refused", "a", "PermanentError", retryable=True)
    outcome = outcome_of(await actor.take(), Ended("error", failure=failure), LIMITS, lambda: 0.5)
    assert outcome is not None
    await actor.transitions.end(replace(outcome, kind="retry", delay_seconds=60.0))

    shown = await stage.preview(created_after="2020-01-01T00:00:00Z")

    fingerprint = (await stage.web.job(job_id))["error"]["fingerprint"]
    assert stage.web.heart.redis.zcard(f"rq:recado:i:fingerprint:{fingerprint}") == 2
    assert (shown["count"], shown["sample"]) == (1, [job_id])


async def test_time_decides_by_records_only_near_its_bounds(stage: Stage) -> None:
    """A web process's clock may differ from Redis's, and ids are of the former."""
    ids = await stage.fail(*"aaaa")
    store = stage.web.heart.redis
    fingerprint = (await stage.web.job(ids[0]))["error"]["fingerprint"]
    made = (
        "2026-01-01T00:00:00",
        "2026-01-02T00:00:00",
        "2026-01-02T00:04:00",
        "2026-01-03T00:00:00",
    )
    for job_id, at in zip(ids, made, strict=True):
        # One that says another time than its record does, by less than what clocks may differ.
        us = int(datetime.fromisoformat(f"{at}+00:00").timestamp() * 1e6) + 100 * 10**6
        moved = f"{us:013x}{job_id[13:]}"
        store.rename(f"rq:job:{job_id}", f"rq:job:{moved}")
        store.hset(f"rq:job:{moved}", "created_at", f"{at}.000000Z")
        for key in (
            f"rq:recado:failure:{fingerprint}:jobs",
            f"rq:recado:i:fingerprint:{fingerprint}",
        ):
            store.zadd(key, {moved: store.zscore(key, job_id)})
            store.zrem(key, job_id)
    bounds = {
        (None, "2026-01-02T00:00:00Z"): 1, ("2026-01-02T00:00:00Z", None): 3,
        ("2026-01-02T00:01:00Z", None): 2, ("2026-01-02T00:00:00Z", "2026-01-02T00:04:00Z"): 1,
        ("2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z"): 2, ("2026-01-04T00:00:00Z", None): 0,
    }  # fmt: skip

    counts = [
        (await stage.preview(created_after=after, created_before=before))["count"]
        for after, before in bounds
    ]

    assert counts == list(bounds.values())


@pytest.mark.parametrize(
    "key", ["rq:recado:i:tag:shop:1", "rq:failed:default", "rq:recado:i:error:refused"]
)
async def test_key_that_is_something_else_costs_only_itself(stage: Stage, key: str) -> None:
    (job_id,) = await stage.fail("a", tags={"shop": "1"})
    stage.web.heart.redis.delete(key)
    stage.web.heart.redis.set(key, "no set")

    previews = [
        await stage.preview(**wanted)
        for wanted in ({"created_after": "2020-01-01T00:00:00Z"}, {"tag": "shop:1"}, ALL)
    ]

    assert [job_id] in [each["sample"] for each in previews]


@pytest.mark.parametrize(
    "spoilt", [b"no JSON", b"\xff", b"[1]", b"3", b'{"fingerprint": [1]}'], ids=repr
)
async def test_spoilt_note_of_a_job_leaves_the_rest_of_its_batch(
    stage: Stage, spoilt: bytes
) -> None:
    made = await stage.web.post("/v1/batches", {"jobs": [NOTE, NOTE]})
    await stage.end(2, message="a")
    first, second = stage.web.heart.members("failed")
    stage.web.heart.redis.hset("rq:recado:errors", first, spoilt)

    shown = await stage.preview(batch_id=made.json()["id"])

    assert (shown["count"], shown["sample"]) == (1, [second])


HOSTILE = ("' OR 1=1", "*", "rq:job:*", "a\nb", "\\", "%s", "ü" * 400, "]]return 1", "0" * 17)


@pytest.mark.parametrize("name", ["fingerprint", "type", "queue", "error", "batch_id"])
async def test_hostile_words_find_nothing_and_harm_nothing(stage: Stage, name: str) -> None:
    ids = await stage.fail("a")

    for hostile in HOSTILE:
        shown = await stage.preview(**{name: hostile})
        operation = await stage.start("discard", **{name: hostile})
        await stage.run(operation)

        assert (shown["count"], shown["sample"]) == (0, []), hostile
        assert (await stage.operation(operation))["state"] == "finished", hostile
    assert stage.statuses(ids) == ["failed"]


async def test_small_cause_before_one_that_takes_pieces_leaves_whole_looks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cause that sets can count takes parts of a look; the next one's are whole again."""
    monkeypatch.setattr(selecting, "_LOOKS", 500)
    ids = await stage.fail("by its records", "at once")
    stage.web.heart.redis.zrem("rq:recado:i:status:failed", ids[0])

    shown = await stage.preview(error="refused")

    assert (shown["count"], sorted(shown["sample"])) == (2, sorted(ids))
