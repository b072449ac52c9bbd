"""Redis full or read-only, and large bodies: whole or not at all, and running jobs go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.queue import keys, scripts
from app.queue.calling import run_script
from app.queue.control import Control
from app.queue.errors import JobIdTakenError, QueueUnavailableError
from app.queue.packing import LARGE_BODY_BYTES
from app.queue.records.calls import encode_call
from app.queue.records.drafts import Upload, new_job_id
from app.queue.submitting import STAGED_SECONDS, Submitter
from app.queue.transitions import claim_arguments
from app.queue.uploads import UploadRecords
from tests.conftest import ValkeyServer, poll_until
from tests.harness import draft
from tests.heart_scene import RECOVERED_AT, Scene, scene_on, submit_arguments

LARGE = "x" * (LARGE_BODY_BYTES + 1)


@pytest.fixture
async def own(valkey: ValkeyServer) -> AsyncIterator[Scene]:
    """On a server of the test's own, which it may spoil."""
    async with scene_on(valkey.url) as scene:
        yield scene


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def test_full_server_takes_no_job_and_keeps_nothing_of_it(own: Scene) -> None:
    await own.submit()
    before = own.stored()
    own.redis.config_set("maxmemory", 1)

    with pytest.raises(QueueUnavailableError, match="full") as refused:
        await own.submit()
    with pytest.raises(QueueUnavailableError, match="full"):
        await own.submit(params={"message": LARGE})

    assert refused.value.retry_after_seconds > 2
    assert own.stored() == before
    assert len(own.queued()) == 1


async def test_full_server_still_runs_ends_recovers_and_promotes(own: Scene) -> None:
    held, running, waiting, retried = await own.submit_many(4)
    delayed = await own.submit(delay_seconds=0.001)
    silent, actor = await own.worker(), await own.worker()
    await silent.claim(coroutines=1)
    own.silence(silent)
    own.redis.set(RECOVERED_AT, own.now_ms())
    own.redis.config_set("maxmemory", 1)

    claims = {each.id: each for each in (await actor.claim(coroutines=3)).jobs}
    assert set(claims) == {running, waiting, retried}
    assert await actor.finish(claims[running], "ran") == "done"
    assert await actor.fail(claims[waiting]) == "done"
    assert await actor.retry(claims[retried], 0) == "done"
    assert (await actor.beat())[0] == b"ok"
    assert [each.id for each in (await own.caretaker.recover())[0]] == [held]
    promoted: list[str] = []
    while not promoted:
        promoted = [each.id for each in (await own.caretaker.promote())[0]]
    assert promoted == [delayed]
    assert own.queued() == [held, retried, delayed]
    newcomer = await own.worker()
    for each in (newcomer, actor):
        await each.transitions.death()
    assert own.redis.exists("rq:workers") == 0


@pytest.fixture
async def replica(own: Scene, tmp_path: Path) -> AsyncIterator[Scene]:
    """The own server as the read-only replica of another one."""
    folder = tmp_path / "primary"
    folder.mkdir()
    primary = ValkeyServer(folder, "--repl-diskless-sync-delay", "0")
    primary.start()
    try:
        own.redis.replicaof("127.0.0.1", str(primary.port))
        poll_until(
            lambda: own.redis.info("replication")["master_link_status"] == "up",
            what="the replica follows",
        )
        yield own
    finally:
        primary.kill()


async def test_read_only_replica_takes_nothing(replica: Scene) -> None:
    for params in ({}, {"message": LARGE}):
        with pytest.raises(QueueUnavailableError, match="read-only"):
            await replica.submit(params=params)
    drafts = [replace(draft("test.note"), id=new_job_id()) for _ in range(100)]
    with pytest.raises(QueueUnavailableError, match="read-only"):
        await replica.submitter.submit_batch(new_job_id(), drafts)
    with pytest.raises(QueueUnavailableError, match="read-only"):
        await UploadRecords(replica.client, replica.reachability).add(an_upload())
    with pytest.raises(QueueUnavailableError, match="read-only"):
        await Control(replica.client, replica.reachability).pause("default", "ops")
    assert replica.stored() == set()
    # The primary's place taken, the same submitter goes on.
    replica.redis.replicaof("NO", "ONE")
    job_id = await replica.submit()
    assert replica.queued() == [job_id]


