"""Options of a submission as a worker keeps them: expiry, parents, slots, cancel, progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.queue.control import Control
from app.queue.errors import (
    ExpiredError,
    IdempotencyMismatchError,
    JobEndedError,
    JobNotEndedError,
    JobNotFoundError,
    QueueUnavailableError,
    UnknownParentError,
)
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.records.drafts import Idempotency, Replay, new_job_id
from app.queue.records.options import Concurrency
from app.queue.records.views import JobFilter
from app.queue.retry import Failure
from app.queue.submitting import Submitter
from tests.harness import draft
from tests.heart_scene import UPKEEP_AT, Actor, Scene, scene_on


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


@pytest.fixture
async def control(scene: Scene) -> AsyncIterator[Control]:
    control = Control(scene.client, scene.reachability)
    yield control
    await control.aclose()


async def statuses(scene: Scene, *job_ids: str) -> list[str]:
    return [(await scene.view(each)).status for each in job_ids]


async def test_fifty_equal_requests_at_once_make_one_job(scene: Scene) -> None:
    others = [Submitter(scene.client, scene.reachability, 30.0) for _ in range(2)]
    key = Idempotency("order-1", "same")
    drafts = [replace(draft("test.note"), id=new_job_id(), submitted_by="shop") for _ in range(50)]

    replayed = await asyncio.gather(
        *([scene.submitter, *others][n % 3].submit(each, key) for n, each in enumerate(drafts))
    )

    assert replayed.count(None) == 1
    assert len({each.id for each in drafts}) == 1
    assert len({each.created_at for each in drafts}) == 1
    assert scene.queued() == [drafts[0].id]
    for each in others:
        await each.aclose()


async def test_key_with_another_request_is_a_mismatch_and_of_another_client_a_new_job(
    scene: Scene,
) -> None:
    await scene.submitter.submit(
        replace(draft("test.note"), submitted_by="a"), Idempotency("k", "one")
    )

    with pytest.raises(IdempotencyMismatchError):
        await scene.submitter.submit(
            replace(draft("test.note"), submitted_by="a"), Idempotency("k", "two")
        )
    replayed = await scene.submitter.submit(
        replace(draft("test.note"), submitted_by="b"), Idempotency("k", "one")
    )

    assert replayed is None
    assert len(scene.queued()) == 2


async def test_repeated_request_is_answered_also_when_its_times_have_passed(scene: Scene) -> None:
    now = datetime.now(UTC)
    first = replace(
        draft("test.note"), submitted_by="a", expires_at=now + timedelta(seconds=50),
        scheduled_at=now + timedelta(seconds=40),
    )  # fmt: skip
    await scene.submitter.submit(first, Idempotency("k", "one"))
    # Seen from later: the same times lie in the past.
    stored = next(key for key in scene.stored() if "idempotency" in key)
    long_ago = int(scene.redis.hget(stored, "us")) - 3600 * 10**6
    scene.redis.hset(stored, "us", long_ago)
    again = replace(
        draft("test.note"), submitted_by="a", expires_at=now - timedelta(seconds=50),
        scheduled_at=now - timedelta(seconds=60),
    )  # fmt: skip

    assert await scene.submitter.submit(again, Idempotency("k", "one")) == Replay(first.id)

    assert (again.id, again.status, again.enqueued_at) == (first.id, "scheduled", None)
    with pytest.raises(ExpiredError):
        await scene.submitter.submit(replace(again, id=new_job_id()), Idempotency("l", "one"))


async def test_expired_job_is_canceled_and_never_run(scene: Scene) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    claimed_late, seen_late = (
        await scene.submit(expires_at=soon),
        await scene.submit(expires_at=soon, queue="email"),
    )
    for job_id in (claimed_late, seen_late):
        scene.redis.hset(f"rq:job:{job_id}", "x_expires", scene.now_ms() - 1)
    scene.redis.zadd("rq:recado:expires", {seen_late: scene.now_ms() - 1})
    actor = await scene.worker()

    assert (await actor.claim()).jobs == []
    await scene.caretaker.promote()

    for job_id in (claimed_late, seen_late):
        found = await scene.view(job_id)
        assert (found.status, found.reason) == ("canceled", "expired")
    assert scene.queued() == []
    assert scene.redis.zcard("rq:recado:expires") == 0


async def test_started_in_time_is_not_expired_by_a_retry(scene: Scene) -> None:
    job_id = await scene.submit(expires_at=datetime.now(UTC) + timedelta(hours=1))
    actor = await scene.worker()
    await actor.retry(await actor.take(), 0)
    scene.redis.hset(f"rq:job:{job_id}", "x_expires", scene.now_ms() - 1)

    assert [each.id for each in (await actor.claim()).jobs] == [job_id]


async def test_nobody_wakes_for_the_expiry_of_a_job_that_began(scene: Scene) -> None:
    await scene.submit(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await scene.caretaker.promote())[1] is not None
    actor = await scene.worker()
    await actor.take()

    assert (await scene.caretaker.promote())[1] is None


async def test_dependent_waits_for_every_parent_and_one_that_ended_counts(scene: Scene) -> None:
    actor = await scene.worker()
    done = await scene.submit()
    await actor.finish(await actor.take())
    first, second = await scene.submit_many(2)
    child = await scene.submit(depends_on=[done, first, second])

    assert await statuses(scene, child) == ["deferred"]
    for claimed in (await actor.claim()).jobs:
        assert await statuses(scene, child) == ["deferred"]
        await actor.finish(claimed)

    assert await statuses(scene, child) == ["queued"]
    assert scene.trail(child) == ["deferred", "queued"]


async def test_parent_that_failed_cancels_unless_failures_are_allowed(scene: Scene) -> None:
    actor = await scene.worker()
    parent = await scene.submit()
    child, brave = (
        await scene.submit(depends_on=[parent]),
        await scene.submit(depends_on=[parent], allow_failure=True),
    )
    await actor.fail(await actor.take())
    later = draft("test.note")
    await scene.submitter.submit(replace(later, depends_on=[parent]))

    found = await scene.view(child)
    assert (found.status, found.reason) == ("canceled", "parent_failed")
    assert await statuses(scene, brave, later.id) == ["queued", "canceled"]


async def test_unknown_and_foreign_parents_are_refused_and_nothing_is_written(
    scene: Scene,
) -> None:
    foreign = await scene.submit(submitted_by="other")
    before = scene.stored()

    for parents in (["z" * 30], [foreign]):
        with pytest.raises(UnknownParentError):
            await scene.submit(depends_on=parents, submitted_by="mine", sees_all=False)

    assert {each for each in scene.stored() if "submitter" not in each} == {
        each for each in before if "submitter" not in each
    }


async def test_dependent_with_a_time_waits_for_both(scene: Scene) -> None:
    actor = await scene.worker()
    parent = await scene.submit()
    child = await scene.submit(depends_on=[parent], delay_seconds=3600.0)

    await actor.finish(await actor.take())

    assert await statuses(scene, child) == ["scheduled"]
    assert scene.members("scheduled") == [child]


async def test_concurrency_key_lets_so_many_run_and_the_next_follows(scene: Scene) -> None:
    slot = Concurrency("report", 2)
    job_ids = [await scene.submit(concurrency=slot, submitted_by="shop") for _ in range(4)]
    free = await scene.submit(concurrency=slot, submitted_by="other")
    actor = await scene.worker()

    running = {each.id: each for each in (await actor.claim()).jobs}
    assert set(running) == {*job_ids[:2], free}
    assert (await actor.claim()).jobs == []
    assert await statuses(scene, *job_ids[2:]) == ["queued", "queued"]

    await actor.finish(running[job_ids[0]])
    third = await actor.take()
    await actor.retry(running[job_ids[1]], 3600)
    fourth = await actor.take()

    assert [third.id, fourth.id] == job_ids[2:]
    await actor.finish(third)
    await actor.fail(fourth)
    assert scene.redis.smembers("rq:rl-keys") == {"other:report"}


async def test_slot_of_a_worker_that_died_is_kept_for_its_job(scene: Scene) -> None:
    slot = Concurrency("report", 1)
    first = await scene.submit(concurrency=slot)
    second = await scene.submit(concurrency=slot)
    actor = await scene.worker()
    await actor.take()
    scene.silence(actor)

    await scene.recover()

    other = await scene.worker()
    claimed = await other.take()
    assert claimed.id == first
    await other.finish(claimed)
    assert (await other.take()).id == second


@pytest.mark.parametrize("place", ["queued", "scheduled", "deferred", "waiting for a slot"])
async def test_cancel_before_it_runs(scene: Scene, control: Control, place: str) -> None:
    changes: dict[str, Any] = {}
    if place == "scheduled":
        changes = {"delay_seconds": 60.0}
    elif place == "deferred":
        changes = {"depends_on": [await scene.submit(queue="email")]}
    elif place == "waiting for a slot":
        changes = {"concurrency": Concurrency("k", 1)}
        await scene.submit(queue="email", **changes)
    job_id = await scene.submit(**changes)

    assert await control.cancel(job_id, "ops") == "canceled"

    found = await scene.view(job_id)
    assert (found.status, found.reason) == ("canceled", "requested")
    events = await scene.views.trail(job_id)
    assert events is not None
    assert events[-1].detail == {"reason": "requested", "by": "ops"}
    for registry in ("scheduled", "deferred"):
        assert scene.members(registry) == []
    assert scene.queued() == []
    assert scene.members("canceled") == [job_id]
    assert (await (await scene.worker()).claim()).jobs == []
    with pytest.raises(JobEndedError):
        await control.cancel(job_id, "ops")


async def test_cancel_while_it_runs_asks_its_worker_to_stop(scene: Scene, control: Control) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    claimed = await actor.take()

    assert await control.cancel(job_id, "ops") == "stopping"
    answer = await actor.beat(claimed)
    assert answer[2] == [claimed.composite.encode()]
    # It failed before it heard: it was to end, and is not tried again.
    await actor.retry(claimed, 60)

    found = await scene.view(job_id)
    assert (found.status, found.reason) == ("stopped", "requested")
    events = await scene.views.trail(job_id)
    assert events is not None
    assert [each.name for each in events] == ["queued", "started", "stopped"]
    assert events[-1].detail == {"reason": "requested", "by": "ops"}


async def test_cancel_of_a_job_whose_worker_leaves_is_not_forgotten(
    scene: Scene, control: Control
) -> None:
    job_id = await scene.submit()
    actor = await scene.worker()
    await actor.take()
    await control.cancel(job_id, "ops")
    await actor.transitions.death()

    assert (await (await scene.worker()).claim()).jobs == []
    assert await statuses(scene, job_id) == ["canceled"]


async def test_delete_takes_every_trace_of_an_ended_job(scene: Scene, control: Control) -> None:
    job_id = await scene.submit(submitted_by="shop", tags={"a": "b"})
    with pytest.raises(JobNotEndedError):
        await control.delete(job_id, "ops")
    actor = await scene.worker()
    await actor.fail(await actor.take())

    await control.delete(job_id, "ops")

    with pytest.raises(JobNotFoundError):
        await control.delete(job_id, "ops")
    left = [key for key in scene.stored() if job_id in key]
    assert left == []
    assert [key for key in scene.stored() if key.startswith("rq:recado:i:")] == []
    assert scene.members("failed") == []


async def test_paused_queue_is_left_alone_in_all_its_priorities(
    scene: Scene, control: Control
) -> None:
    await control.pause("default", "ops")
    await scene.submit(priority="high")
    await scene.submit()
    actor = await scene.worker("default.high", "default", "default.low")

    assert (await actor.claim()).jobs == []
    assert await scene.views.warnings("default") == ["queue default is paused"]
    await control.resume("default", "ops")
    assert len((await actor.claim()).jobs) == 2


@pytest.mark.parametrize("size", [3, 300])
async def test_batch_is_accepted_as_one_whole(scene: Scene, size: int) -> None:
    batch_id = new_job_id()
    drafts = [replace(draft("test.note"), id=new_job_id(), submitted_by="a") for _ in range(size)]
    key = Idempotency("b", "x")

    assert await scene.submitter.submit_batch(batch_id, drafts, key) is None
    again = [replace(draft("test.note"), id=new_job_id(), submitted_by="a") for _ in range(size)]
    assert await scene.submitter.submit_batch(new_job_id(), again, key) == Replay(batch_id)
    assert await scene.submitter.recall("a", key) == Replay(batch_id)

    assert scene.queued() == [each.id for each in drafts]
    actor = await scene.worker()
    await actor.finish((await actor.claim(coroutines=1)).jobs[0])
    found = await scene.views.batch(batch_id)
    assert found is not None
    assert found.size == size
    assert found.job_ids == [each.id for each in drafts]
    assert found.counts == {"finished": 1, "queued": size - 1}
    assert found.finished_at is None
    assert {(await scene.view(each.id)).batch_id for each in drafts[:2]} == {batch_id}


@pytest.mark.parametrize("size", [3, 100])
async def test_batch_with_one_fault_is_not_accepted_at_all(scene: Scene, size: int) -> None:
    drafts = [replace(draft("test.note"), id=new_job_id()) for _ in range(size)]
    drafts[-1].depends_on = ["y" * 30]

    with pytest.raises(UnknownParentError) as refused:
        await scene.submitter.submit_batch(new_job_id(), drafts)

    assert (refused.value.job_index, refused.value.parent_index) == (size - 1, 0)
    assert scene.queued() == []
    left = [key for key in scene.stored() if key.startswith("rq:job:")]
    assert all(0 < scene.redis.ttl(key) <= 60 for key in left)


async def test_batch_whose_web_process_died_is_queued_by_upkeep(scene: Scene) -> None:
    class Dying(Submitter):
        async def _activate(self, batch_id: str) -> None:
            """Gone, right after the batch was accepted."""

    dying = Dying(scene.client, scene.reachability)
    drafts = [replace(draft("test.note"), id=new_job_id()) for _ in range(150)]
    batch_id = new_job_id()
    await dying.submit_batch(batch_id, drafts)
    assert scene.queued() == []
    found = await scene.views.batch(batch_id)
    assert found is not None
    assert (found.size, found.counts, found.finished_at) == (150, {"queued": 150}, None)
    assert await statuses(scene, drafts[0].id, drafts[149].id) == ["queued", "queued"]

    await scene.caretaker.recover()
    more = True
    while more:
        _, more = await scene.caretaker.recover()

    assert scene.queued() == [each.id for each in drafts]
    assert {scene.redis.ttl(f"rq:job:{each.id}") for each in drafts} == {-1}
    await dying.aclose()


async def test_budgets_refuse_new_jobs_and_nothing_else(scene: Scene) -> None:
    tight = Submitter(scene.client, scene.reachability, 30.0, most_queued=2)
    for _ in range(2):
        await tight.submit(draft("test.note"))
    with pytest.raises(QueueUnavailableError, match="too many jobs wait in queue default"):
        await tight.submit(draft("test.note"))
    actor = await scene.worker()
    for claimed in (await actor.claim()).jobs:
        await actor.finish(claimed)
    await tight.submit(draft("test.note"))
    await tight.aclose()

    narrow = Submitter(scene.client, scene.reachability, 30.0, most_queued_bytes=3000)
    await narrow.submit(draft("test.note", message="x" * 1000))
    with pytest.raises(QueueUnavailableError, match="too many bytes wait in queue default"):
        await narrow.submit(draft("test.note", message="x" * 1000))
    await narrow.aclose()


async def test_counted_bytes_go_with_the_jobs(scene: Scene, control: Control) -> None:
    job_ids = await scene.submit_many(3)
    actor = await scene.worker()
    claims = (await actor.claim(coroutines=2)).jobs
    await actor.finish(claims[0], ttl=0)
    await actor.fail(claims[1])
    await control.cancel(job_ids[2], "ops")

    assert scene.redis.hget("rq:recado:bytes", "default") == "0"


async def test_lists_find_by_each_filter_newest_first(scene: Scene) -> None:
    actor = await scene.worker()
    failed = await scene.submit(tags={"order": "7"}, submitted_by="a")
    await actor.fail(await actor.take())
    flaky = await scene.submit("test.flaky", submitted_by="b")
    waiting = await scene.submit(delay_seconds=60.0, submitted_by="a")

    async def ids(**wanted: Any) -> list[str]:
        page = await scene.views.jobs(JobFilter(**wanted), 50, None)
        assert page.next_cursor is None
        return [each.id for each in page.jobs]

    assert await ids() == [waiting, flaky, failed]
    assert await ids(status="failed") == [failed]
    assert await ids(status="scheduled") == [waiting]
    assert await ids(status="queued") == [flaky]
    assert await ids(type="test.flaky") == [flaky]
    assert await ids(submitted_by="a") == [waiting, failed]
    assert await ids(submitted_by="a", type="test.flaky") == []
    assert await ids(tag=("order", "7")) == [failed]
    assert await ids(tag=("order", "8")) == []
    assert await ids(error="refused") == [failed]
    assert await ids(queue="default") == [waiting, flaky, failed]
    created_at = (await scene.view(flaky)).created_at
    assert failed in await ids(created_before=created_at)
    assert waiting in await ids(created_after=created_at)


async def test_error_of_the_last_run_is_the_one_that_a_job_is_found_by(scene: Scene) -> None:
    actor = await scene.worker()
    job_id = await scene.submit()
    failure = Failure("smtp_timeout", "slow", "RetryLater", retryable=True)
    ended = Ended("error", failure=failure, call=None)
    outcome = outcome_of(await actor.take(), ended, Limits(5, 3600, 3600), lambda: 0.5)
    assert outcome is not None
    await actor.transitions.end(replace(outcome, kind="retry", delay_seconds=0.0))
    scene.silence(await held_by_another(scene))

    strict = scene.new_caretaker(abandoned_limit=1)
    await scene.recover(strict)
    await strict.aclose()

    for code, found in (("smtp_timeout", []), ("abandoned", [job_id])):
        page = await scene.views.jobs(JobFilter(error=code), 10, None)
        assert [each.id for each in page.jobs] == found
    assert scene.redis.exists("rq:recado:i:error:smtp_timeout") == 0


async def held_by_another(scene: Scene) -> Actor:
    other = await scene.worker()
    await other.take()
    return other


async def test_pages_are_short_at_most_and_miss_nothing(scene: Scene) -> None:
    job_ids = await scene.submit_many(25)
    for job_id in job_ids[::2]:
        scene.redis.hset(f"rq:job:{job_id}", "x_type", "another.type")

    found: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await scene.views.jobs(JobFilter(queue="default"), 10, cursor)
        found += [each.id for each in page.jobs]
        cursor, pages = page.next_cursor, pages + 1

    assert found == sorted(job_ids, reverse=True)
    assert pages >= 3


async def test_stale_entries_of_stock_tools_are_repaired(scene: Scene) -> None:
    job_id, gone = await scene.submit_many(2)
    actor = await scene.worker()
    for claimed in (await actor.claim()).jobs:
        await actor.fail(claimed)
    scene.redis.hset(f"rq:job:{job_id}", "status", "queued")
    scene.redis.delete(f"rq:job:{gone}")

    page = await scene.views.jobs(JobFilter(status="failed"), 10, None)

    assert page.jobs == []
    assert scene.redis.exists("rq:recado:i:status:failed") == 0
    assert scene.redis.zrange("rq:recado:i:all", 0, -1) == [job_id]


async def test_retention_takes_the_job_and_its_place_in_every_list(scene: Scene) -> None:
    actor = await scene.worker()
    await scene.submit(tags={"a": "b"}, submitted_by="x")
    await actor.fail(await actor.take())
    job_id = scene.members("failed")[0]
    scene.redis.zadd("rq:failed:default", {job_id: 1})
    await scene.caretaker.recover()
    scene.redis.delete(UPKEEP_AT)

    await scene.caretaker.recover()

    assert [key for key in scene.stored() if job_id in key] == []
    assert [key for key in scene.stored() if key.startswith("rq:recado:i:")] == []
