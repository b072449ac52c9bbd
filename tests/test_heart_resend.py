"""A call whose reply is lost is sent again: the same answer, and no second effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain, repeat

import pytest

from app.queue import scripts
from app.queue.calling import BROKEN_EXC, run_script
from app.queue.keys import PREFIX
from app.queue.packing import pack
from app.queue.transitions import (
    Outcome,
    WorkerTransitions,
    claim_arguments,
)
from app.queue.workers import SILENCE_SECONDS
from tests.conftest import ValkeyServer
from tests.harness import draft
from tests.heart_scene import (
    BEATS,
    RECOVERED_AT,
    SILENCE_MS,
    Actor,
    LossyNetwork,
    Scene,
    scene_on,
    submit_arguments,
)


@pytest.fixture
async def network(shared_valkey: ValkeyServer) -> AsyncIterator[LossyNetwork]:
    network = LossyNetwork(shared_valkey.port)
    await network.open()
    yield network
    await network.close()


@pytest.fixture
async def scene(redis_url: str, network: LossyNetwork) -> AsyncIterator[Scene]:
    """Connections stand and scripts are known: the next reply is the one that a test loses."""
    async with scene_on(redis_url, network) as scene:
        await scene.submit()
        actor = await scene.worker()
        await actor.finish(await actor.take())
        yield scene


def _send_claim(actor: Actor, seq: int) -> list[object]:
    """A claim as it stands on the wire, for one that arrives late."""
    return claim_arguments(actor.name, seq, coroutines=8, processes=0, queues=["default"])


async def test_submit_is_accepted_once(scene: Scene, network: LossyNetwork) -> None:
    network.lose_replies()

    job_id = await scene.submit()

    assert scene.queued() == [job_id]
    assert scene.status(job_id) == "queued"


async def test_submit_is_accepted_once_though_every_other_reply_is_lost(
    scene: Scene, network: LossyNetwork
) -> None:
    network.lose_replies(3)

    job_ids = await scene.submit_many(5)

    assert sorted(scene.queued()) == sorted(job_ids)


async def test_resent_submit_does_not_revive_a_job_that_is_done_and_gone(scene: Scene) -> None:
    submitted = draft("test.note")
    call = submit_arguments(submitted)
    first = await run_script(scene.lane, scripts.SUBMIT, *call)
    actor = await scene.worker()
    await actor.finish(await actor.take(), ttl=0)

    again = await run_script(scene.lane, scripts.SUBMIT, *call)

    assert again == first
    assert scene.queued() == []
    assert scene.status(submitted.id) is None


async def test_large_batch_whose_reply_was_lost_is_accepted_and_not_told_as_a_repetition(
    scene: Scene,
) -> None:
    """The script has noted its idempotency key by then."""
    packed = [pack(draft("test.note")) for _ in range(2)]
    records = [part for each in packed for part in each.record("the-batch")]
    ids = [each.draft.id for each in packed]
    await run_script(scene.lane, scripts.STAGE, 60, len(packed), *records)
    call = (10**6, 10**12, "the-batch", "", "", "", "key", "fingerprint", "request", *ids)
    _, first = await run_script(scene.lane, scripts.COMMIT, *call)

    _, again = await run_script(scene.lane, scripts.COMMIT, *call)

    assert first == again == [1]
    assert scene.redis.lrange("rq:recado:batch:the-batch:todo", 0, -1) == ids


async def test_claim_brings_the_same_executions(scene: Scene, network: LossyNetwork) -> None:
    actor = await scene.worker()
    await actor.claim()  # connects
    job_ids = await scene.submit_many(3)
    network.lose_replies()

    claim = await actor.claim()

    assert sorted(each.id for each in claim.jobs) == sorted(job_ids)
    assert {each.attempt for each in claim.jobs} == {1}
    assert all(each.fields["data"] for each in claim.jobs)
    composites = {each.composite for each in claim.jobs}
    assert scene.redis.smembers(f"rq:worker:{actor.name}:executions") == composites
    assert set(scene.members("wip")) == composites
    assert scene.queued() == []


async def test_late_first_execution_of_a_claim_takes_nothing(scene: Scene) -> None:
    first = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    second = await scene.submit()

    answer = await run_script(scene.lane, scripts.CLAIM, *_send_claim(actor, actor.seq))

    assert [job[0].decode() for job in answer[1]] == [first]
    assert answer[1][0][1].decode() == claimed.execution
    assert scene.queued() == [second]


async def test_what_a_late_empty_claim_took_goes_back_with_the_next_beat(scene: Scene) -> None:
    actor = await scene.worker()
    assert (await actor.claim()).jobs == []
    job_id = await scene.submit()
    await run_script(scene.lane, scripts.CLAIM, *_send_claim(actor, actor.seq))
    assert scene.status(job_id) == "started"

    answer = await actor.beat()

    assert answer == [b"ok", [], [], 1]
    assert scene.queued() == [job_id]
    assert scene.members("wip") == []


async def test_end_is_done_once(scene: Scene, network: LossyNetwork) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    await actor.finish(claimed)  # connects
    other = await scene.submit()
    claimed = await actor.take()
    network.lose_replies()

    answer = await actor.retry(claimed, 0)

    assert answer == "done"
    assert scene.queued() == [other]
    assert scene.redis.xlen(f"rq:results:{other}") == 1
    assert scene.trail(other).count("retry_scheduled") == 1
    assert scene.redis.hget(f"rq:job:{other}", "x_failures") == "1"
    record = scene.redis.hgetall(f"rq:worker:{actor.name}")
    assert (record["successful_job_count"], record["failed_job_count"]) == ("1", "1")
    assert scene.status(job_id) == "finished"


async def test_end_of_a_job_without_retention_is_answered_again(
    scene: Scene, network: LossyNetwork
) -> None:
    first, last = await scene.submit(), await scene.submit()
    actor = await scene.worker()
    claims = {each.id: each for each in (await actor.claim()).jobs}
    await actor.finish(claims[first])
    network.lose_replies()

    answer = await actor.finish(claims[last], ttl=0)

    assert answer == "done"
    assert scene.status(last) is None
    assert scene.redis.hget(f"rq:worker:{actor.name}", "successful_job_count") == "2"


async def test_scripts_forgotten_between_calls_are_sent_again(scene: Scene) -> None:
    actor = await scene.worker()
    scene.redis.script_flush()
    job_id = await scene.submit()
    scene.redis.script_flush()
    claimed = await actor.take()
    scene.redis.script_flush()
    assert await actor.retry(claimed, 0.001) == "done"
    scene.redis.script_flush()
    assert (await actor.beat())[0] == b"ok"
    scene.redis.script_flush()
    await scene.recover()
    scene.redis.script_flush()
    await _promote_until_queued(scene, job_id)
    scene.redis.script_flush()
    await actor.transitions.death()

    assert scene.redis.zscore(BEATS, actor.name) is None
    assert scene.queued() == [job_id]


async def _promote_until_queued(scene: Scene, job_id: str) -> None:
    for _ in range(1000):
        if job_id in {each.id for each in (await scene.caretaker.promote())[0]}:
            return
    pytest.fail("was not promoted")


async def test_worker_that_was_stopped_while_it_claimed_begins_nothing_that_another_has(
    scene: Scene,
) -> None:
    """An answer may lie in its connection for as long as the process is stopped."""
    job_id = await scene.submit()
    actor = await scene.worker()

    def take_over() -> float:
        scene.silence(actor)
        scene.redis.set(RECOVERED_AT, scene.now_ms() - 2000)
        scene.redis.eval(scripts.RECOVER.source, 0, PREFIX, SILENCE_MS, 3, 3600, BROKEN_EXC, 20000)
        return SILENCE_SECONDS + 1

    looks: Iterator[Callable[[], float]] = chain([lambda: 0.0, take_over], repeat(lambda: 12.0))

    def clock() -> float:
        return next(looks)()

    stopped = WorkerTransitions(
        scene.client, scene.reachability, name=actor.name, queues=["default"], clock=clock
    )

    claim = await stopped.claim(coroutines=8, processes=0, queues=["default"], process_types=[])

    assert (claim.state, claim.jobs) == ("register", [])
    assert scene.queued() == [job_id]
    await stopped.aclose()


async def test_worker_that_was_stopped_for_a_while_runs_what_is_still_its_own(
    scene: Scene,
) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    times = chain([0.0, SILENCE_SECONDS], repeat(12.0))
    stopped = WorkerTransitions(
        scene.client, scene.reachability, name=actor.name, queues=["default"],
        clock=lambda: next(times),
    )  # fmt: skip

    claim = await stopped.claim(coroutines=8, processes=0, queues=["default"], process_types=[])

    assert [(each.id, each.attempt) for each in claim.jobs] == [(job_id, 1)]
    assert (
        await stopped.end(Outcome(job_id, claim.jobs[0].execution, "default", "finished", 3600))
        == "done"
    )
    await stopped.aclose()