async def test_refusal_of_the_server_is_told_at_once(replica: Scene) -> None:
    patient = Submitter(replica.client, replica.reachability, give_up_seconds=600)

    async with asyncio.timeout(30):
        with pytest.raises(QueueUnavailableError, match="read-only"):
            await patient.submit(draft("test.note"))
        replica.redis.replicaof("NO", "ONE")
        replica.redis.config_set("maxmemory", 1)
        with pytest.raises(QueueUnavailableError, match="full"):
            await patient.submit(draft("test.note"))
    await patient.aclose()


async def test_service_is_not_ready_where_nothing_can_be_written(replica: Scene) -> None:
    assert await replica.views.readiness([]) == [
        "Redis is a read-only replica: nothing can be written here"
    ]
    replica.redis.replicaof("NO", "ONE")
    assert await replica.views.readiness([]) == []
    replica.redis.config_set("maxmemory", 1)
    assert await replica.views.readiness([]) == ["Redis is full: no new jobs are taken"]
    used = replica.redis.info("memory")["used_memory"]
    replica.redis.config_set("maxmemory", int(used * 1.06))
    assert await replica.views.readiness([]) == ["Redis is nearly full: no new jobs are taken"]


async def test_service_is_not_ready_while_the_server_refuses_to_write_for_a_reason_of_its_own(
    own: Scene,
) -> None:
    own.redis.config_set("min-replicas-to-write", 1)
    assert await own.views.readiness([]) == ["Redis has too few replicas to take anything"]
    own.redis.config_set("min-replicas-to-write", 0)
    assert await own.views.readiness([]) == []

    own.redis.config_set("save", "3600 1")
    snapshot = Path(own.redis.config_get("dir")["dir"]) / "dump.rdb"
    snapshot.mkdir()
    own.redis.set("changed", "1")
    own.redis.bgsave()
    poll_until(
        lambda: own.redis.info("persistence")["rdb_last_bgsave_status"] == "err",
        what="a snapshot fails",
    )
    assert await own.views.readiness([]) == ["Redis cannot write to its disk"]
    with pytest.raises(QueueUnavailableError, match="cannot write to its disk"):
        await own.submit()
    snapshot.rmdir()


async def test_server_without_a_connection_for_us_says_so(own: Scene, valkey: ValkeyServer) -> None:
    async with scene_on(valkey.url) as late:
        hasty = Submitter(late.client, late.reachability, give_up_seconds=3.0)
        own.redis.config_set("maxclients", 1)

        with pytest.raises(QueueUnavailableError, match="no more connections"):
            await hasty.submit(draft("test.note"))
        assert await late.views.readiness([]) == ["Redis takes no more connections (maxclients)"]

        own.redis.config_set("maxclients", 100)
        await hasty.submit(draft("test.note"))
        await hasty.aclose()


async def test_act_after_the_server_closed_idle_connections_is_done(own: Scene) -> None:
    control = Control(own.client, own.reachability)
    await control.pause("default", "ops")

    own.redis.client_kill_filter(_type="normal", skipme=True)
    for _ in range(3):
        await own.views.readiness([])  # the end of the other connection is heard meanwhile
    await control.resume("default", "ops")

    assert await control.paused_queues() == []
    await control.aclose()


async def test_upload_is_refused_by_a_full_server_in_words(own: Scene) -> None:
    own.redis.config_set("maxmemory", 1)

    with pytest.raises(QueueUnavailableError, match="full"):
        await UploadRecords(own.client, own.reachability).add(an_upload())


def an_upload() -> Upload:
    now = datetime.now(UTC)
    return Upload(new_job_id(), 1, "0" * 64, "text/plain", None, "shop", now, now)


async def test_several_commands_at_once_are_refused_in_words_too(own: Scene) -> None:
    records = UploadRecords(own.client, own.reachability)
    own.redis.config_set("min-replicas-to-write", 1)

    for asking in (
        records.hold([("u" * 24, "j" * 24)], datetime.now(UTC)),
        records.remove("u" * 24),
        records.postpone("u" * 24, datetime.now(UTC)),
    ):
        with pytest.raises(QueueUnavailableError, match="too few replicas") as refused:
            await asking
        assert refused.value.retry_after_seconds > 2


