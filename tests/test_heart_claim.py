"""claim, when much waits: nothing that a slot is free for waits behind what none is free for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.queue.control import Control
from app.queue.records.options import Concurrency
from app.queue.transitions import Claim, Passed
from app.queue.turns import Turns
from tests.heart_scene import Actor, Scene, scene_on

IN_PROCESS = "test.note_process"
MANY = 1000
# Entries that a claim may look at, whatever waits: its own bound and what it takes.
MOST_LOOKED_AT = 700


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def submit_many(scene: Scene, job_type: str, count: int, **changes: Any) -> list[str]:
    """Some at a time: no call has to wait long behind others."""
    ids: list[str] = []
    while len(ids) < count:
        together = range(min(100, count - len(ids)))
        ids += await asyncio.gather(*(scene.submit(job_type, **changes) for _ in together))
    return ids


async def claim_to_the_end(actor: Actor, coroutines: int, processes: int) -> list[str]:
    """Claim as the worker's loop does, until there is nothing more to see; the ids taken."""
    taken: list[str] = []
    while True:
        claim = await actor.claim(coroutines, processes, (IN_PROCESS,))
        taken += [each.id for each in claim.jobs]
        types = [each.type_name for each in claim.jobs]
        processes -= types.count(IN_PROCESS)
        coroutines -= len(types) - types.count(IN_PROCESS)
        if not claim.has_more and (not claim.jobs or coroutines + processes == 0):
            return taken


def looked_at(scene: Scene) -> int:
    """How many records the scripts have looked at so far."""
    return int(scene.redis.info("commandstats").get("cmdstat_hget", {"calls": 0})["calls"])


# Behind many that no slot is free for


@pytest.mark.parametrize(
    ("in_front", "behind", "coroutines", "processes"),
    [(IN_PROCESS, "test.note", 4, 0), ("test.note", IN_PROCESS, 0, 4)],
    ids=["coroutines", "processes"],
)
async def test_jobs_behind_a_thousand_that_no_slot_is_free_for_are_taken(
    scene: Scene, in_front: str, behind: str, coroutines: int, processes: int
) -> None:
    waiting = await submit_many(scene, in_front, MANY)
    wanted = await submit_many(scene, behind, 6)
    actor = await scene.worker()

    assert await claim_to_the_end(actor, coroutines, processes) == wanted[:4]

    assert scene.queued() == waiting + wanted[4:]


async def test_no_claim_looks_at_more_than_its_share(scene: Scene) -> None:
    await submit_many(scene, IN_PROCESS, 2 * MANY)
    wanted = await scene.submit()
    actor = await scene.worker()
    claims: list[Claim] = []

    while not claims or claims[-1].has_more:
        before = looked_at(scene)
        claims.append(await actor.claim(1, 0, (IN_PROCESS,)))
        assert looked_at(scene) - before <= MOST_LOOKED_AT

    assert [each.id for claim in claims for each in claim.jobs] == [wanted]
    assert len(claims) <= 5


async def test_what_was_passed_is_not_looked_at_again(scene: Scene) -> None:
    await submit_many(scene, IN_PROCESS, MANY)
    actor = await scene.worker()
    assert await claim_to_the_end(actor, 1, 0) == []

    wanted = await scene.submit()
    before = looked_at(scene)
    claim = await actor.claim(1, 0, (IN_PROCESS,))

    assert [each.id for each in claim.jobs] == [wanted]
    assert looked_at(scene) - before <= 100


def test_way_through_a_deep_queue_is_gone_again_later_than_a_short_one() -> None:
    def seconds_until_forgotten(claims: int) -> int:
        now = 0.0
        turns = Turns(["default"], clock=lambda: now)
        passed = [Passed("default", "p", "some-job")]
        for _ in range(claims):
            turns.took(turns.next(), Claim("ok", has_more=True, passed=passed))
        while turns.next().passed:
            now += 1.0
            turns.took(turns.next(), Claim("ok"))
        return int(now)

    assert seconds_until_forgotten(5) == 2
    assert seconds_until_forgotten(200) == 40


async def test_deep_queue_holds_up_no_other_queue(scene: Scene) -> None:
    await submit_many(scene, IN_PROCESS, MANY, priority="high")
    await submit_many(scene, IN_PROCESS, MANY)
    wanted = await scene.submit(priority="low")
    actor = await scene.worker("default.high", "default", "default.low")

    assert await claim_to_the_end(actor, 1, 0) == [wanted]


async def test_job_that_went_back_to_the_front_is_the_next(scene: Scene) -> None:
    first = await scene.submit()
    dead, actor = await scene.worker(), await scene.worker()
    await dead.take()
    await submit_many(scene, IN_PROCESS, MANY)
    assert await claim_to_the_end(actor, 1, 0) == []

    await dead.transitions.death()
    behind = await scene.submit()

    assert await claim_to_the_end(actor, 2, 0) == [first, behind]


