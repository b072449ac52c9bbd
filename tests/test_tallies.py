"""How many failed jobs of a cause have a tag: right whoever fails them or takes them out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.queue import selecting
from tests.stock import stock_on
from tests.test_operations import ALL, Stage, new_stage

TAGS: tuple[dict[str, str], ...] = ({"shop": "1"}, {"shop": "1", "part": "a:b"}, {"shop": "2"}, {})
SOUGHT = ("shop:1", "shop:2", "shop:3", "part:a:b")
# Looks at members of a set one by one.
LOOKS = {"cmdstat_zintercard", "cmdstat_zinter"}
RECOUNT_AT = "rq:recado:recount_at"


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with new_stage(redis_url) as stage:
        yield stage


async def fail_some(stage: Stage, count: int = 8) -> list[str]:
    """So many of each of two causes."""
    ids = []
    for number in range(2 * count):
        message = "ab"[number % 2]
        ids += await stage.fail(message, tags=TAGS[number // 2 % len(TAGS)])
    return ids


def tally_keys(stage: Stage) -> list[str]:
    return sorted(stage.web.heart.redis.keys("rq:recado:failure:*:tags"))


def tallies(stage: Stage) -> dict[str, dict[str, int]]:
    """By cause, as they are kept."""
    store = stage.web.heart.redis
    return {
        key.split(":")[3]: {
            name: int(count) for name, count in store.hgetall(key).items() if name != "upto"
        }
        for key in tally_keys(stage)
    }


def counted(stage: Stage) -> dict[str, dict[str, int]]:
    """The same, job by job."""
    store, found = stage.web.heart.redis, dict[str, dict[str, int]]()
    for key in store.keys("rq:recado:failure:*:jobs"):
        ids = store.zrange(key, 0, -1)
        notes = [json.loads(each or "{}") for each in store.hmget("rq:recado:tags", ids)]
        tags = Counter(f"{name}:{value}" for note in notes for name, value in note.items())
        found[key.split(":")[3]] = {"jobs": len(ids), **tags}
    return found


def go_on_now(stage: Stage) -> None:
    """It is time for the next call of upkeep to count what is left."""
    store = stage.web.heart.redis
    note = store.get(RECOUNT_AT)
    if note is not None:
        store.set(RECOUNT_AT, "0:" + note.partition(":")[2], keepttl=True)


async def previewed(stage: Stage) -> dict[str, int]:
    found = {}
    for tag in SOUGHT:
        shown = await stage.preview(tag=tag)
        assert len(shown["sample"]) == min(10, shown["count"])
        found[tag] = shown["count"]
    return found


async def true_counts(stage: Stage) -> dict[str, int]:
    jobs = (await stage.web.client.get("/v1/jobs?status=failed&limit=200")).json()["data"]
    tags = Counter(f"{name}:{value}" for job in jobs for name, value in job["tags"].items())
    return {tag: tags[tag] for tag in SOUGHT}


def looks(stage: Stage) -> set[str]:
    return LOOKS & set(stage.web.heart.redis.info("commandstats"))


async def test_common_tag_is_counted_without_a_look_at_each(stage: Stage) -> None:
    await stage.fail(*"a" * 30, tags={"shop": "1"})
    await stage.fail(*"b" * 20, tags={"shop": "1", "part": "a"})
    await stage.fail("b", "c")
    stage.web.heart.redis.config_resetstat()

    common = await stage.preview(tag="shop:1")
    unknown = await stage.preview(tag="shop:2")
    timed = await stage.preview(tag="part:a", created_after="2020-01-01T00:00:00Z", error="refused")

    assert (common["count"], len(common["sample"]), unknown["count"]) == (50, 10, 0)
    assert (timed["count"], len(timed["sample"])) == (20, 10)
    assert looks(stage) == set()


def spread(stage: Stage, fingerprint: str, first: int) -> dict[str, str]:
    """A cause of 300 jobs, one made an hour; every third has a tag. The time of each."""
    store, made = stage.web.heart.redis, dict[str, str]()
    for number in range(300):
        us = first + number * 3600 * 10**6
        # The web process's clock is a minute ahead of Redis's.
        told = datetime.fromtimestamp(us / 1e6 - 60, UTC)
        made[f"{us:013x}{number:022x}"] = told.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    with store.pipeline(transaction=False) as pipeline:
        pipeline.delete(*store.keys(f"rq:recado:failure:{fingerprint}:*"))
        for number, (job_id, at) in enumerate(made.items()):
            pipeline.zadd(f"rq:recado:failure:{fingerprint}:jobs", {job_id: number + 1})
            pipeline.zadd(f"rq:recado:i:fingerprint:{fingerprint}", {job_id: 0})
            pipeline.hset(f"rq:job:{job_id}", "created_at", at)
        pipeline.zadd("rq:recado:i:tag:half:1", dict.fromkeys(list(made)[::3], 0))
        pipeline.set("rq:recado:failed_seq", 300)
        pipeline.execute()
    return made


@pytest.mark.parametrize("is_tallied", [True, False])
async def test_tag_and_time_are_counted_from_either_side(stage: Stage, is_tallied: bool) -> None:
    (job_id,) = await stage.fail("a")
    fingerprint = (await stage.web.job(job_id))["error"]["fingerprint"]
    await stage.web.client.delete(f"/v1/jobs/{job_id}")
    store = stage.web.heart.redis
    store.zadd("rq:recado:failures", {fingerprint: 1})
    made = spread(stage, fingerprint, 1_700_000_000 * 10**6)
    if is_tallied:
        facts = {"jobs": 300, "upto": 300, "half:1": 100}
        store.hset(f"rq:recado:failure:{fingerprint}:tags", mapping=facts)
    times = list(made.values())
    # At times of jobs, where their records decide, and beside them.
    bounds = [
        (None, None), (times[-1], None), (None, times[0]), (times[3], None), (times[250], None),
        (None, times[30]), (None, times[297]), (times[9], times[291]), (times[120], times[150]),
        ("2023-11-15T00:00:00Z", "2023-11-26T00:00:00Z"), ("2023-11-25T00:00:00Z", None),
    ]  # fmt: skip

    for after, before in bounds:
        shown = await stage.preview(tag="half:1", created_after=after, created_before=before)

        low, high = after or "", before or "3"
        expected = {each for each in list(made)[::3] if low <= made[each] < high}
        assert shown["count"] == len(expected), (after, before)
        assert set(shown["sample"]) <= expected, (after, before)
        assert len(shown["sample"]) == min(10, len(expected)), (after, before)


def ids_looked_for(stage: Stage) -> int:
    """In the sets of tags, by the log of slow commands, which shows 31 words of each."""
    found = 0
    for entry in stage.web.heart.redis.slowlog_get(10_000):
        words = entry["command"].decode().split(" ")
        if words[0] == "ZMSCORE" and ":tag:" in words[1]:
            more = re.search(r"\((\d+) more arguments\)", " ".join(words[-4:]))
            found += len(words) - 2 if more is None else 29 + int(more[1])
    return found


async def test_most_of_a_cause_is_told_by_the_rest(stage: Stage) -> None:
    (job_id,) = await stage.fail("a")
    fingerprint = (await stage.web.job(job_id))["error"]["fingerprint"]
    await stage.web.client.delete(f"/v1/jobs/{job_id}")
    store, looked_for = stage.web.heart.redis, list[int]()
    store.zadd("rq:recado:failures", {fingerprint: 1})
    store.config_set("slowlog-max-len", 10_000)
    made = list(spread(stage, fingerprint, 1_700_000_000 * 10**6).values())
    for jobs in (300, 299):
        facts = {"jobs": jobs, "upto": 300, "half:1": 100}
        store.hset(f"rq:recado:failure:{fingerprint}:tags", mapping=facts)
        store.config_set("slowlog-log-slower-than", 0)
        store.slowlog_reset()
        shown = await stage.preview(tag="half:1", created_before=made[290])
        store.config_set("slowlog-log-slower-than", -1)
        assert shown["count"] == 97
        looked_for.append(ids_looked_for(stage))

    assert 0 < looked_for[0] < 120
    # Where it is not known how many have the tag.
    assert looked_for[1] > 280


async def test_no_call_begins_a_cause_that_is_too_large_for_what_is_left(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await stage.fail("a", "b", "c")
    fingerprints = [(await stage.web.job(each))["error"]["fingerprint"] for each in ids]
    await stage.run(await stage.start("discard", **ALL))
    for day, fingerprint in enumerate(fingerprints):
        spread(stage, fingerprint, (1_700_000_000 + 86400 * 100 * day) * 10**6)
        stage.web.heart.redis.zadd("rq:recado:failures", {fingerprint: day})
    shown, calls = list[dict[str, Any]](), list[int]()
    # One takes 360 of them.
    for most in (500, 5000):
        monkeypatch.setattr(selecting, "_LOOKS", most)
        stage.web.heart.redis.config_resetstat()
        shown.append(await stage.preview(tag="half:1"))
        calls.append(stage.web.heart.redis.info("commandstats")["cmdstat_evalsha"]["calls"])

    assert [each["count"] for each in shown] == [300, 300]
    assert calls[0] - calls[1] == 2


async def test_rare_tag_is_shown_wherever_it_is(stage: Stage) -> None:
    rare = await stage.fail("a", "a", tags={"shop": "1"})
    await stage.fail(*"a" * 120, tags={"shop": "2"})

    shown = await stage.preview(tag="shop:1")

    assert (shown["count"], sorted(shown["sample"])) == (2, rare)


async def test_every_way_into_a_cause_and_out_of_it_is_counted(stage: Stage) -> None:
    ids = await fail_some(stage)
    steps = [tallies(stage) == counted(stage)]
    store = stage.web.heart.redis

    await stage.web.client.delete(f"/v1/jobs/{ids.pop()}")
    steps.append(tallies(stage) == counted(stage))
    # One comes back with other tags, and one as it was.
    for edited in ({"options": {"tags": {"shop": "3"}}}, None):
        await stage.post(f"jobs/{ids.pop()}/retry", edited)
        steps.append(tallies(stage) == counted(stage))
        await stage.end(1, message="a")
        steps.append(tallies(stage) == counted(stage))
    with stock_on(stage.web.heart.url) as stock:
        stock.failed().requeue(ids.pop())
        stock.failed().remove(ids[-1], delete_job=True)
    await stage.web.heart.recover()
    steps.append(tallies(stage) == counted(stage))
    store.zadd("rq:failed:default", {ids[0]: 1})
    await stage.web.heart.recover()
    steps.append(tallies(stage) == counted(stage))
    left = await previewed(stage), await true_counts(stage)
    for action, wanted in (("retry", {"tag": "shop:2"}), ("discard", {"tag": "shop:1"})):
        await stage.run(await stage.start(action, **wanted))
        steps.append(tallies(stage) == counted(stage))
    last = await previewed(stage), await true_counts(stage)
    await stage.run(await stage.start("discard", **ALL))

    assert left[0] == left[1]
    assert left[0]["shop:3"] == 1
    assert last[0] == last[1]
    assert steps == [True] * 10
    assert tally_keys(stage) == []


async def test_what_failed_before_tags_were_counted_is_found_and_counted_then(stage: Stage) -> None:
    await fail_some(stage)
    store = stage.web.heart.redis
    store.delete(*tally_keys(stage))
    found = [await previewed(stage)]
    await stage.fail("a", tags={"shop": "1"})
    found.append(await previewed(stage))

    await stage.web.heart.recover()

    mended = tallies(stage) == counted(stage)
    store.config_resetstat()
    found.append(await previewed(stage))
    expected = await true_counts(stage)
    before = expected | {"shop:1": expected["shop:1"] - 1}
    assert found == [before, expected, expected]
    assert (mended, looks(stage)) == (True, set())


async def test_what_older_releases_did_is_not_counted_wrong(stage: Stage) -> None:
    """They put jobs into causes, and take some out, and tell no tally of it."""
    # Enough to be shown: those that are rare are looked for.
    ids = await fail_some(stage, 24)
    store, (key, other) = stage.web.heart.redis, tally_keys(stage)

    def keep() -> dict[str, dict[str, str]]:
        return {each: store.hgetall(each) for each in (key, other)}

    def put_back(kept: dict[str, dict[str, str]]) -> None:
        for each, facts in kept.items():
            store.delete(each)
            store.hset(each, mapping=facts)

    found = []
    kept = keep()
    await stage.web.client.delete(f"/v1/jobs/{ids.pop(2)}")
    put_back(kept)
    found.append((await previewed(stage), await true_counts(stage)))
    # As many go as come.
    for job_id in ids[:2]:
        await stage.web.client.delete(f"/v1/jobs/{job_id}")
    await stage.fail("a", "b", tags={"shop": "3"})
    put_back(kept)
    found.append((await previewed(stage), await true_counts(stage)))
    # And then newer ones do the same.
    await stage.fail("a", "b", tags={"shop": "2"})
    await stage.web.client.delete(f"/v1/jobs/{ids[2]}")
    found.append((await previewed(stage), await true_counts(stage)))

    for _ in range(2):
        await stage.web.heart.recover()

    found.append((await previewed(stage), await true_counts(stage)))
    assert [shown for shown, _ in found] == [expected for _, expected in found]
    assert tallies(stage) == counted(stage)


async def test_tally_of_a_cause_that_an_older_release_ended_is_forgotten(stage: Stage) -> None:
    await stage.fail("a", "b", tags={"shop": "1"})
    store, (ended, other) = stage.web.heart.redis, tally_keys(stage)
    long = 400 * 86400
    made = [store.ttl(key) for key in (ended, other)]
    ids = store.zrange(ended.replace(":tags", ":jobs"), 0, -1)
    for key in (ended, other):
        store.expire(key, 60)
    kept = store.hgetall(ended)
    await stage.web.client.delete(f"/v1/jobs/{ids[0]}")
    store.hset(ended, mapping=kept)
    store.expire(ended, 60)

    await stage.web.heart.recover()

    assert [long - 60 < each <= long for each in made] == [True, True]
    # Nobody keeps what has no jobs; what is counted is kept.
    assert store.ttl(ended) <= 60
    assert long - 60 < store.ttl(other) <= long


async def test_cause_that_an_older_release_ended_is_counted_from_its_next_job(
    stage: Stage,
) -> None:
    (job_id,) = await stage.fail("a", tags={"shop": "1"})
    store, (key,) = stage.web.heart.redis, tally_keys(stage)
    kept = store.hgetall(key)
    await stage.web.client.delete(f"/v1/jobs/{job_id}")
    store.hset(key, mapping=kept)

    await stage.fail("a", tags={"shop": "2"})

    assert tallies(stage) == counted(stage)


async def test_job_that_is_in_its_cause_already_is_counted_anew(stage: Stage) -> None:
    """A transition that broke off half-way had put it there, and counted it."""
    job_id, _ = await stage.fail("a", "a", tags={"shop": "1"})
    store, (key,) = stage.web.heart.redis, tally_keys(stage)
    jobs_key = key.replace(":tags", ":jobs")
    kept, jobs = store.hgetall(key), dict(store.zrange(jobs_key, 0, -1, withscores=True))
    await stage.post(f"jobs/{job_id}/retry")
    store.zadd(jobs_key, jobs)
    store.hset(key, mapping=kept)

    await stage.end(1, message="a")
    await stage.web.heart.recover()

    assert tallies(stage) == counted(stage)


async def test_tags_of_their_own_are_counted_in_bounds(stage: Stage) -> None:
    await stage.fail(*"aa", tags={"shop": "1", "order": "1"})
    store, (key,) = stage.web.heart.redis, tally_keys(stage)
    store.hset(key, mapping={f"order:x{number}": 1 for number in range(995)})
    more = []
    for number in range(3):
        more += await stage.fail("a", tags={"shop": "1", "order": f"y{number}", "part": "a"})
    size = store.hlen(key)
    # Once there is room again a name that is not counted stays so: the rest would be missing.
    store.hdel(key, *(f"order:x{number}" for number in range(995)))
    await stage.fail("a", tags={"shop": "1", "order": "y0"})
    await stage.web.client.delete(f"/v1/jobs/{more[-1]}")

    shown = [
        (await stage.preview(tag=tag))["count"]
        for tag in ("shop:1", "order:1", "order:y0", "order:y2", "part:a", "order:none")
    ]

    assert size <= 1001
    assert store.hget(key, "full") is not None
    assert shown == [5, 2, 2, 0, 2, 0]


@pytest.mark.parametrize("spoilt", ["tally", "tags"])
async def test_count_that_is_something_else_keeps_no_job_from_ending(
    stage: Stage, spoilt: str
) -> None:
    await stage.fail("a", tags={"shop": "1"})
    store, (key,) = stage.web.heart.redis, tally_keys(stage)
    (job_id,) = await stage.fail("a", tags={"shop": "1"})
    if spoilt == "tally":
        store.delete(key)
        store.set(key, "no hash")
    else:
        store.hset("rq:recado:tags", job_id, "no JSON")
    found = [await previewed(stage)]

    retried = await stage.post(f"jobs/{job_id}/retry")
    await stage.end(1, message="a")
    await stage.web.heart.recover()

    found.append(await previewed(stage))
    assert retried.status_code == 202
    assert [each["shop:1"] for each in found] == [2, 2]


async def test_spoilt_note_does_not_keep_upkeep_busy(stage: Stage) -> None:
    _, job_id, _ = await stage.fail("a", "a", "a", tags={"shop": "1"})
    store = stage.web.heart.redis
    store.hset("rq:recado:tags", job_id, "no JSON")
    store.delete(*tally_keys(stage))

    more = [(await stage.web.heart.recover())[1] for _ in range(3)]

    assert more == [False, False, False]
    assert (await previewed(stage))["shop:1"] == 3


async def test_upkeep_counts_some_at_a_time_and_hurries_nothing(stage: Stage) -> None:
    await fail_some(stage, 3)
    store, heart = stage.web.heart.redis, stage.web.heart
    for key in tally_keys(stage):
        jobs: Any = {f"{number:013x}{'0' * 22}": number for number in range(100, 400)}
        tags = {each: json.dumps({"order": each, "shop": "1"}) for each in jobs}
        store.zadd(key.replace(":tags", ":jobs"), jobs)
        store.hset("rq:recado:tags", mapping=tags)
        store.delete(key)
    counts = counted(stage)

    def count() -> int:
        return sum(each["jobs"] for each in tallies(stage).values())

    calls, done = list[tuple[Any, ...]](), 0
    while done < 606:
        assert len(calls) < 5
        _, more = await heart.recover()
        done = count()
        # Others ask at once, and it is not time yet.
        others = [await heart.caretaker.recover(), await heart.recover()]
        calls.append((done, count(), more, *(each for _, each in others)))
        go_on_now(stage)

    _, more = await heart.recover()
    assert calls[0] == (200, 200, False, False, False)
    assert [each[2:] for each in calls] == [(False, False, False)] * len(calls)
    assert [each[1] - each[0] for each in calls[:-1]] == [0] * (len(calls) - 1)
    assert store.exists("rq:recado:upkeep_at") == 1
    assert store.exists(RECOUNT_AT) == 0
    assert not more
    assert tallies(stage) == counts


@pytest.mark.parametrize("spoilt", ["no time", "9999999999999:no cause", "0:0123456789abcdef"])
async def test_spoilt_note_of_what_is_to_be_counted_is_forgotten(stage: Stage, spoilt: str) -> None:
    await fail_some(stage, 3)
    store = stage.web.heart.redis
    store.delete(*tally_keys(stage))
    store.set(RECOUNT_AT, spoilt)

    await stage.web.heart.recover()

    assert tallies(stage) == counted(stage)
    assert store.exists(RECOUNT_AT) == 0


async def test_what_most_have_is_counted_where_there_are_too_many_tags(stage: Stage) -> None:
    await stage.fail("a", tags={"shop": "1"})
    store, (key,) = stage.web.heart.redis, tally_keys(stage)
    jobs: Any = {f"{number:013x}{'0' * 22}": number for number in range(100, 290)}
    for number, each in enumerate(jobs):
        tags = {f"order{name}": str(number) for name in range(8)} | {"shop": "1"}
        store.hset("rq:recado:tags", each, json.dumps(tags))
    store.zadd(key.replace(":tags", ":jobs"), jobs)
    store.set("rq:recado:failed_seq", 289)
    store.delete(key)
    expected = next(iter(counted(stage).values()))

    for _ in range(2):
        await stage.web.heart.recover()
        go_on_now(stage)

    found = next(iter(tallies(stage).values()))
    assert found.pop("full") == 1
    assert 990 < len(found) <= 1000
    assert found.items() <= expected.items()
    assert found["shop:1"] == 191
