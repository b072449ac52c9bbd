"""What a run saves, retries that use up no attempt, and queues that pause themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.queue.claimed import read_call
from app.queue.control import Control
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.retry import Failure
from app.queue.saving import ResultKeeper
from app.queue.transitions import Claimed
from jobs import catalog
from jobs.errors import PermanentError, RetryLater
from tests.harness import JOB_MODULES
from tests.heart_scene import Actor, Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


def keeper(scene: Scene, actor: Actor) -> ResultKeeper:
    return ResultKeeper(scene.client, scene.reachability, actor.name)


async def end_with(actor: Actor, claimed: Claimed, error: Exception) -> str | None:
    """The transition that follows when the job raises this."""
    ended = Ended("error", failure=Failure.of(error), call=read_call(
        claimed, catalog.load([JOB_MODULES])
    ))  # fmt: skip
    outcome = outcome_of(claimed, ended, Limits(5, 3600, 3600), lambda: 0.5)
    assert outcome is not None
    assert await actor.transitions.end(replace(outcome, delay_seconds=0)) == "done"
    return outcome.kind


async def test_what_a_run_saved_is_there_for_the_next_when_its_worker_died(scene: Scene) -> None:
    await scene.submit()
    first, second = await scene.worker(), await scene.worker()
    claimed = await first.take()
    saver = keeper(scene, first)
    await asyncio.gather(saver.save(claimed, {"done": 1}), saver.save(claimed, {"done": 2}))
    await saver.aclose()
    scene.silence(first)
    await scene.recover()
    again = await second.take()

    assert again.json("result") == {"done": 2}


async def test_run_that_is_no_longer_the_jobs_saves_nothing(scene: Scene) -> None:
    job_id = await scene.submit()
    first, second = await scene.worker(), await scene.worker()
    claimed = await first.take()
    scene.silence(first)
    await scene.recover()
    await second.take()
    saver = keeper(scene, first)
    with pytest.raises(PermanentError) as caught:
        await saver.save(claimed, {"mine": True})
    await saver.aclose()

    assert caught.value.code == "run_lost"
    assert scene.redis.hget(f"rq:job:{job_id}", "x_result") is None


async def test_saved_result_stays_when_the_run_ends_without_a_word(scene: Scene) -> None:
    await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    saver = keeper(scene, actor)
    await saver.save(claimed, {"sent": ["a"]})
    await saver.aclose()
    await end_with(actor, claimed, TimeoutError())
    again = await actor.take()
    await end_with(actor, again, RetryLater("more", result={"sent": ["a", "b"]}))

    assert again.json("result") == {"sent": ["a"]}
    assert (await actor.take()).json("result") == {"sent": ["a", "b"]}


async def test_retry_that_uses_no_attempt_may_come_as_often_as_it_likes(scene: Scene) -> None:
    job_id = await scene.submit(max_attempts=2)
    actor = await scene.worker()
    kinds = []
    for number in range(6):
        error = RetryLater("busy", uses_attempt=number == 4)
        kinds.append(await end_with(actor, await actor.take(), error))
        if number < 5:
            assert (await scene.view(job_id)).status == "queued"

    assert kinds == ["postponed"] * 4 + ["retry", "postponed"]
    shown = await scene.view(job_id)
    assert [each.outcome for each in shown.attempts] == ["retry"] * 6
    assert await end_with(actor, await actor.take(), RetryLater("late")) == "failed"


async def test_queue_that_pauses_itself_says_why_until_it_is_mended(scene: Scene) -> None:
    control = Control(scene.client, scene.reachability)
    job_id = await scene.submit(priority="high")
    actor = await scene.worker("default.high", "default")
    error = RetryLater("535 no", code="smtp_auth", uses_attempt=False, pauses_queue=True)
    await end_with(actor, await actor.take(), error)
    paused = (await actor.claim()).jobs
    why = await scene.views.warnings("default")
    await control.mend("other", "smtp_tls")
    still = await control.paused_queues()
    await control.mend("smtp_tls", "smtp_auth")
    mended = (await actor.claim()).jobs
    await control.aclose()

    assert paused == []
    assert "queue default is paused by itself: smtp_auth: 535 no" in why
    assert (still, await control.paused_queues()) == (["default"], [])
    assert [each.id for each in mended] == [job_id]


@pytest.mark.parametrize("is_first", [True, False])
async def test_operators_word_stands_above_a_queues_own(scene: Scene, is_first: bool) -> None:
    control = Control(scene.client, scene.reachability)
    await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()
    error = RetryLater("535 no", code="smtp_auth", pauses_queue=True)
    if is_first:
        await control.pause("default", "boss")
        await end_with(actor, claimed, error)
    else:
        await end_with(actor, claimed, error)
        await control.pause("default", "boss")
    await control.mend("smtp_auth")
    kept = await control.paused_queues()
    await control.resume("default", "boss")
    await control.aclose()

    assert kept == ["default"]
    assert (await actor.claim()).jobs
    assert not scene.redis.exists("rq:recado:paused_why")
