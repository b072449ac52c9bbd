"""What a worker makes of a run: retried, failed or finished, and that it outlives them all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.queue.records.views import JobView
from jobs.catalog import Backoff
from tests.conftest import poll_until
from tests.harness import (
    Service,
    children_of,
    draft,
    is_running,
    journal,
    quick,
    service,
    submit,
    view,
    wait_for_journal,
    wait_until_ended,
    worker,
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str, Path]]:
    """A worker whose loop stands still for longer than a silence, while the others are tested.

    The worker that could take over is started once the first has the job.
    """
    folder = tmp_path_factory.mktemp("blocked")
    with service(folder) as running:
        made = draft("test.block", journal=str(folder / "journal"), seconds=12)
        (job_id,) = submit(running.url, made)
        wait_for_journal(folder / "journal", "began")
        (folder / "second").mkdir()
        with worker(running.url, folder / "second"):
            yield running, job_id, folder / "journal"


def wait_for_status(url: str, job_id: str, status: str) -> JobView:
    poll_until(lambda: view(url, job_id).status == status, what=f"the job is {status}")
    return view(url, job_id)


def outcomes(job: JobView) -> list[str | None]:
    return [each.outcome for each in job.attempts]


def waits(job: JobView) -> list[float]:
    """Seconds from the end of each run to the start of the next, by Redis' clock."""
    return [
        (later.started_at - earlier.ended_at).total_seconds()
        for earlier, later in zip(job.attempts, job.attempts[1:], strict=False)
        if earlier.ended_at is not None
    ]


# Retry


def test_wait_before_a_retry_keeps_to_backoff_and_jitter(here: Service) -> None:
    drafts = [draft("test.crash") for _ in range(20)]
    for each in drafts:
        each.backoff = Backoff(initial=100.0, factor=1.0, maximum=1000.0, jitter=0.5)

    jobs = [wait_for_status(here.url, each, "scheduled") for each in submit(here.url, *drafts)]

    planned = []
    for job in jobs:
        assert job.next_attempt_at is not None
        assert job.attempts[0].ended_at is not None
        planned.append((job.next_attempt_at - job.attempts[0].ended_at).total_seconds())
    assert all(49.9 < wait < 150.1 for wait in planned), planned
    assert max(planned) - min(planned) > 10, planned


def test_waits_grow_by_the_factor_up_to_the_maximum(here: Service) -> None:
    made = draft("test.crash")
    made.max_attempts = 5
    made.backoff = Backoff(initial=0.1, factor=3.0, maximum=0.5, jitter=0.0)

    (job,) = here.run(made)

    assert outcomes(job) == ["retry", "retry", "retry", "retry", "failed"]
    at_least = [0.1, 0.3, 0.5, 0.5]
    # The trail is kept in milliseconds.
    assert all(wait >= least - 0.002 for wait, least in zip(waits(job), at_least, strict=True))


@pytest.mark.parametrize("job_type", ["test.later", "test.later_process"])
def test_delay_of_retry_later_replaces_the_backoff(here: Service, job_type: str) -> None:
    (job_id,) = submit(here.url, draft(job_type, seconds=500.0))

    job = wait_for_status(here.url, job_id, "scheduled")

    assert job.next_attempt_at is not None
    assert job.attempts[0].ended_at is not None
    wait = (job.next_attempt_at - job.attempts[0].ended_at).total_seconds()
    assert wait == pytest.approx(500, abs=0.01)
    assert job.result == {"seen": 1}
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("retry", "later")


@pytest.mark.parametrize("job_type", ["test.later", "test.later_process"])
def test_next_attempt_gets_the_result_of_the_failed_one(here: Service, job_type: str) -> None:
    (job,) = here.run(draft(job_type, seconds=0.05))

    assert job.status == "finished"
    assert job.result["attempt"] == 2
    assert job.result["previous_result"] == {"seen": 1}
    assert job.error is None
    assert job.result["recovered"] is False


def test_permanent_error_fails_at_once_and_keeps_its_result(here: Service, tmp_path: Path) -> None:
    made = draft("test.permanent", journal=str(tmp_path / "journal"), message="no such box")

    (job,) = here.run(made)

    assert job.status == "failed"
    assert len(journal(tmp_path / "journal")) == 1
    assert outcomes(job) == ["failed"]
    assert job.result == {"kept": True}
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("refused", "no such box")
    assert (job.error.error_class, job.error.retryable) == ("PermanentError", False)


def test_any_other_exception_is_retried_and_then_told(here: Service) -> None:
    (job,) = here.run(draft("test.crash", message="the disk is round"))

    assert job.status == "failed"
    assert outcomes(job) == ["retry", "failed"]
    assert job.error is not None
    assert (job.error.code, job.error.error_class) == ("error", "ValueError")
    assert job.error.message == "the disk is round"
    assert job.traceback is not None
    assert "raise ValueError" in job.traceback


# Time


@pytest.mark.parametrize("job_type", ["test.wait", "test.wait_process"])
def test_run_is_ended_at_its_timeout(here: Service, tmp_path: Path, job_type: str) -> None:
    path = tmp_path / "journal"
    made = draft(job_type, journal=str(path), gate=str(tmp_path / "gate"))
    made.timeout_seconds, made.max_attempts, made.backoff = 0.4, 2, quick()

    (job,) = here.run(made)

    assert job.status == "failed"
    assert outcomes(job) == ["retry", "failed"]
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("timeout", "took longer than 0.4 s")
    assert [word for _, word, _, _ in journal(path)] == ["began", "began"]
    if job_type == "test.wait_process":
        assert not any(is_running(pid) for _, _, _, pid in journal(path))


