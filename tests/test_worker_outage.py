"""Redis goes away, comes back, forgets: the worker stays, and no job is lost or counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from pathlib import Path

import pytest
import redis

from app.queue.asking import ask
from app.queue.connection import Reachability, connect
from app.queue.errors import QueueUnavailableError
from app.queue.records.drafts import JobDraft
from app.queue.transitions import Caretaker
from app.queue.upkeep import Upkeep
from tests.conftest import ValkeyServer, poll_until
from tests.harness import (
    ROOT,
    WorkerProcess,
    draft,
    journal,
    seem_dead,
    submit,
    view,
    wait_for_journal,
    wait_until_ended,
    worker,
)
from tests.smtp_server import server_tls

KINDS = ["test.wait", "test.wait_process"]


def waiting(job_type: str, folder: Path) -> JobDraft:
    return draft(job_type, journal=str(folder / "journal"), gate=str(folder / "gate"))


def said(process: WorkerProcess) -> dict[str, int]:
    """How often the worker said that Redis went, and that it came back."""
    text = process.log.read_text()
    return {word: text.count(word) for word in ("redis_unreachable", "redis_back")}


def wait_until_said(process: WorkerProcess, word: str) -> None:
    poll_until(lambda: said(process)[word] > 0, what=f"the worker says {word}")


def restart(valkey: ValkeyServer) -> None:
    valkey.kill()
    valkey.start()


@pytest.mark.parametrize("kind", KINDS)
def test_job_that_ran_through_an_outage_is_reported_once_by_the_same_worker(
    valkey: ValkeyServer, tmp_path: Path, kind: str
) -> None:
    with worker(valkey.url, tmp_path) as process:
        waiting_ids = submit(valkey.url, draft("test.later", seconds=0.01), waiting(kind, tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        valkey.kill()
        wait_until_said(process, "redis_unreachable")
        (tmp_path / "gate").touch()
        wait_for_journal(tmp_path / "journal", "ran")

        valkey.start()
        jobs = wait_until_ended(valkey.url, *waiting_ids)

        assert [job.status for job in jobs] == ["finished", "finished"]
        assert [each.outcome for each in jobs[1].attempts] == ["finished"]
        assert [word for _, word, _, _ in journal(tmp_path / "journal")] == ["began", "ran"]
        wait_until_said(process, "redis_back")
        # Every connection of it is in use again by then.
        after = submit(valkey.url, draft("test.fail_once"), draft("test.note_process"))
        assert {job.status for job in wait_until_ended(valkey.url, *after)} == {"finished"}
        with redis.Redis.from_url(valkey.url) as client:
            (key,) = client.smembers("rq:workers")
            assert client.hget(key, "pid") == str(process.pid).encode()
            assert client.hget(key, "successful_job_count") == b"4"
        assert process.stop() == 0
        assert said(process) == {"redis_unreachable": 1, "redis_back": 1}


def test_acknowledged_jobs_survive_a_killed_redis(valkey: ValkeyServer, tmp_path: Path) -> None:
    made = [draft("test.note", journal=str(tmp_path / "journal")) for _ in range(200)]
    made += [draft("test.note_process", journal=str(tmp_path / "journal")) for _ in range(5)]
    scheduled = draft("test.note", journal=str(tmp_path / "journal"))
    scheduled.delay_seconds = 0.5
    job_ids = submit(valkey.url, *made, scheduled)
    restart(valkey)
    with worker(valkey.url, tmp_path) as process:
        poll_until(lambda: len(journal(tmp_path / "journal")) > 20, what="some have run")
        restart(valkey)
        jobs = wait_until_ended(valkey.url, *job_ids)
        assert process.process.poll() is None

    assert {job.status for job in jobs} == {"finished"}
    assert Counter(len(job.attempts) for job in jobs) == {1: len(jobs)}
    runs = Counter(job_id for job_id, _, _, _ in journal(tmp_path / "journal"))
    assert set(runs.values()) == {1}


def test_scripts_that_redis_forgot_are_given_again(redis_url: str, tmp_path: Path) -> None:
    with worker(redis_url, tmp_path) as process, redis.Redis.from_url(redis_url) as client:
        for _ in range(3):
            client.script_flush()
            job_ids = submit(redis_url, draft("test.fail_once"), draft("test.note_process"))
            jobs = wait_until_ended(redis_url, *job_ids)
            assert {job.status for job in jobs} == {"finished"}
        assert said(process) == {"redis_unreachable": 0, "redis_back": 0}
        assert process.stop() == 0


def test_worker_that_redis_forgot_registers_again(redis_url: str, tmp_path: Path) -> None:
    with worker(redis_url, tmp_path) as process, redis.Redis.from_url(redis_url) as client:
        client.flushall()

        (job_id,) = submit(redis_url, draft("test.note"))
        (job,) = wait_until_ended(redis_url, job_id)

        assert job.result["pid"] == process.pid
        assert client.scard("rq:workers") == 1
        assert client.zcard("rq:recado:beats") == 1


def test_worker_that_must_leave_during_an_outage_does(valkey: ValkeyServer, tmp_path: Path) -> None:
    with worker(valkey.url, tmp_path, "--grace", "0.5") as process:
        (job_id,) = submit(valkey.url, waiting("test.wait_process", tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        valkey.kill()
        wait_until_said(process, "redis_unreachable")

        assert process.stop() == 0

    valkey.start()
    assert view(valkey.url, job_id).status == "started"
    (tmp_path / "gate").touch()
    seem_dead(valkey.url, process.pid)
    with worker(valkey.url, tmp_path):
        (job,) = wait_until_ended(valkey.url, job_id)
    assert [each.outcome for each in job.attempts] == ["abandoned", "finished"]


def test_outcome_is_reported_when_redis_is_back_before_the_worker_has_left(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    with worker(valkey.url, tmp_path) as process:
        (job_id,) = submit(valkey.url, waiting("test.wait", tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        valkey.kill()
        wait_until_said(process, "redis_unreachable")
        process.process.send_signal(signal.SIGTERM)
        poll_until(lambda: "worker_stopping" in process.log.read_text(), what="it is leaving")
        (tmp_path / "gate").touch()
        wait_for_journal(tmp_path / "journal", "ran")
        valkey.start()

        assert process.process.wait(timeout=30) == 0

    assert [each.outcome for each in view(valkey.url, job_id).attempts] == ["finished"]


def test_worker_leaves_beside_a_redis_that_hangs(valkey: ValkeyServer, tmp_path: Path) -> None:
    assert valkey.process is not None
    with worker(valkey.url, tmp_path, "--grace", "0.2", "--concurrency", "100") as process:
        # More outcomes than one call of `end` could tell.
        kinds = ["test.wait"] * 70 + ["test.wait_process"]
        job_ids = submit(valkey.url, *(waiting(kind, tmp_path) for kind in kinds))
        wait_for_journal(tmp_path / "journal", "began", len(kinds))
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            # In good order: late, it would be ended by its alarm, which is another status.
            assert process.stop() == 0
        finally:
            valkey.process.send_signal(signal.SIGCONT)

    (tmp_path / "gate").touch()
    seem_dead(valkey.url, process.pid)
    with worker(valkey.url, tmp_path):
        jobs = wait_until_ended(valkey.url, *job_ids)
    assert {job.status for job in jobs} == {"finished"}
    assert {len(job.attempts) for job in jobs} == {2}


def test_outage_longer_than_a_silence_takes_no_job_from_anybody(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    with worker(valkey.url, tmp_path) as first:
        (job_id,) = submit(valkey.url, waiting("test.wait", tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        with worker(valkey.url, tmp_path / "second") as second:
            with redis.Redis.from_url(valkey.url) as client:
                seconds, _ = client.time()
                long_ago_ms = (seconds - 60) * 1000
                valkey_names = client.zrange("rq:recado:beats", 0, -1)
                for process in (first, second):
                    process.process.send_signal(signal.SIGSTOP)
                # As it stands when Redis has been away for a minute and is back.
                for name in valkey_names:
                    client.zadd("rq:recado:beats", {name: long_ago_ms})
                client.set("rq:recado:recovered_at", long_ago_ms)
            second.process.send_signal(signal.SIGCONT)  # it is the first to look
            with redis.Redis.from_url(valkey.url) as client:
                poll_until(
                    lambda: int(client.get("rq:recado:recovered_at") or 0) > long_ago_ms,
                    what="the second worker has looked",
                )
            first.process.send_signal(signal.SIGCONT)
            (tmp_path / "gate").touch()
            (job,) = wait_until_ended(valkey.url, job_id)

    assert [each.outcome for each in job.attempts] == ["finished"]


async def test_upkeep_asks_an_unreachable_redis_twice_a_second_and_no_more() -> None:
    asked = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = connect(f"redis://127.0.0.1:{port}/0")
    caretaker = Caretaker(client, Reachability(), abandoned_limit=5, failure_retention_seconds=3600)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.2):
            await Upkeep(caretaker).run()

    assert 1 <= asked <= 4
    await caretaker.aclose()
    await client.aclose()
    server.close()
    await server.wait_closed()


async def test_certificate_of_redis_that_nobody_vouches_for_is_named() -> None:
    """As Heroku's, without ?ssl_cert_reqs=none."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls())
    client = connect(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    with pytest.raises(QueueUnavailableError) as caught:
        await ask(client.ping(), Reachability())
    await client.aclose()
    server.close()
    await server.wait_closed()

    assert "certificate is not trusted" in caught.value.reason
    assert "ssl_cert_reqs=none" in caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_worker_that_cannot_claim_ends_its_runs_before_others_get_them(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    with worker(redis_url, tmp_path) as process, redis.Redis.from_url(redis_url) as client:
        (held,) = submit(redis_url, waiting(kind, tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        (key,) = client.smembers("rq:workers")
        client.hset(key, "x_claim", "no number")
        (next_one,) = submit(redis_url, draft("test.note"))

        assert process.process.wait(timeout=30.0) == 1

        log = process.log.read_text()
        assert log.count("worker_broke") == 1
        assert "Traceback" not in log
        # Told by the run itself: it had ended when the worker left.
        assert log.index("job_interrupted") < log.index("worker_stopped")
        assert "late" not in log
        assert client.scard("rq:workers") == 0
        assert {view(redis_url, each).status for each in (held, next_one)} == {"queued"}
    (tmp_path / "gate").touch()
    with worker(redis_url, tmp_path):
        jobs = wait_until_ended(redis_url, held, next_one)

    assert [each.outcome for each in jobs[0].attempts] == ["interrupted", "finished"]
    assert [each.outcome for each in jobs[1].attempts] == ["finished"]
    assert [word for _, word, _, _ in journal(tmp_path / "journal")].count("ran") == 1


@pytest.mark.parametrize(
    ("times", "told"),
    [(1, ["finished"]), (2, ["retry", "finished"]), (3, ["interrupted", "finished"])],
)
def test_outcome_that_cannot_be_told_is_told_again_and_then_costs_a_run(
    redis_url: str, tmp_path: Path, times: int, told: list[str]
) -> None:
    """Whatever the fault: a worker that goes on holding it would keep it `started` for good."""
    (tmp_path / "faulty.py").write_text(
        "from app.queue.transitions import WorkerTransitions\n"
        "tell = WorkerTransitions._send_together\n"
        f"left = [RuntimeError('nobody foresaw this')] * {times}\n"
        "async def fail_first(self, batch):\n"
        "    if left:\n"
        "        raise left.pop()\n"
        "    return await tell(self, batch)\n"
        "WorkerTransitions._send_together = fail_first\n"
    )
    environment = {"JOB_MODULES": "tests.job_types,faulty", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with worker(redis_url, tmp_path, **environment) as process:
        (job_id,) = submit(redis_url, draft("test.note"))
        (job,) = wait_until_ended(redis_url, job_id)
        assert process.stop() == 0

    assert job.status == "finished"
    assert [each.outcome for each in job.attempts] == told
    assert "nobody foresaw this" in process.log.read_text()
