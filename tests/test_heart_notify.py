"""A job that tells of another's outcome: made with it, once for each, whatever happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.http.submissions import Origin, Terms, draft_job
from app.queue.control import Control
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobFilter, JobView
from jobs import catalog
from tests.conftest import ValkeyServer
from tests.harness import JOB_MODULES
from tests.heart_scene import LossyNetwork, Scene, scene_on

TERMS = Terms(
    catalog=catalog.load([JOB_MODULES]),
    sender="us@example.test",
    retention_finished_seconds=3600,
    retention_failed_seconds=7200,
)
ANA = {"email": "ana@example.test"}


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


def drafted(notify: dict[str, Any], **options: Any) -> JobDraft:
    """As the web process makes it of a request."""
    body = {"type": "test.note", "params": {}, "options": {"notify": notify} | options}
    return draft_job(body, TERMS, Origin("shop", "a-request", datetime.now(UTC)))


async def submit(scene: Scene, notify: dict[str, Any], **options: Any) -> str:
    draft = drafted(notify, **options)
    await scene.submitter.submit(draft)
    return draft.id


async def told(scene: Scene) -> list[JobView]:
    """The jobs that tell of outcomes, newest first."""
    page = await scene.views.jobs(JobFilter(type="email.notify"), 200, None)
    return [await scene.view(each.id) for each in page.jobs]


def params(view: JobView) -> dict[str, Any]:
    assert view.params is not None
    return view.params


async def test_finished_job_leaves_one_that_tells_of_it(scene: Scene) -> None:
    job_id = await submit(scene, ANA | {"locale": "pt"})
    worker = await scene.worker("default")

    await worker.finish(await worker.take(), {"n": 1})

    (mail,) = await told(scene)
    ended_at = (await scene.view(job_id)).ended_at
    assert ended_at is not None
    assert scene.queued("email") == [mail.id]
    assert (mail.status, mail.queue, mail.submitted_by) == ("queued", "email", "shop")
    assert (mail.request_id, mail.max_attempts, mail.timeout_seconds) == ("a-request", 8, 60.0)
    assert datetime.fromisoformat(params(mail).pop("ended_at")) == ended_at
    assert params(mail) == {
        "from": "us@example.test", "to": ["ana@example.test"], "locale": "pt", "job_id": job_id,
        "job_type": "test.note", "outcome": "finished", "artifacts": [],
    }  # fmt: skip
    assert 20 <= len(mail.id) <= 40
    assert mail.id > job_id
    assert scene.trail(mail.id) == ["queued"]


async def test_it_runs_and_ends_like_any_other(scene: Scene) -> None:
    await submit(scene, ANA)
    worker = await scene.worker("default", "email")
    await worker.finish(await worker.take())

    taken = await worker.take()
    assert taken.fields["type"] == b"email.notify"
    await worker.finish(taken)

    (mail,) = await told(scene)
    assert mail.status == "finished"
    assert set(scene.redis.hvals("rq:recado:bytes")) == {"0"}


async def test_outcome_that_is_not_asked_for_is_not_told(scene: Scene) -> None:
    await submit(scene, ANA | {"on": ["failed"]})
    worker = await scene.worker("default")

    await worker.finish(await worker.take())

    assert await told(scene) == []
    assert scene.queued("email") == []


async def test_failed_job_says_why_once_it_has_failed_for_good(scene: Scene) -> None:
    await submit(scene, ANA)
    worker = await scene.worker("default")

    await worker.retry(await worker.take(), 0.0)
    assert await told(scene) == []
    await worker.fail(await worker.take(), 'no "such" thing: ä\n')

    (mail,) = await told(scene)
    assert params(mail)["outcome"] == "failed"
    assert params(mail)["error"] == 'no "such" thing: ä\n'


async def test_abandoned_job_is_told_of_too(scene: Scene) -> None:
    await submit(scene, ANA)
    caretaker = scene.new_caretaker(abandoned_limit=1)
    worker = await scene.worker("default")
    await worker.take()
    scene.silence(worker)

    await scene.recover(caretaker)

    (mail,) = await told(scene)
    assert (params(mail)["outcome"], params(mail)["error"]) == (
        "failed", "Its worker died 1 times while running it",
    )  # fmt: skip
    await caretaker.aclose()


@pytest.mark.parametrize(("on", "count"), [(["finished", "failed"], 0), (["canceled"], 1)])
async def test_canceled_job_is_told_of_only_if_asked(
    scene: Scene, on: list[str], count: int
) -> None:
    parent = await scene.submit(submitted_by="shop")
    await submit(scene, ANA | {"on": on}, depends_on=[parent])
    worker = await scene.worker("default")

    await worker.fail(await worker.take())

    mails = await told(scene)
    assert [params(each)["reason"] for each in mails] == ["parent_failed"] * count


async def test_job_that_a_client_cancels_is_told_of_if_asked(scene: Scene) -> None:
    job_id = await submit(scene, ANA | {"on": ["canceled"]})
    control = Control(scene.client, scene.reachability)

    await control.cancel(job_id, "ops")
    await control.aclose()

    (mail,) = await told(scene)
    assert (params(mail)["outcome"], params(mail)["reason"]) == ("canceled", "requested")


async def test_late_outcome_tells_nobody(scene: Scene) -> None:
    await submit(scene, ANA)
    frozen, other = await scene.worker("default"), await scene.worker("default")
    held = await frozen.take()
    scene.silence(frozen)
    await scene.recover()
    await other.finish(await other.take())

    assert await frozen.finish(held) == "late"

    assert len(await told(scene)) == 1


async def test_reply_that_is_lost_tells_nobody_twice(
    redis_url: str, shared_valkey: ValkeyServer
) -> None:
    network = LossyNetwork(shared_valkey.port)
    await network.open()
    async with scene_on(redis_url, network) as scene:
        await submit(scene, ANA)
        worker = await scene.worker("default")
        held = await worker.take()
        network.lose_replies()

        assert await worker.finish(held) == "done"

        assert len(await told(scene)) == 1
    await network.close()


async def test_job_that_is_not_kept_is_told_of_all_the_same(scene: Scene) -> None:
    job_id = await submit(scene, ANA, retention=0)
    worker = await scene.worker("default")

    await worker.finish(await worker.take(), ttl=0)

    assert scene.status(job_id) is None
    (mail,) = await told(scene)
    assert params(mail)["job_id"] == job_id


async def test_no_budget_and_no_full_memory_keeps_it_back(valkey: ValkeyServer) -> None:
    async with scene_on(valkey.url) as scene:
        await submit(scene, ANA)
        worker = await scene.worker("default")
        held = await worker.take()
        scene.redis.config_set("maxmemory", 1)

        assert await worker.finish(held) == "done"

        assert len(scene.queued("email")) == 1


async def test_batches_and_scheduled_jobs_have_it_too(scene: Scene) -> None:
    drafts = [drafted(ANA), drafted(ANA)]
    await scene.submitter.submit_batch("b" * 35, drafts)
    worker = await scene.worker("default")

    for claimed in (await worker.claim()).jobs:
        await worker.finish(claimed)

    assert {params(each)["job_id"] for each in await told(scene)} == {each.id for each in drafts}


async def test_dry_run_builds_the_mail_only(scene: Scene) -> None:
    await submit(scene, ANA, dry_run=True)
    worker = await scene.worker("default")

    await worker.finish(await worker.take())

    (mail,) = await told(scene)
    assert mail.dry_run


async def test_broken_wish_keeps_no_job_from_its_end(scene: Scene) -> None:
    job_id = await submit(scene, ANA)
    scene.redis.hset(f"rq:job:{job_id}", "x_notify", json.dumps({"on": 7}))
    worker = await scene.worker("default")

    assert await worker.finish(await worker.take()) == "done"

    assert scene.status(job_id) == "finished"


@pytest.mark.parametrize(
    "key", ["rq:recado:i:all", "rq:recado:i:by:shop", "rq:recado:indexes", "rq:queue:email"]
)
async def test_job_that_cannot_be_made_whole_is_not_made_and_its_job_ends(
    scene: Scene, key: str
) -> None:
    job_id = await submit(scene, ANA)
    neighbour = await scene.submit()
    worker = await scene.worker("default")
    claimed, _ = (await worker.claim()).jobs
    scene.redis.delete(key)
    scene.redis.set(key, "something else")

    assert await worker.finish(claimed) == "done"

    jobs = {each for each in scene.stored() if each.startswith("rq:job:")}
    assert jobs == {f"rq:job:{job_id}", f"rq:job:{neighbour}"}
    assert scene.status(job_id) == "finished"
    lists = [each for each in scene.redis.keys("rq:recado:i:*") if each != key]
    assert {member for each in lists for member in scene.redis.zrange(each, 0, -1)} <= {
        job_id, neighbour,
    }  # fmt: skip


async def test_count_of_bytes_that_is_something_else_keeps_no_mail_back(scene: Scene) -> None:
    await submit(scene, ANA)
    worker = await scene.worker("default")
    claimed = await worker.take()
    scene.redis.hset("rq:recado:bytes", "email", "no number")

    await worker.finish(claimed)

    (mail,) = await told(scene)
    assert scene.queued("email") == [mail.id]
