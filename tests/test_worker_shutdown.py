"""How a worker goes: asked to, hurried, killed or frozen; and what becomes of what it ran."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from tests.chaos.proxy import CuttingProxy
from tests.conftest import ValkeyServer, poll_until
from tests.harness import (
    Service,
    WorkerProcess,
    children_of,
    draft,
    is_running,
    journal,
    seem_dead,
    service,
    submit,
    view,
    wait_for_journal,
    wait_until_ended,
    worker,
)

KINDS = ["test.wait", "test.wait_process"]


@dataclass(frozen=True)
class Killed:
    """A worker that was killed at its work, while another stood by."""

    service: Service
    job_ids: list[str]
    at: datetime


@pytest.fixture(scope="module", autouse=True)
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """Killed before the other tests of this file, which pass the time that it takes."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "second").mkdir()
    with service(folder) as running:
        job_ids = submit(running.url, *(waiting(kind, folder) for kind in KINDS))
        wait_for_journal(folder / "journal", "began", 2)
        with worker(running.url, folder / "second"):
            with redis.Redis.from_url(running.url) as client:
                seconds, micros = client.time()
            running.worker.kill()
            (folder / "gate").touch()
            yield Killed(running, job_ids, datetime.fromtimestamp(seconds + micros / 1e6, UTC))


def waiting(job_type: str, folder: Path, name: str = "gate") -> JobDraft:
    """A job that goes on when the file is there, and has one attempt only."""
    made = draft(job_type, journal=str(folder / "journal"), gate=str(folder / name))
    made.max_attempts = 1
    return made


def outcomes(job: JobView) -> list[str | None]:
    return [each.outcome for each in job.attempts]