async def test_job_is_refused_where_its_queue_is_something_else(scene: Scene) -> None:
    scene.redis.set("rq:queue:default", "not a queue")

    with pytest.raises(QueueUnavailableError):
        await scene.submit()

    assert not [key for key in scene.stored() if key.startswith("rq:job:")]
    assert scene.redis.get("rq:queue:default") == "not a queue"


async def test_counter_that_is_something_else_loses_no_job(scene: Scene) -> None:
    """What a claim counts is not worth a job that is in no place."""
    job_id = await scene.submit()
    minute = scene.now_ms() // 60_000
    for each in (minute, minute + 1):
        scene.redis.rpush(keys.claimed("default", each), "no number")
    actor = await scene.worker()

    claimed = await actor.take()

    assert claimed.id == job_id
    assert scene.members("wip") == [claimed.composite]
    scene.silence(actor)
    recovered, _ = await scene.recover()
    assert [each.id for each in recovered] == [job_id]
    assert scene.queued() == [job_id]


async def test_record_that_stands_already_is_not_overwritten(scene: Scene) -> None:
    for value in ("string", "hash"):
        taken = replace(draft("test.note"))
        if value == "string":
            scene.redis.set(f"rq:job:{taken.id}", "somebody's")
        else:
            scene.redis.hset(f"rq:job:{taken.id}", "status", "finished")
        before = scene.redis.dump(f"rq:job:{taken.id}")

        with pytest.raises(JobIdTakenError, match=taken.id):
            await scene.submitter.submit(taken)

        assert scene.redis.dump(f"rq:job:{taken.id}") == before
        assert scene.queued() == []


async def test_large_body_is_run_with_its_body_and_does_not_expire(scene: Scene) -> None:
    large, small = await scene.submit(params={"message": LARGE}), await scene.submit()
    assert scene.redis.ttl(f"rq:job:{large}") == -1
    actor = await scene.worker()

    claims = {each.id: each for each in (await actor.claim()).jobs}

    assert claims[large].fields["data"] == encode_call("test.note", {"message": LARGE})
    assert set(claims) == {large, small}
    again = await run_script(
        scene.lane,
        scripts.CLAIM,
        *claim_arguments(actor.name, actor.seq, coroutines=8, processes=0, queues=["default"]),
    )
    # The script itself answers without it, not to hold up the server.
    assert {job[0].decode() for job in again[1] if job[4][2] is None} == {large}
    assert await actor.finish(claims[large], ttl=0) == "done"


async def test_body_whose_submit_never_came_expires_and_is_no_job(scene: Scene) -> None:
    job_id = "b" * 24
    await run_script(scene.lane, scripts.STAGE, STAGED_SECONDS, 1, job_id, 2, "data", b"body")

    assert 0 < scene.redis.ttl(f"rq:job:{job_id}") <= STAGED_SECONDS
    assert scene.stored() == {f"rq:job:{job_id}"}
    assert scene.queued() == []


async def test_submit_whose_body_has_expired_is_no_job(scene: Scene) -> None:
    late = replace(draft("test.note"), params={"message": LARGE})

    _, (answer,) = await run_script(scene.lane, scripts.SUBMIT, *submit_arguments(late))

    assert answer[0] == -1
    assert scene.status(late.id) is None
    assert f"rq:job:{late.id}" not in scene.stored()
    assert scene.queued() == []


async def test_staging_again_does_not_touch_an_accepted_job(scene: Scene) -> None:
    job_id = await scene.submit(params={"message": LARGE})
    before = scene.redis.hget(f"rq:job:{job_id}", "data")

    await run_script(scene.lane, scripts.STAGE, STAGED_SECONDS, 1, job_id, 2, "data", b"other")

    assert scene.redis.hget(f"rq:job:{job_id}", "data") == before
    assert scene.redis.ttl(f"rq:job:{job_id}") == -1


async def test_many_submissions_at_once_are_all_accepted(scene: Scene) -> None:
    drafts = [
        replace(draft("test.note"), params={"message": LARGE if n % 50 == 0 else "y" * 5000})
        for n in range(200)
    ]

    await asyncio.gather(*(scene.submitter.submit(each) for each in drafts))

    assert sorted(scene.queued()) == sorted(each.id for each in drafts)
    assert {scene.redis.ttl(f"rq:job:{each.id}") for each in drafts} == {-1}