async def test_place_is_found_again_when_the_job_there_is_gone(scene: Scene) -> None:
    waiting = await submit_many(scene, IN_PROCESS, MANY)
    actor = await scene.worker()
    assert await claim_to_the_end(actor, 1, 0) == []
    assert actor.passed[-1].job_id == waiting[-1]
    control = Control(scene.client, scene.reachability)
    await control.cancel(waiting[-1], "operator")
    await control.aclose()

    wanted = await scene.submit()

    assert await claim_to_the_end(actor, 1, 0) == [wanted]


async def test_free_process_takes_the_first_although_it_was_passed(scene: Scene) -> None:
    waiting = await submit_many(scene, IN_PROCESS, MANY)
    actor = await scene.worker()
    assert await claim_to_the_end(actor, 1, 0) == []

    assert await claim_to_the_end(actor, 1, 2) == waiting[:2]


async def test_thousand_jobs_of_a_full_concurrency_key_hold_up_nobody(scene: Scene) -> None:
    slot = Concurrency("k", 1)
    first, *rest = await submit_many(scene, "test.note", MANY, concurrency=slot)
    other = await scene.submit()
    actor = await scene.worker()

    claim = await actor.claim()

    assert [each.id for each in claim.jobs] == [first, other]
    await actor.finish(claim.jobs[0])
    assert [each.id for each in (await actor.claim()).jobs] == rest[:1]


# Priorities


async def take_in_turns(actor: Actor, turns: Turns, *, slots: int) -> list[str]:
    """The queues of the jobs that one claim of a worker's loop brings."""
    look = turns.next()
    claim = await actor.transitions.claim(
        coroutines=slots, processes=0, queues=look.queues, process_types=(),
        floor=look.floor, floor_jobs=look.floor_jobs, passed=look.passed,
    )  # fmt: skip
    turns.took(look, claim)
    return [each.queue for each in claim.jobs]


@pytest.mark.parametrize("slots", [1, 16])
async def test_lower_priorities_get_their_share_and_no_more(scene: Scene, slots: int) -> None:
    for priority, count in (("high", 400), ("default", 100), ("low", 100)):
        await submit_many(scene, "test.note", count, priority=priority)
    actor = await scene.worker("default.high", "default", "default.low")
    turns = Turns(["default"])

    taken: list[str] = []
    while len(taken) < 320:
        taken += await take_in_turns(actor, turns, slots=slots)

    for name in ("default", "default.low"):
        assert 10 <= taken.count(name) <= 20


async def test_nothing_of_lower_priority_goes_first_while_few_wait(scene: Scene) -> None:
    for priority in ("low", "default", "high"):
        await submit_many(scene, "test.note", 3, priority=priority)
    actor = await scene.worker("default.high", "default", "default.low")
    turns = Turns(["default"])

    taken = [name for _ in range(9) for name in await take_in_turns(actor, turns, slots=1)]

    assert taken == ["default.high"] * 3 + ["default"] * 3 + ["default.low"] * 3


async def test_floor_that_nobody_waits_for_costs_no_place(scene: Scene) -> None:
    await submit_many(scene, "test.note", 40)
    actor = await scene.worker("default.high", "default", "default.low")
    turns = Turns(["default"])

    taken = [name for _ in range(40) for name in await take_in_turns(actor, turns, slots=1)]

    assert taken == ["default"] * 40


# Entries that are no job to run, among those in front


async def test_neighbours_of_doubled_expired_and_broken_entries_are_each_taken_once(
    scene: Scene,
) -> None:
    first, expired, second, broken, third, gone, last = await scene.submit_many(7)
    scene.redis.hset(f"rq:job:{expired}", "x_expires", scene.now_ms() - 1000)
    scene.redis.hset(f"rq:job:{broken}", "timeout", "soon")
    scene.redis.delete(f"rq:job:{gone}")
    entries = [first, first, expired, expired, second, broken, first, broken, third, gone, last]
    scene.redis.delete("rq:queue:default")
    scene.redis.rpush("rq:queue:default", *entries)
    worker = await scene.worker()

    claim = await worker.claim(coroutines=64)

    assert [each.id for each in claim.jobs] == [first, second, third, last]
    assert claim.dropped == [gone]
    assert scene.queued() == []
    assert (scene.status(expired), scene.status(broken)) == ("canceled", "failed")


async def test_a_dependent_that_is_queued_in_front_during_a_claim_is_not_lost(
    scene: Scene,
) -> None:
    before, parent, behind = await scene.submit_many(3)
    child = await scene.submit(depends_on=[parent], allow_failure=True)
    scene.redis.hset(f"rq:job:{child}", "enqueue_at_front", "1")
    scene.redis.hset(f"rq:job:{parent}", "x_expires", scene.now_ms() - 1000)
    worker = await scene.worker()

    first = await worker.claim(coroutines=64)
    second = await worker.claim(coroutines=64)

    assert [each.id for each in first.jobs] == [before, behind]
    assert [each.id for each in second.jobs] == [child]


async def test_a_queue_whose_running_jobs_cannot_be_recorded_is_left_alone(scene: Scene) -> None:
    waiting = await scene.submit()
    other = await scene.submit(queue="email")
    scene.redis.set("rq:wip:default", "of another type")
    worker = await scene.worker("default", "email")

    claim = await worker.claim()

    assert [each.id for each in claim.jobs] == [other]
    assert scene.queued() == [waiting]