def kept_of(url: str, job_id: str) -> tuple[dict[str, Any], list[str]]:
    """All that Redis keeps of the job and of where it stands, and its trail apart."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        record: dict[str, Any] = dict(client.hgetall(f"rq:job:{job_id}"))
        trail = str(record.pop("x_trail")).splitlines()
        kept = {"record": record, "results": client.xrange(f"rq:results:{job_id}")}
        for registry in ("finished", "failed", "canceled", "wip", "scheduled"):
            kept[registry] = client.zrange(f"rq:{registry}:default", 0, -1, withscores=True)
        kept["queue"] = client.lrange("rq:queue:default", 0, -1)
        kept["executions"] = sorted(client.keys("rq:execution*"))
        return kept, trail


def ran(folder: Path) -> list[tuple[str, int]]:
    """Job id and attempt of each run that came to its end."""
    return [(job_id, n) for job_id, word, n, _ in journal(folder / "journal") if word == "ran"]


def wait_for_log(process: WorkerProcess, text: str) -> None:
    poll_until(lambda: text in process.log.read_text(), what=f"{text!r} in the worker's log")


def wait_for_status(url: str, job_id: str, status: str) -> None:
    poll_until(lambda: view(url, job_id).status == status, what=f"{job_id} is {status}")


# Asked to go


def test_sigterm_lets_what_runs_finish_and_takes_nothing_new(
    redis_url: str, tmp_path: Path
) -> None:
    with worker(redis_url, tmp_path) as process:
        running_ids = submit(redis_url, *(waiting(kind, tmp_path) for kind in KINDS))
        wait_for_journal(tmp_path / "journal", "began", 2)
        process.process.send_signal(signal.SIGTERM)
        wait_for_log(process, "worker_stopping")
        (late_id,) = submit(redis_url, draft("test.note"))
        (tmp_path / "gate").touch()

        assert process.process.wait(timeout=30) == 0

    assert [outcomes(view(redis_url, each)) for each in running_ids] == [["finished"]] * 2
    assert view(redis_url, late_id).status == "queued"
    with redis.Redis.from_url(redis_url) as client:
        assert client.scard("rq:workers") == 0
        assert client.zcard("rq:recado:beats") == 0
        assert list(client.scan_iter("rq:workers:*")) == []


async def test_claim_that_arrives_when_the_worker_is_leaving_is_given_back_unbegun(
    shared_valkey: ValkeyServer, redis_url: str, tmp_path: Path
) -> None:
    proxy = CuttingProxy(shared_valkey.port)
    await proxy.start()
    process = WorkerProcess(proxy.url, tmp_path / "worker.log")
    try:
        await asyncio.to_thread(process.wait_until_ready)
        made = waiting("test.wait", tmp_path)
        proxy.hold(made.id.encode())
        (job_id,) = await asyncio.to_thread(submit, redis_url, made)
        await asyncio.to_thread(wait_for_status, redis_url, job_id, "started")
        process.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for_log, process, "worker_stopping")
        proxy.release()

        assert await asyncio.to_thread(process.process.wait, 30) == 0
    finally:
        process.end()
        await proxy.close()

    job = await asyncio.to_thread(view, redis_url, job_id)
    assert (job.status, outcomes(job)) == ("queued", ["interrupted"])
    assert journal(tmp_path / "journal") == []


def test_idle_worker_leaves_at_once_without_waiting_for_its_grace(
    redis_url: str, tmp_path: Path
) -> None:
    with worker(redis_url, tmp_path, "--grace", "600") as process:
        assert process.stop() == 0
        assert "worker_stopped" in process.log.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_after_its_grace_a_job_goes_back_in_front_and_uses_up_no_attempt(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    slots = ["--concurrency", "1", "--processes", "1"]
    with worker(redis_url, tmp_path, *slots, "--grace", "0.2") as process:
        job_ids = submit(redis_url, *(waiting(kind, tmp_path) for _ in range(3)))
        (pid,) = wait_for_journal(tmp_path / "journal", "began")
        assert process.stop() == 0
    assert not is_running(pid)
    first, *others = job_ids
    assert view(redis_url, first).status == "queued"
    assert outcomes(view(redis_url, first)) == ["interrupted"]

    (tmp_path / "gate").touch()
    with worker(redis_url, tmp_path, *slots):
        job, *_ = wait_until_ended(redis_url, *job_ids)

    assert job.status == "finished"
    assert outcomes(job) == ["interrupted", "finished"]
    assert job.result["recovered"] is True
    assert ran(tmp_path) == [(first, 2), *((other, 1) for other in others)]


def test_interrupted_job_runs_elsewhere_at_once(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with worker(redis_url, tmp_path, "--grace", "0.2") as process:
        job_ids = submit(redis_url, *(waiting(kind, tmp_path) for kind in KINDS))
        wait_for_journal(tmp_path / "journal", "began", 2)
        with worker(redis_url, tmp_path / "second"):
            assert process.stop() == 0
            wait_for_journal(tmp_path / "journal", "began", 4)
            (tmp_path / "gate").touch()
            jobs = wait_until_ended(redis_url, *job_ids)

    for job in jobs:
        assert outcomes(job) == ["interrupted", "finished"]
        assert job.attempts[0].worker != job.attempts[1].worker


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_cuts_the_grace_short(
    redis_url: str, tmp_path: Path, second: signal.Signals
) -> None:
    with worker(redis_url, tmp_path, "--grace", "600") as process:
        job_ids = submit(redis_url, *(waiting(kind, tmp_path) for kind in KINDS))
        wait_for_journal(tmp_path / "journal", "began", 2)
        process.process.send_signal(signal.SIGTERM)
        wait_for_log(process, "worker_stopping")

        process.process.send_signal(second)
        assert process.process.wait(timeout=30) == 0

    for job in (view(redis_url, each) for each in job_ids):
        assert job.status == "queued"
        assert outcomes(job) == ["interrupted"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_every_process_at_once_is_the_workers_to_answer(
    redis_url: str, tmp_path: Path, how: signal.Signals
) -> None:
    """As a platform stops a container, and a terminal its foreground at Ctrl-C."""
    with worker(redis_url, tmp_path) as process:
        (job_id,) = submit(redis_url, waiting("test.wait_process", tmp_path))
        (pid,) = wait_for_journal(tmp_path / "journal", "began")
        for each in (pid, *children_of(process.pid), process.pid):
            os.kill(each, how)
        wait_for_log(process, "worker_stopping")
        (tmp_path / "gate").touch()

        assert process.process.wait(timeout=30) == 0

    assert outcomes(view(redis_url, job_id)) == ["finished"]
    assert len(journal(tmp_path / "journal")) == 2


def test_signal_does_not_end_the_nursery_while_it_starts(redis_url: str, tmp_path: Path) -> None:
    process = WorkerProcess(redis_url, tmp_path / "worker.log")
    try:
        poll_until(lambda: children_of(process.pid), what="the nursery is there")
        (nursery,) = children_of(process.pid)
        os.kill(nursery, signal.SIGTERM)
        process.wait_until_ready()
        (job_id,) = submit(redis_url, draft("test.note_process"))
        (job,) = wait_until_ended(redis_url, job_id)

        assert outcomes(job) == ["finished"]
        assert children_of(process.pid) == [nursery]
    finally:
        process.end()


def test_coroutine_that_swallows_its_cancellation_does_not_keep_the_worker(
    redis_url: str, tmp_path: Path
) -> None:
    made = draft("test.swallow", journal=str(tmp_path / "journal"), gate=str(tmp_path / "never"))
    with worker(redis_url, tmp_path, "--grace", "0.1") as process:
        (job_id,) = submit(redis_url, made)
        wait_for_journal(tmp_path / "journal", "began")

        assert process.stop() == 0

    assert outcomes(view(redis_url, job_id)) == ["interrupted"]


def test_worker_whose_loop_is_blocked_is_gone_soon_after_its_grace(
    redis_url: str, tmp_path: Path
) -> None:
    made = draft("test.block", journal=str(tmp_path / "journal"), seconds=600)
    with worker(redis_url, tmp_path, "--grace", "0") as process:
        submit(redis_url, made)
        wait_for_journal(tmp_path / "journal", "began")

        assert process.stop() == -signal.SIGALRM


# Frozen


def test_frozen_worker_lets_go_of_what_another_took_over(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with worker(redis_url, tmp_path) as frozen:
        job_ids = submit(redis_url, *(waiting(kind, tmp_path) for kind in KINDS))
        pids = wait_for_journal(tmp_path / "journal", "began", 2)
        frozen.process.send_signal(signal.SIGSTOP)
        with worker(redis_url, tmp_path / "second"):
            seem_dead(redis_url, frozen.pid)
            wait_for_journal(tmp_path / "journal", "began", 4)

            frozen.process.send_signal(signal.SIGCONT)
            poll_until(
                lambda: frozen.log.read_text().count("job_outcome_late") == 2,
                what="the frozen worker lets both go",
            )
            (child,) = set(pids) - {frozen.pid}
            poll_until(lambda: not is_running(child), what="its child is gone")
            (tmp_path / "gate").touch()
            jobs = wait_until_ended(redis_url, *job_ids)

    assert [outcomes(job) for job in jobs] == [["abandoned", "finished"]] * 2
    assert sorted(ran(tmp_path)) == sorted((job_id, 2) for job_id in job_ids)


def test_worker_that_redis_forgot_while_it_drains_lets_go_of_what_it_runs(
    redis_url: str, tmp_path: Path
) -> None:
    """Others have taken that over: its grace would be a second run beside theirs."""
    with worker(redis_url, tmp_path, "--grace", "300") as process:
        submit(redis_url, *(waiting(kind, tmp_path) for kind in KINDS))
        wait_for_journal(tmp_path / "journal", "began", 2)
        process.process.send_signal(signal.SIGTERM)
        wait_for_log(process, "worker_stopping")

        with redis.Redis.from_url(redis_url) as client:
            client.flushall()

        assert process.process.wait(timeout=60) == 0
        assert process.log.read_text().count("job_outcome_late") == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("silence", ["as if", pytest.param("real", marks=pytest.mark.slow)])
def test_outcome_of_a_frozen_worker_comes_too_late_to_change_anything_but_the_trail(
    redis_url: str, tmp_path: Path, kind: str, silence: str
) -> None:
    (tmp_path / "second").mkdir()
    with worker(redis_url, tmp_path) as frozen:
        (job_id,) = submit(redis_url, waiting(kind, tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        frozen.process.send_signal(signal.SIGSTOP)
        (tmp_path / "gate").touch()  # it will go on with the job the moment it wakes
        with worker(redis_url, tmp_path / "second") as second:
            if silence == "as if":
                seem_dead(redis_url, frozen.pid)
            wait_until_ended(redis_url, job_id)
            assert second.stop() == 0
        before, trail = kept_of(redis_url, job_id)
        frozen.process.send_signal(signal.SIGCONT)
        wait_for_log(frozen, "job_outcome_late")

        after = view(redis_url, job_id)
        assert (after.status, after.attempt) == ("finished", 2)
        assert outcomes(after) == ["abandoned", "finished"]
        now, longer = kept_of(redis_url, job_id)
        assert now == before
        assert longer[: len(trail)] == trail
        assert [line.split('"')[1] for line in longer[len(trail) :]] in ([], ["late"])
        # Buried meanwhile, it registers again and goes on.
        (next_id,) = submit(redis_url, draft("test.note"))
        (job,) = wait_until_ended(redis_url, next_id)
        assert job.result["pid"] == frozen.pid
        assert frozen.stop() == 0


# Killed


def test_job_of_a_killed_worker_is_running_elsewhere_within_15_seconds(killed: Killed) -> None:
    jobs = wait_until_ended(killed.service.url, *killed.job_ids, seconds=20)

    for job in jobs:
        assert job.status == "finished"
        assert outcomes(job) == ["abandoned", "finished"]
        assert job.attempt == 2
        assert job.result["recovered"] is True
        assert 0 < (job.attempts[1].started_at - killed.at).total_seconds() <= 15


def test_worker_that_is_killed_while_it_drains_loses_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    with worker(redis_url, tmp_path) as process:
        (job_id,) = submit(redis_url, waiting("test.wait", tmp_path))
        wait_for_journal(tmp_path / "journal", "began")
        process.process.send_signal(signal.SIGTERM)
        wait_for_log(process, "worker_stopping")
        pid = process.pid
        process.kill()
    (tmp_path / "gate").touch()
    seem_dead(redis_url, pid)
    with worker(redis_url, tmp_path):
        (job,) = wait_until_ended(redis_url, job_id)

    assert outcomes(job) == ["abandoned", "finished"]


def test_nothing_of_a_worker_is_left_after_it_went(redis_url: str, tmp_path: Path) -> None:
    with worker(redis_url, tmp_path) as process:
        (job_id,) = submit(redis_url, waiting("test.wait_process", tmp_path))
        pids = wait_for_journal(tmp_path / "journal", "began") + children_of(process.pid)
        (tmp_path / "gate").touch()
        wait_until_ended(redis_url, job_id)
        assert process.stop() == 0

    assert not any(map(is_running, pids))
