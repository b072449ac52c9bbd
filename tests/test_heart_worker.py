"""birth, claim, beat and death: who owns an execution, and who does not any more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.queue.claimed import read_call
from jobs import catalog
from jobs.errors import PermanentError
from tests.heart_scene import BEATS, Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def test_claim_needs_a_worker_that_is_known(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    scene.redis.delete(f"rq:worker:{actor.name}")

    claim = await actor.claim()

    assert claim.state == "register"
    assert scene.queued() == [job_id]
    assert scene.redis.exists(f"rq:worker:{actor.name}") == 0


async def test_claim_takes_queues_in_order_and_no_more_than_slots(scene: Scene) -> None:
    low = await scene.submit(priority="low")
    high = await scene.submit(priority="high")
    plain = await scene.submit()
    actor = await scene.worker("default.high", "default", "default.low")

    claim = await actor.claim(coroutines=2)

    assert [each.id for each in claim.jobs] == [high, plain]
    assert scene.queued("default.low") == [low]


async def test_claim_leaves_what_no_slot_fits_and_takes_what_is_behind(scene: Scene) -> None:
    in_process = await scene.submit("test.note_process")
    in_loop = await scene.submit()
    actor = await scene.worker()

    claim = await actor.claim(coroutines=1, processes=0, process_types=("test.note_process",))

    assert [each.id for each in claim.jobs] == [in_loop]
    assert scene.queued() == [in_process]


async def test_doubled_entry_runs_once(scene: Scene) -> None:
    job_id = await scene.submit()
    scene.redis.rpush("rq:queue:default", job_id, job_id)
    actor, other = await scene.worker(), await scene.worker()

    claim = await actor.claim()

    assert [each.id for each in claim.jobs] == [job_id]
    assert (await other.claim()).jobs == []
    assert scene.queued() == []


@pytest.mark.parametrize("status", ["finished", "failed", "canceled", "stopped", "scheduled"])
async def test_stale_entry_is_dropped_and_its_job_left_alone(scene: Scene, status: str) -> None:
    stale, fresh = await scene.submit(), await scene.submit()
    scene.redis.hset(f"rq:job:{stale}", "status", status)
    actor = await scene.worker()

    claim = await actor.claim()

    assert [each.id for each in claim.jobs] == [fresh]
    assert claim.broken == []
    assert scene.status(stale) == status
    assert scene.queued() == []


async def test_running_job_has_no_time_to_live(scene: Scene) -> None:
    """RQ's requeue leaves the failed job's on all its keys (RQ 3.0.0)."""
    job_id = await scene.submit()
    actor = await scene.worker()
    scene.redis.sadd(f"rq:job:{job_id}:dependents", "stock")
    await actor.fail(await actor.take(), ttl=60)
    kept = [f"rq:job:{job_id}", f"rq:results:{job_id}"]
    assert all(scene.redis.ttl(key) > 0 for key in kept)
    scene.redis.zrem("rq:failed:default", job_id)
    scene.redis.hset(f"rq:job:{job_id}", "status", "queued")
    scene.redis.rpush("rq:queue:default", job_id)

    await actor.take()

    assert [scene.redis.ttl(key) for key in kept] == [-1, -1]


async def test_time_limits_of_an_execution_reach_far_beyond_the_time_out(scene: Scene) -> None:
    """Stock tools fail what is past its time by their own clock."""
    await scene.submit(timeout_seconds=60)
    actor = await scene.worker()
    claimed = await actor.take()
    now = scene.now_ms() / 1000

    assert scene.redis.zscore("rq:wip:default", claimed.composite) > now + 3600
    assert scene.redis.ttl(f"rq:execution:{claimed.composite}") > 3600
    assert scene.redis.ttl(f"rq:executions:{claimed.id}") > 3600


async def test_absurd_numbers_of_a_record_leave_nothing_half_done(scene: Scene) -> None:
    for timeout in ("inf", "nan", "1e300", "99999999999999999"):
        job_id, neighbour = await scene.submit(), await scene.submit()
        scene.redis.hset(f"rq:job:{job_id}", "timeout", timeout)
        actor = await scene.worker()

        claim = await actor.claim()

        assert [each.id for each in claim.jobs] == [neighbour], timeout
        assert claim.broken == [job_id], timeout
        assert scene.status(job_id) == "failed"
        assert job_id in scene.members("failed")
        assert not [key for key in scene.stored() if key.startswith(f"rq:execution:{job_id}")]
        assert not scene.redis.exists(f"rq:executions:{job_id}")


async def test_job_queued_again_within_its_own_failure_is_not_lost(scene: Scene) -> None:
    """A broken record that an operator mended and requeued runs."""
    job_id = await scene.submit()
    scene.redis.hset(f"rq:job:{job_id}", "timeout", "inf")
    actor = await scene.worker()
    await actor.claim()
    scene.redis.zrem("rq:failed:default", job_id)
    scene.redis.hset(f"rq:job:{job_id}", mapping={"status": "queued", "timeout": "60"})
    scene.redis.rpush("rq:queue:default", job_id)

    assert (await actor.take()).id == job_id


async def test_beat_of_a_forgotten_worker_asks_it_to_register_and_makes_no_ghost(
    scene: Scene,
) -> None:
    actor = await scene.worker()
    scene.redis.delete(f"rq:worker:{actor.name}")
    scene.redis.zrem(BEATS, actor.name)

    answer = await actor.beat()

    assert answer == [b"register"]
    assert scene.redis.exists(f"rq:worker:{actor.name}") == 0
    assert scene.redis.zscore(BEATS, actor.name) is None


async def test_beat_tells_which_executions_are_lost_and_which_to_stop(scene: Scene) -> None:
    await scene.submit_many(3)
    actor = await scene.worker()
    kept, lost, stopped = (await actor.claim()).jobs
    scene.redis.delete(f"rq:execution:{lost.composite}")
    scene.redis.hset(f"rq:execution:{stopped.composite}", "x_stop", "1")

    answer = await actor.beat(kept, lost, stopped)

    assert answer == [b"ok", [lost.composite.encode()], [stopped.composite.encode()], 0]


async def test_beat_that_a_claim_overtook_does_not_show_the_worker_as_idle(scene: Scene) -> None:
    await scene.submit()
    actor = await scene.worker()
    (claimed,) = (await actor.claim()).jobs
    key = f"rq:worker:{actor.name}"

    await actor.beat(arrived=actor.seq - 1)
    meanwhile = scene.redis.hget(key, "state")
    await actor.finish(claimed)
    await actor.beat(claimed)  # it had set out before

    assert (meanwhile, scene.redis.hget(key, "state")) == ("busy", "idle")


async def test_beat_takes_back_what_was_claimed_and_never_arrived(scene: Scene) -> None:
    first, second = await scene.submit(), await scene.submit()
    actor, other = await scene.worker(), await scene.worker()
    arrived, lost = (await actor.claim()).jobs

    answer = await actor.beat(arrived)

    assert answer[3] == 1
    assert scene.status(first) == "started"
    assert scene.queued() == [second] == [lost.id]
    again = await other.take()
    assert (again.id, again.attempt) == (second, 2)
    assert (await scene.view(second)).attempts[0].outcome == "interrupted"


async def test_beat_leaves_a_claim_that_is_still_under_way(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()

    answer = await actor.beat(arrived=actor.seq - 1)

    assert answer == [b"ok", [], [], 0]
    assert scene.status(job_id) == "started"
    assert await actor.finish(claimed) == "done"


async def test_record_of_another_type_is_put_aside_for_whoever_wants_to_know(
    scene: Scene,
) -> None:
    job_id = await scene.submit()
    scene.redis.delete(f"rq:job:{job_id}")
    scene.redis.set(f"rq:job:{job_id}", "not a job")
    actor = await scene.worker()

    assert (await actor.claim()).broken == [job_id]

    aside = f"rq:recado:broken:{job_id}"
    assert scene.redis.get(aside) == "not a job"
    assert scene.redis.ttl(aside) > 0
    assert scene.members("failed") == [job_id]


RECORDS = {
    "job": "rq:job:{job}",
    "execution": "rq:execution:{job}:{execution}",
    "executions": "rq:executions:{job}",
}


def spoil(scene: Scene, kind: str, composite: str) -> None:
    job, execution = composite.split(":")
    key = RECORDS[kind].format(job=job, execution=execution)
    assert scene.redis.delete(key) == 1
    scene.redis.set(key, "something else")


@pytest.mark.parametrize("kind", RECORDS)
async def test_record_of_another_type_does_not_stop_the_beat(scene: Scene, kind: str) -> None:
    await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    spoil(scene, kind, claimed.composite)

    assert (await actor.beat())[0] == b"ok"

    assert scene.redis.smembers(f"rq:worker:{actor.name}:executions") == set()
    await actor.transitions.death()
    assert scene.redis.smembers("rq:workers") == set()


@pytest.mark.parametrize("kind", RECORDS)
async def test_record_of_another_type_does_not_stop_the_farewell(scene: Scene, kind: str) -> None:
    first, sound = await scene.submit(), await scene.submit()
    actor = await scene.worker()
    broken = (await actor.claim()).jobs[0]
    spoil(scene, kind, broken.composite)

    await actor.transitions.death()

    # A job whose own record is whole, and that can be moved, has lost nothing.
    whole = [first, sound] if kind == "execution" else [sound]
    assert sorted(scene.queued()) == sorted(whole)
    if kind == "executions":
        assert scene.redis.hget(f"rq:job:{first}", "status") == "failed"
    assert scene.redis.smembers("rq:workers") == set()
    assert scene.redis.exists(f"rq:worker:{actor.name}:executions") == 0


async def test_what_a_leaving_worker_held_goes_in_front_and_says_so(scene: Scene) -> None:
    held = await scene.submit()
    actor, other = await scene.worker(), await scene.worker()
    await actor.take()
    waiting = await scene.submit()

    await actor.transitions.death()

    assert scene.queued() == [held, waiting]
    assert scene.redis.smembers("rq:workers") == {f"rq:worker:{other.name}"}
    assert scene.redis.smembers("rq:workers:default") == {f"rq:worker:{other.name}"}
    assert 0 < scene.redis.ttl(f"rq:worker:{actor.name}") <= 60
    again = (await other.claim(coroutines=1)).jobs[0]
    assert (again.id, again.attempt, again.number("interrupted")) == (held, 2, 1)


async def test_what_arrives_after_a_farewell_neither_revives_the_worker_nor_takes_a_job(
    scene: Scene,
) -> None:
    """Its last beat and its last claim travel on connections of their own."""
    actor = await scene.worker()
    await actor.transitions.death()
    job_id = await scene.submit()

    assert await actor.beat() == [b"register"]
    assert (await actor.claim()).state == "register"

    assert scene.redis.zcard(BEATS) == 0
    assert scene.status(job_id) == "queued"
    assert 0 < scene.redis.ttl(f"rq:worker:{actor.name}") <= 60


async def test_birth_writes_record_sets_and_liveness_together(scene: Scene) -> None:
    actor = await scene.worker("email", "data")
    key = f"rq:worker:{actor.name}"

    assert scene.redis.hget(key, "queues") == "email,data"
    assert scene.redis.ttl(key) > 0
    for members in ("rq:workers", "rq:workers:email", "rq:workers:data"):
        assert scene.redis.smembers(members) == {key}
    assert scene.redis.zscore(BEATS, actor.name) is not None


async def test_suspended_and_paused_queues_are_left_alone(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    scene.redis.set("rq:suspended", "1")
    assert (await actor.claim()).state == "suspended"
    scene.redis.delete("rq:suspended")
    scene.redis.sadd("rq:recado:paused", "default")
    assert (await actor.claim()).jobs == []
    scene.redis.srem("rq:recado:paused", "default")

    assert (await actor.take()).id == job_id


async def test_number_that_is_none_fails_with_its_name(scene: Scene) -> None:
    await scene.submit()
    scene.redis.hset(f"rq:job:{scene.queued()[0]}", "x_max", "abc")
    actor = await scene.worker()
    claimed = await actor.take()

    with pytest.raises(PermanentError, match="max_attempts is not a number"):
        read_call(claimed, catalog.load())


@pytest.mark.parametrize("way", ["beat", "death"])
async def test_what_cannot_go_back_to_its_queue_fails_and_the_others_go_back(
    scene: Scene, way: str
) -> None:
    stuck, sound = await scene.submit(queue="data"), await scene.submit()
    actor = await scene.worker("data", "default")
    assert len((await actor.claim()).jobs) == 2
    scene.redis.set("rq:queue:data", "something else")

    if way == "beat":
        assert (await actor.beat())[3] == 1
    else:
        await actor.transitions.death()

    assert scene.queued() == [sound]
    assert scene.status(stuck) == "failed"
    assert scene.members("failed", "data") == [stuck]
    view = await scene.view(stuck)
    assert view.error is not None
    assert view.error.code == "broken_record"
    assert scene.members("wip", "data") == scene.members("wip") == []
    assert scene.redis.exists(f"rq:worker:{actor.name}:executions") == 0


@pytest.mark.parametrize("way", ["beat", "death", "silence"])
async def test_job_whose_execution_is_something_else_goes_back(scene: Scene, way: str) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.redis.delete(f"rq:execution:{claimed.composite}")
    scene.redis.set(f"rq:execution:{claimed.composite}", "something else")

    if way == "beat":
        await actor.beat()
    elif way == "death":
        await actor.transitions.death()
    else:
        scene.silence(actor)
        await scene.recover()

    assert scene.queued() == [job_id]
    assert (await (await scene.worker()).take()).id == job_id


async def test_job_that_is_put_aside_as_broken_has_no_execution_any_more(scene: Scene) -> None:
    """What a claim had begun to write would keep its next claim away."""
    job_id = await scene.submit(delay_seconds=0.001)
    scene.redis.hset(f"rq:execution:{job_id}:half", "worker_name", "nobody")
    scene.redis.zadd(f"rq:executions:{job_id}", {"half": scene.now_ms() / 1000 + 3600})
    scene.redis.zadd("rq:wip:default", {f"{job_id}:half": scene.now_ms() / 1000 + 3600})
    scene.redis.set("rq:queue:default", "something else")
    while scene.status(job_id) == "scheduled":
        await scene.caretaker.promote()
    assert scene.status(job_id) == "failed"
    assert scene.members("wip") == []

    scene.redis.delete("rq:queue:default")
    scene.redis.zrem("rq:failed:default", job_id)
    scene.redis.hset(f"rq:job:{job_id}", "status", "queued")
    scene.redis.rpush("rq:queue:default", job_id)

    assert (await (await scene.worker()).take()).id == job_id
