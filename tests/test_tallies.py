"""How many failed jobs of a cause have a tag: right whoever fails them or takes them out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.stock import stock_on
from tests.test_operations import ALL, Stage, new_stage

TAGS: tuple[dict[str, str], ...] = ({"shop": "1"}, {"shop": "1", "part": "a:b"}, {"shop": "2"}, {})
SOUGHT = ("shop:1", "shop:2", "shop:3", "part:a:b")
# Looks at members of a set one by one.
LOOKS = {"cmdstat_zintercard", "cmdstat_zinter"}


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


async def test_one_call_of_upkeep_counts_some_and_says_that_there_are_more(stage: Stage) -> None:
    await fail_some(stage, 3)
    store = stage.web.heart.redis
    for key in tally_keys(stage):
        jobs: Any = {f"{number:013x}{'0' * 22}": number for number in range(100, 400)}
        tags = {each: json.dumps({"order": each, "shop": "1"}) for each in jobs}
        store.zadd(key.replace(":tags", ":jobs"), jobs)
        store.hset("rq:recado:tags", mapping=tags)
        store.delete(key)
    counts = counted(stage)

    calls = []
    for _ in range(5):
        _, more = await stage.web.heart.recover()
        calls.append((sum(each["jobs"] for each in tallies(stage).values()), more))

    assert calls[0] == (200, True)
    assert calls[-1] == (606, False)
    assert tallies(stage) == counts


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

    found = next(iter(tallies(stage).values()))
    assert found.pop("full") == 1
    assert 990 < len(found) <= 1000
    assert found.items() <= expected.items()
    assert found["shop:1"] == 191
