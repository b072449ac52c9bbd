"""Jobs that wait for nothing go by a quicker script: nothing that anyone sees may differ."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from app.http.accepted import render_accepted
from app.http.answers import render
from app.http.showing import show_job
from app.http.submissions import view_of
from app.queue import scripts
from app.queue.calling import run_script
from app.queue.claimed import read_call
from app.queue.errors import IdempotencyMismatchError, QueueUnavailableError
from app.queue.packing import pack
from app.queue.records.drafts import Idempotency, JobDraft
from app.queue.submitting import Submitter
from jobs.catalog import CATALOG, Backoff
from tests.harness import draft
from tests.heart_scene import Scene, scene_on, submit_arguments

TIMES = ("created_at", "enqueued_at", "x_trail")


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


def stored(scene: Scene, job_id: str) -> dict[str, Any]:
    """All that Valkey holds, the job's id and times taken out."""
    found: dict[str, Any] = {}
    for key in sorted(scene.stored()):
        kind = scene.redis.type(key)
        if key.startswith("rq:recado:submitter:"):
            continue
        value: Any = {
            "hash": scene.redis.hgetall,
            "list": lambda each: scene.redis.lrange(each, 0, -1),
            "zset": lambda each: scene.redis.zrange(each, 0, -1, withscores=True),
            "set": lambda each: sorted(scene.redis.smembers(each)),
        }[kind](key)
        if kind == "hash":
            value = sorted(pair for pair in value.items() if pair[0] not in TIMES)
        found[key.replace(job_id, "<id>")] = repr(value).replace(job_id, "<id>")
    return found


async def send_plain(scene: Scene, submitted: JobDraft) -> Any:
    packed = pack(submitted)
    assert packed.form is not None
    arguments = ["client", 1, 10**6, 10**12, 1, packed.form, 1, submitted.id]
    arguments += [submitted.request_id, packed.data, "", ""]
    return await run_script(scene.lane, scripts.SUBMIT_PLAIN, *arguments)


@pytest.mark.parametrize("priority", ["default", "high"])
async def test_quick_way_leaves_what_the_long_way_leaves(scene: Scene, priority: Any) -> None:
    long, quick = (replace(draft("test.note", note="é\n"), priority=priority) for _ in range(2))
    await run_script(scene.lane, scripts.SUBMIT, *submit_arguments(long))
    expected = stored(scene, long.id)
    words = scene.trail(long.id)
    scene.redis.flushdb()

    _, answers = await send_plain(scene, quick)

    assert answers == 1
    assert stored(scene, quick.id) == expected
    assert scene.trail(quick.id) == words


async def test_only_what_differs_from_the_type_is_recorded(scene: Scene) -> None:
    usual = draft("test.note")
    other = replace(draft("test.note"), backoff=Backoff(initial=77), max_attempts=9)
    for submitted in (usual, other):
        await scene.submitter.submit(submitted)

        found = await scene.view(submitted.id)
        assert (found.backoff, found.max_attempts) == (submitted.backoff, submitted.max_attempts)
        for field in ("x_backoff", "x_max"):
            is_recorded = scene.redis.hexists(f"rq:job:{submitted.id}", field)
            assert is_recorded == (submitted is other)

    claims = (await (await scene.worker()).claim()).jobs
    calls = [read_call(each, CATALOG) for each in claims]
    assert [call.backoff for call in calls] == [usual.backoff, other.backoff]
    assert [call.max_attempts for call in calls] == [usual.max_attempts, 9]


async def test_call_of_the_quick_way_that_comes_again_changes_nothing(scene: Scene) -> None:
    submitted = draft("test.note")
    first = await send_plain(scene, submitted)
    actor = await scene.worker()
    await actor.finish(await actor.take(), ttl=0)

    again = await send_plain(scene, submitted)

    assert again == first
    assert scene.queued() == []
    assert scene.status(submitted.id) is None


@pytest.mark.parametrize(
    "key",
    [
        "rq:queue:default", "rq:scheduled:default", "rq:deferred:default", "rq:queues",
        "rq:recado:i:all", "rq:recado:i:type:test.note",
        "rq:recado:i:by:shop", "rq:recado:indexes",
    ],
)  # fmt: skip
async def test_nothing_is_written_where_a_key_is_something_else(scene: Scene, key: str) -> None:
    scene.redis.set(key, "somebody's")

    with pytest.raises(QueueUnavailableError):
        await scene.submit()

    assert not [each for each in scene.stored() if each.startswith("rq:job:")]
    assert scene.redis.get(key) == "somebody's"


async def test_quick_way_keeps_to_the_depth_that_a_queue_may_have(scene: Scene) -> None:
    submitter = Submitter(scene.client, scene.reachability, most_queued=2)
    try:
        for _ in range(2):
            await submitter.submit(draft("test.note"))

        with pytest.raises(QueueUnavailableError, match="too many jobs wait in queue default"):
            await submitter.submit(draft("test.note"))
    finally:
        await submitter.aclose()

    assert len(scene.queued()) == 2


async def test_quick_way_keeps_to_the_bytes_that_a_queue_may_have(scene: Scene) -> None:
    submitter = Submitter(scene.client, scene.reachability, most_queued_bytes=5000)
    try:
        await submitter.submit(draft("test.note", note="x" * 3000))

        with pytest.raises(QueueUnavailableError, match="too many bytes wait in queue default"):
            await submitter.submit(draft("test.note", note="x" * 3000))
    finally:
        await submitter.aclose()

    assert len(scene.queued()) == 1


async def test_repeated_key_makes_one_job_the_quick_way(scene: Scene) -> None:
    first, second, other = (draft("test.note") for _ in range(3))
    first_id = first.id
    assert not await scene.submitter.submit(first, Idempotency("key", "fingerprint"))

    replayed = await scene.submitter.submit(second, Idempotency("key", "fingerprint"))
    with pytest.raises(IdempotencyMismatchError):
        await scene.submitter.submit(other, Idempotency("key", "another"))

    assert replayed
    assert second.id == first_id
    assert scene.queued() == [first_id]


@pytest.mark.parametrize("warnings", [[], ["no live worker listens to queue default"]])
async def test_acknowledged_job_is_shown_as_any_other(scene: Scene, warnings: list[str]) -> None:
    submitted = draft("test.note")
    await scene.submitter.submit(submitted)

    quick = json.loads(render_accepted(submitted, warnings))

    assert quick == json.loads(render(show_job(view_of(submitted), warnings)))
    assert quick["links"]["self"] == f"/v1/jobs/{submitted.id}"
    assert quick["status"] == "queued"
