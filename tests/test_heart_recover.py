"""recover: what a silent worker held runs again; and all upkeep, a bounded amount a call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from tests.harness import REQUEUED_SECONDS
from tests.heart_scene import BEATS, RECOVERED_AT, SILENCE_MS, Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def test_execution_of_a_silent_worker_goes_to_the_front_of_its_queue(scene: Scene) -> None:
    held = await scene.submit(request_id="r-1")
    silent, alive = await scene.worker(), await scene.worker()
    await silent.take()
    waiting = await scene.submit()
    scene.silence(silent)

    recovered, more = await scene.recover()

    assert not more
    assert [(each.id, each.fate, each.worker, each.request_id) for each in recovered] == [
        (held, "requeued", silent.name, "r-1")
    ]
    assert scene.queued() == [held, waiting]
    again = (await alive.claim(coroutines=1)).jobs[0]
    assert (again.id, again.attempt, again.number("abandoned")) == (held, 2, 1)
    assert (await scene.view(held)).attempts[0].outcome == "abandoned"


async def test_worker_is_silent_only_after_the_whole_silence(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.silence(actor, milliseconds=SILENCE_MS - 2000)

    recovered, _ = await scene.recover()

    assert recovered == []
    assert scene.status(job_id) == "started"
    assert await actor.finish(claimed) == "done"


async def test_nothing_of_a_silent_worker_is_left(scene: Scene) -> None:
    silent, alive = await scene.worker("default", "email"), await scene.worker()
    scene.silence(silent)

    await scene.recover()

    assert not [key for key in scene.stored() if silent.name in key]
    assert scene.redis.smembers("rq:workers") == {f"rq:worker:{alive.name}"}
    assert scene.redis.smembers("rq:workers:default") == {f"rq:worker:{alive.name}"}
    assert scene.redis.exists("rq:workers:email") == 0
    assert scene.redis.zrange(BEATS, 0, -1) == [alive.name]


async def test_outcome_after_recovery_is_late_and_changes_nothing_but_the_trail(
    scene: Scene,
) -> None:
    job_id = await scene.submit()
    silent, alive = await scene.worker(), await scene.worker()
    old = await silent.take()
    scene.silence(silent)
    await scene.recover()
    new = await alive.take()

    assert await silent.finish(old, "old") == "late"

    assert scene.status(job_id) == "started"
    assert scene.redis.hget(f"rq:job:{job_id}", "worker_name") == alive.name
    assert scene.trail(job_id)[-1] == "late"
    assert scene.members("finished") == []
    assert await alive.finish(new, "new") == "done"
    assert (await scene.view(job_id)).result == "new"


async def test_abandoned_at_the_limit_fails_where_stock_tools_show_it(scene: Scene) -> None:
    job_id = await scene.submit()
    caretaker = scene.new_caretaker(abandoned_limit=2)
    for _ in range(2):
        actor = await scene.worker()
        await actor.take()
        scene.silence(actor)
        recovered, _ = await scene.recover(caretaker)
    await caretaker.aclose()

    assert [each.fate for each in recovered] == ["failed"]
    found = await scene.view(job_id)
    assert found.status == "failed"
    assert found.error is not None
    assert (found.error.code, found.error.error_class) == ("abandoned", "AbandonedJobError")
    assert [each.outcome for each in found.attempts] == ["abandoned", "abandoned"]
    with redis.Redis.from_url(scene.url) as client:
        registry = FailedJobRegistry("default", connection=client, serializer=JSONSerializer)
        assert registry.get_job_ids() == [job_id]
        job = Job.fetch(job_id, connection=client, serializer=JSONSerializer)
        latest = job.latest_result()
        assert latest is not None
        assert "AbandonedJobError" in str(latest.exc_string)
    assert 0 < scene.redis.ttl(f"rq:job:{job_id}") <= 3600 + REQUEUED_SECONDS


@pytest.mark.parametrize("last_run_ms", [5000, -(SILENCE_MS // 2 + 1000), None])
async def test_after_a_gap_in_time_nothing_is_taken_and_silence_counts_anew(
    scene: Scene, last_run_ms: int | None
) -> None:
    """The clock jumped back, nobody could ask for a while, or nobody ever asked."""
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.silence(actor)
    before = scene.now_ms()
    if last_run_ms is not None:
        scene.redis.set(RECOVERED_AT, before + last_run_ms)

    recovered, more = await scene.caretaker.recover()

    assert (recovered, more) == ([], False)
    assert scene.redis.zscore(BEATS, actor.name) >= before
    assert scene.status(job_id) == "started"
    assert (await scene.caretaker.recover())[0] == []
    assert await actor.finish(claimed) == "done"


async def test_stopped_while_its_worker_died_stays_stopped(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    scene.redis.hset(f"rq:execution:{claimed.composite}", "x_stop", "1")
    scene.silence(actor)

    await scene.recover()

    assert scene.status(job_id) == "stopped"
    assert scene.queued() == []
    assert scene.members("failed") == [job_id]


async def test_job_that_was_canceled_while_its_worker_died_stays_canceled(scene: Scene) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.take()
    scene.redis.hset(f"rq:job:{job_id}", "status", "canceled")
    scene.silence(actor)

    assert (await scene.recover())[0] == []

    assert scene.status(job_id) == "canceled"
    assert scene.queued() == scene.members("wip") == []


async def test_job_that_runs_elsewhere_by_now_is_left_there(scene: Scene) -> None:
    job_id = await scene.submit()
    silent, alive = await scene.worker(), await scene.worker()
    old = await silent.take()
    scene.redis.delete(f"rq:execution:{old.composite}")
    scene.redis.rpush("rq:queue:default", job_id)
    new = await alive.take()
    scene.silence(silent)

    assert (await scene.recover())[0] == []

    assert scene.queued() == []
    assert scene.members("wip") == [new.composite]
    assert await alive.finish(new) == "done"


async def test_job_that_cannot_go_back_fails_rather_than_be_nowhere(scene: Scene) -> None:
    job_id = await scene.submit()
    silent = await scene.worker()
    await silent.take()
    scene.redis.set("rq:queue:default", "not a queue")
    scene.silence(silent)

    await scene.recover()

    assert scene.members("failed") == [job_id]
    found = await scene.view(job_id)
    assert found.error is not None
    assert (found.status, found.error.code) == ("failed", "broken_record")


async def test_one_call_takes_a_bounded_number_and_says_that_there_is_more(scene: Scene) -> None:
    job_ids = await scene.submit_many(120)
    silent = await scene.worker()
    while scene.queued():
        await silent.claim(coroutines=64)
    scene.silence(silent)

    first, more = await scene.recover()

    assert 0 < len(first) < 120
    assert more
    rest = []
    while more:
        found, more = await scene.caretaker.recover()
        rest += found
    assert sorted(each.id for each in first + rest) == sorted(job_ids)
    assert sorted(scene.queued()) == sorted(job_ids)


async def test_many_silent_workers_are_buried_over_several_calls(scene: Scene) -> None:
    actors = [await scene.worker() for _ in range(20)]
    scene.silence(*actors)

    _, more = await scene.recover()
    assert more
    while more:
        _, more = await scene.caretaker.recover()

    assert scene.redis.zcard(BEATS) == 0
    assert scene.redis.exists("rq:workers") == 0


async def test_expired_execution_of_a_stock_worker_is_taken_over(scene: Scene) -> None:
    job_id = await scene.submit()
    scene.redis.lrem("rq:queue:default", 1, job_id)
    scene.redis.hset(f"rq:job:{job_id}", mapping={"status": "started", "worker_name": "stock"})
    past = scene.now_ms() / 1000 - 1
    scene.redis.zadd("rq:wip:default", {f"{job_id}:0123": past})
    other = await scene.submit()
    scene.redis.zadd("rq:wip:default", {f"{other}:4567": past + 3600})

    recovered, _ = await scene.recover()

    assert [(each.id, each.fate) for each in recovered] == [(job_id, "requeued")]
    assert scene.queued() == [job_id, other]
    assert scene.members("wip") == [f"{other}:4567"]


async def test_id_left_between_queue_and_start_goes_back_after_a_minute(scene: Scene) -> None:
    """A stock worker on one queue moves the id there, and may die before it has begun."""
    job_id, finished, begun = [await scene.submit() for _ in range(3)]
    intermediate = "rq:queue:default:intermediate"
    scene.redis.delete("rq:queue:default")
    scene.redis.hset(f"rq:job:{finished}", "status", "finished")
    # RQ records the execution first and the status later (RQ 3.0.0).
    scene.redis.hset(f"rq:execution:{begun}:0123", "worker_name", "stock")
    scene.redis.zadd(f"rq:executions:{begun}", {"0123": scene.now_ms() / 1000 + 60})
    scene.redis.rpush(intermediate, job_id, finished, begun)
    assert (await scene.recover())[0] == []
    assert scene.redis.llen(intermediate) == 3
    for each in (job_id, finished, begun):
        seen = float(scene.redis.get(f"{intermediate}:first_seen:{each}"))
        scene.redis.set(f"{intermediate}:first_seen:{each}", seen - 61)

    recovered, _ = await scene.recover()

    assert [each.id for each in recovered] == [job_id]
    assert scene.queued() == [job_id]
    assert not [key for key in scene.stored() if key.startswith(intermediate)]
    assert scene.status(finished) == "finished"


async def test_dependent_that_a_dead_stock_worker_found_ready_is_queued(scene: Scene) -> None:
    job_id, recent = await scene.submit(), await scene.submit()
    scene.redis.delete("rq:queue:default")
    now = scene.now_ms() / 1000
    for each, at in ((job_id, now - 6), (recent, now)):
        scene.redis.hset(f"rq:job:{each}", "status", "ready_to_enqueue")
        scene.redis.zadd("rq:ready:default", {each: at})

    await scene.recover()

    assert scene.queued() == [job_id]
    assert scene.members("ready") == [recent]


async def test_workers_without_a_record_are_struck_off(scene: Scene) -> None:
    alive = await scene.worker()
    for members in ("rq:workers", "rq:workers:default"):
        scene.redis.sadd(members, "rq:worker:ghost")
    await scene.submit()

    await scene.recover()

    assert scene.redis.smembers("rq:workers") == {f"rq:worker:{alive.name}"}
    assert scene.redis.smembers("rq:workers:default") == {f"rq:worker:{alive.name}"}


async def test_entries_of_ended_jobs_go_when_they_are_due(scene: Scene) -> None:
    await scene.submit()
    now = scene.now_ms() / 1000
    for registry in ("finished", "failed"):
        scene.redis.zadd(f"rq:{registry}:default", {"due": now - 1, "later": now + 60})
    scene.redis.zadd("rq:finished:default", {"for-ever": "+inf"})
    scene.redis.zadd("rq:failed:default", {"for-ever": -1})

    await scene.recover()

    assert scene.members("finished") == ["later", "for-ever"]
    assert scene.members("failed") == ["for-ever", "later"]


async def test_thousands_of_due_entries_go_over_several_calls(scene: Scene) -> None:
    await scene.submit()
    past = scene.now_ms() / 1000 - 1
    scene.redis.zadd("rq:finished:default", {f"job-{n}": past for n in range(1800)})

    _, more = await scene.recover()
    assert more
    left = scene.redis.zcard("rq:finished:default")
    assert 0 < left < 1800
    while more:
        _, more = await scene.caretaker.recover()

    assert scene.redis.zcard("rq:finished:default") == 0


async def test_canceled_jobs_go_after_a_day_though_rq_keeps_them(scene: Scene) -> None:
    old, recent = await scene.submit(), await scene.submit()
    now = scene.now_ms() / 1000
    for each, at in ((old, now - 86400 - 1), (recent, now)):
        scene.redis.hset(f"rq:job:{each}", "status", "canceled")
        scene.redis.zadd("rq:canceled:default", {each: at})

    await scene.recover()

    assert scene.members("canceled") == [recent]
    assert scene.status(old) is None
    assert scene.status(recent) == "canceled"


async def test_broken_record_of_a_silent_worker_does_not_stop_the_others(scene: Scene) -> None:
    broken, sound = await scene.submit(), await scene.submit()
    silent = await scene.worker()
    await silent.claim()
    scene.redis.delete(f"rq:job:{broken}")
    scene.redis.rpush(f"rq:job:{broken}", "not", "a job")
    scene.silence(silent)

    recovered, _ = await scene.recover()

    assert [each.id for each in recovered] == [sound]
    assert scene.queued() == [sound]
    assert not [key for key in scene.stored() if silent.name in key]


async def test_everything_is_under_the_prefix_and_nothing_but_the_named_keys_remains(
    scene: Scene,
) -> None:
    actor = await scene.worker()
    done, retried, timed = [await scene.submit(retention_seconds=0) for _ in range(3)]
    delayed = await scene.submit(retention_seconds=0, delay_seconds=0.001)
    claims = {each.id: each for each in (await actor.claim()).jobs}
    await actor.finish(claims[done], ttl=0)
    await actor.retry(claims[retried], 0)
    await actor.fail(claims[timed], ttl=0)
    await actor.finish(await actor.take(), ttl=0)
    await scene.recover()
    promoted: list[str] = []
    while not promoted:
        promoted = [each.id for each in (await scene.caretaker.promote())[0]]
    assert promoted == [delayed]
    await actor.finish(await actor.take(), ttl=0)
    assert all(key.startswith("rq:") for key in scene.stored())

    await actor.transitions.death()
    for _ in range(2):
        await scene.recover()

    # Those of workers and submitters expire by themselves.
    expiring = {key for key in scene.stored() if scene.redis.ttl(key) > 0}
    assert scene.stored() - expiring == {
        "rq:queues",
        "rq:recado:failed_seq",
        "rq:recado:counts",
        "rq:recado:indexes",
        "rq:recado:recovered_at",
        "rq:recado:sweep_at",
        "rq:recado:upkeep_at",
    }
    named = ("rq:worker:", "rq:recado:submitter:", "rq:recado:claimed:", "rq:recado:counts:",
             "rq:recado:walk_at")  # fmt: skip
    assert all(key.startswith(named) for key in expiring)