def test_time_that_a_child_waits_for_is_not_its_jobs(here: Service, tmp_path: Path) -> None:
    (nursery,) = children_of(here.worker.pid)
    waiting = draft("test.note_process", journal=str(tmp_path / "journal"))
    # Begun later, and over after the same time.
    measure = draft("test.wait", gate=str(tmp_path / "gate"))
    for each in (waiting, measure):
        each.timeout_seconds, each.max_attempts = 0.4, 1
    os.kill(nursery, signal.SIGSTOP)
    try:
        (job_id,) = submit(here.url, waiting)
        wait_for_status(here.url, job_id, "started")
        (measured,) = here.run(measure)
    finally:
        os.kill(nursery, signal.SIGCONT)

    (job,) = wait_until_ended(here.url, job_id)
    assert (outcomes(measured), outcomes(job)) == (["failed"], ["finished"])
    assert [word for _, word, _, _ in journal(tmp_path / "journal")] == ["ran"]


def test_coroutine_that_swallows_its_cancellation_times_out_all_the_same(
    here: Service, tmp_path: Path
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "journal"
    made = draft("test.swallow", gate=str(gate), journal=str(path))
    made.timeout_seconds, made.max_attempts = 0.2, 1

    (job,) = here.run(made)
    gate.touch()

    assert job.error is not None
    assert job.error.code == "timeout"
    assert "cancelled" in [word for _, word, _, _ in journal(path)]
    ignored = [line for line in here.log_lines() if line["event"] == "job_ignores_cancel"]
    assert [line["job_id"] for line in ignored] == [job.id]


def test_coroutine_that_holds_the_loop_is_timed_out_and_the_others_go_on(
    redis_url: str, tmp_path: Path
) -> None:
    made = draft("test.block", seconds=600)
    made.timeout_seconds, made.max_attempts = 0.3, 1
    with worker(redis_url, tmp_path):
        (held,) = wait_until_ended(redis_url, *submit(redis_url, made))
        (after,) = wait_until_ended(redis_url, *submit(redis_url, draft("test.note")))

    assert held.error is not None
    assert (held.error.code, held.error.message) == ("timeout", "took longer than 0.3 s")
    assert after.status == "finished"


# Results


@pytest.mark.parametrize("job_type", ["test.bad_result", "test.bad_result_process"])
def test_result_that_cannot_be_kept_fails_the_job_for_good(here: Service, job_type: str) -> None:
    bad = ["set", "nan", "surrogate"]
    drafts = [draft(job_type, message=each) for each in bad]

    jobs = here.run(*drafts, draft(job_type, size=2 * 1024 * 1024), draft(job_type, size=900_000))

    *failed, finished = jobs
    for job in failed:
        assert job.status == "failed", job
        assert outcomes(job) == ["failed"]
        assert job.error is not None
        assert job.error.code == "bad_result"
    assert finished.status == "finished"
    assert len(finished.result) == 900_000


@pytest.mark.parametrize("job_type", ["test.odd", "test.odd_process"])
def test_whatever_a_job_raises_its_job_ends_and_so_do_its_neighbours(
    here: Service, job_type: str
) -> None:
    names = ["surrogate", "base", "mute", "code", "result", "word", "nan"]
    neighbours = [draft("test.note") for _ in names]

    jobs = here.run(*(draft(job_type, message=each) for each in names), *neighbours)

    for name, job in zip(names, jobs, strict=False):
        assert job.status == "failed", name
        assert outcomes(job) == (["failed"] if name == "code" else ["retry", "failed"]), name
    assert [job.status for job in jobs[len(names) :]] == ["finished"] * len(names)
    assert jobs[0].error is not None
    assert jobs[0].error.message == "half ? a pair"


@pytest.mark.parametrize("job_type", ["test.odd", "test.odd_process"])
def test_endless_wait_becomes_a_year(here: Service, job_type: str) -> None:
    (job_id,) = submit(here.url, draft(job_type, message="never"))

    job = wait_for_status(here.url, job_id, "scheduled")

    assert job.next_attempt_at is not None
    assert job.attempts[0].ended_at is not None
    assert (job.next_attempt_at - job.attempts[0].ended_at).days == 365


@pytest.mark.parametrize("job_type", ["test.exit", "test.exit_process"])
def test_system_exit_is_an_error_of_the_job_and_not_the_workers_end(
    here: Service, job_type: str
) -> None:
    (job,) = here.run(draft(job_type, message="good-bye"))

    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.error_class) == ("error", "SystemExit")
    assert job.error.message == "good-bye"
    (after,) = here.run(draft("test.note"))
    assert after.status == "finished"


def test_params_that_no_longer_fit_the_type_fail_without_their_values(here: Service) -> None:
    made = draft("test.note", message=["hunter2"])

    (job,) = here.run(made)

    assert outcomes(job) == ["failed"]
    assert job.error is not None
    assert job.error.code == "invalid_params"
    assert "/message" in job.error.message
    assert "hunter2" not in job.error.message + str(job.traceback)


# The loop


def test_blocked_loop_does_not_make_its_worker_look_dead(
    blocked: tuple[Service, str, Path],
) -> None:
    running, job_id, path = blocked

    (job,) = wait_until_ended(running.url, job_id)

    assert job.status == "finished"
    assert outcomes(job) == ["finished"]
    assert len(journal(path)) == 1
    with redis.Redis.from_url(running.url) as client:
        assert client.scard("rq:workers") == 2
