"""`def` jobs: a process each, within limits, heard out however it ends, and never left over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
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
    wait_for_journal,
    wait_until_ended,
    worker,
)

SECRETS = {
    "SECRET_KEY": "hunter2-and-sixteen-more",
    "SMTP_URL": "smtp://user:hunter2@127.0.0.1:1",
    "API_KEYS": f"hunter2:read:{'0' * 64}",
    "WEBHOOK_SECRET": "whsec_hunter2",
    "MAIL_FROM": "kept@example.test",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), "--processes", "4", **SECRETS) as running:
        yield running


def outcomes(job: JobView) -> list[str | None]:
    return [each.outcome for each in job.attempts]


def waiting(folder: Path, **params: object) -> JobDraft:
    """A `def` job that notes `began` and goes on when the file `gate` is there."""
    return draft(
        "test.wait_process",
        journal=str(folder / "journal"), gate=str(folder / "gate"), **params,
    )  # fmt: skip


# How a child ends


def test_memory_limit_fails_the_job_and_says_how_much_it_had(here: Service) -> None:
    too_much, enough = here.run(
        draft("test.memory", size=1024 * 1024 * 1024), draft("test.memory", size=1024 * 1024)
    )

    assert too_much.error is not None
    assert too_much.error.code == "killed_memory"
    assert too_much.error.message == "killed: memory limit 512 MB"
    assert enough.result == 1024 * 1024


@pytest.mark.parametrize(
    ("size", "how"),
    [(signal.SIGSEGV, f"signal {signal.SIGSEGV:d}"), (-3, "exit status 3")],
    ids=["segfault", "exit"],
)
def test_crash_of_the_process_is_a_failure_of_its_job(here: Service, size: int, how: str) -> None:
    (job,) = here.run(draft("test.die", size=int(size)))

    assert job.status == "failed"
    assert outcomes(job) == ["retry", "failed"]
    assert job.error is not None
    assert job.error.code == "killed"
    assert how in job.error.message


def test_crash_that_the_type_has_a_word_for_is_not_tried_again(here: Service) -> None:
    crashed, left = here.run(
        draft("test.die_of_memory", size=int(signal.SIGABRT)), draft("test.die_of_memory", size=-3)
    )

    assert crashed.error is not None
    assert (crashed.error.code, crashed.error.retryable) == ("memory", False)
    assert f"signal {signal.SIGABRT:d}" in crashed.error.message
    assert outcomes(crashed) == ["failed"]
    assert outcomes(left) == ["retry", "failed"]


def test_process_killed_from_outside_runs_again_at_once_and_uses_up_no_attempt(
    here: Service, tmp_path: Path
) -> None:
    made = waiting(tmp_path)
    made.max_attempts = 1
    (job_id,) = submit(here.url, made)
    (pid,) = wait_for_journal(tmp_path / "journal", "began")

    os.kill(pid, signal.SIGKILL)
    wait_for_journal(tmp_path / "journal", "began", 2)
    (tmp_path / "gate").touch()
    (job,) = wait_until_ended(here.url, job_id)

    assert job.status == "finished"
    assert outcomes(job) == ["abandoned", "finished"]
    assert job.result["attempt"] == 2
    assert job.result["recovered"] is True


def test_job_whose_process_is_always_killed_fails_as_abandoned(
    here: Service, tmp_path: Path
) -> None:
    path = tmp_path / "journal"

    (job,) = here.run(draft("test.die", size=int(signal.SIGKILL), journal=str(path)))

    assert job.status == "failed"
    assert outcomes(job) == ["abandoned"] * 4 + ["failed"]
    assert len(journal(path)) == 5
    assert job.error is not None
    assert job.error.code == "abandoned"


def test_cpu_limit_is_told_as_what_it_is(here: Service) -> None:
    (job,) = here.run(draft("test.spin", seconds=60, size=1))

    assert job.error is not None
    assert job.error.code == "killed"
    assert job.error.message.startswith("killed: CPU limit ")


def test_child_ends_by_its_own_limits_when_its_worker_is_frozen(
    redis_url: str, tmp_path: Path
) -> None:
    with worker(redis_url, tmp_path) as frozen:
        wait_until_ended(redis_url, *submit(redis_url, draft("test.note_process")))
        path = tmp_path / "journal"
        made = draft("test.freeze", size=frozen.pid, seconds=600, journal=str(path))
        made.timeout_seconds = 1.0
        (job_id,) = submit(redis_url, made)
        (pid,) = wait_for_journal(path, "frozen")

        poll_until(lambda: not is_running(pid), what="the child has ended")

        frozen.process.send_signal(signal.SIGCONT)
        (job,) = wait_until_ended(redis_url, job_id)
        assert job.error is not None
        assert job.error.code in {"timeout", "killed"}


def test_process_that_minds_no_signal_is_timed_out_all_the_same(
    here: Service, tmp_path: Path
) -> None:
    made = draft("test.deaf", journal=str(tmp_path / "journal"), gate=str(tmp_path / "never"))
    made.timeout_seconds = 0.5

    (job,) = here.run(made)

    assert job.error is not None
    assert job.error.code == "timeout"
    assert not any(is_running(pid) for _, _, _, pid in journal(tmp_path / "journal"))


# What a child is given, and what it leaves


def test_process_of_a_job_sees_no_secret(here: Service, tmp_path: Path) -> None:
    (job,) = here.run(draft("test.environment"))
    assert "MAIL_FROM" in job.result
    assert set(job.result).isdisjoint({*SECRETS, "REDIS_URL"} - {"MAIL_FROM"})

    (job_id,) = submit(here.url, waiting(tmp_path))
    (pid,) = wait_for_journal(tmp_path / "journal", "began")
    for part in ("environ", "cmdline"):
        assert b"hunter2" not in Path(f"/proc/{pid}/{part}").read_bytes()
    (tmp_path / "gate").touch()
    wait_until_ended(here.url, job_id)


def test_what_a_job_prints_is_not_lost(here: Service) -> None:
    here.run(draft("test.print", message="marker"))

    printed = here.worker.log.read_text()
    assert "out marker\n" in printed
    assert "err marker\n" in printed
    assert "unfinished marker" in printed


def test_jobs_processes_are_gone_when_their_jobs_are(here: Service, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    drafts = [draft("test.note_process", journal=str(path)) for _ in range(8)]

    here.run(*drafts)

    (nursery,) = children_of(here.worker.pid)
    pids = [pid for _, _, _, pid in journal(path)]
    assert len(set(pids)) == 8  # a process each
    poll_until(lambda: not any(map(is_running, pids)), what="the processes have ended")
    poll_until(lambda: children_of(nursery) == [], what="the nursery has no child")


def starting_programs(folder: Path) -> JobDraft:
    """A `def` job that starts three programs, and goes on when the file `gate` is there."""
    return draft("test.programs", journal=str(folder / "journal"), gate=str(folder / "gate"))


def test_programs_of_a_job_end_with_it_and_no_others(here: Service, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    first_id, second_id = submit(here.url, starting_programs(first), starting_programs(second))
    ended = wait_for_journal(first / "journal", "program", 3)
    others = wait_for_journal(second / "journal", "program", 3)

    (first / "gate").touch()
    wait_until_ended(here.url, first_id)

    poll_until(lambda: not any(map(is_running, ended)), what="the programs have ended")
    assert all(map(is_running, others))
    (second / "gate").touch()
    wait_until_ended(here.url, second_id)
    poll_until(lambda: not any(map(is_running, others)), what="the other job's have, too")


# Deaths in the family


def test_jobs_of_a_killed_nursery_run_again_and_the_next_job_runs_too(
    here: Service, tmp_path: Path
) -> None:
    job_ids = submit(here.url, waiting(tmp_path), waiting(tmp_path))
    pids = wait_for_journal(tmp_path / "journal", "began", 2)
    (nursery,) = children_of(here.worker.pid)

    os.kill(nursery, signal.SIGKILL)
    poll_until(lambda: not any(map(is_running, pids)), what="the children died with the nursery")
    wait_for_journal(tmp_path / "journal", "began", 4)
    (tmp_path / "gate").touch()

    for job in wait_until_ended(here.url, *job_ids):
        assert job.status == "finished"
        assert outcomes(job) == ["abandoned", "finished"]
    (after,) = here.run(draft("test.note_process"))
    assert outcomes(after) == ["finished"]
    assert nursery not in children_of(here.worker.pid)


def test_nursery_killed_while_idle_is_replaced_for_the_next_job(here: Service) -> None:
    (nursery,) = children_of(here.worker.pid)

    os.kill(nursery, signal.SIGKILL)
    jobs = here.run(*(draft("test.note_process") for _ in range(3)))

    assert [job.status for job in jobs] == ["finished"] * 3


def test_processes_of_a_killed_worker_die_with_it(redis_url: str, tmp_path: Path) -> None:
    with worker(redis_url, tmp_path) as victim:
        submit(redis_url, waiting(tmp_path), starting_programs(tmp_path))
        pids = wait_for_journal(tmp_path / "journal", "began", 2)
        pids += wait_for_journal(tmp_path / "journal", "program", 3)
        nurseries = children_of(victim.pid)

        victim.kill()

        poll_until(lambda: not any(map(is_running, pids + nurseries)), what="nothing is left")
    words = [word for _, word, _, _ in journal(tmp_path / "journal")]
    assert words.count("began") == 2
    assert "ran" not in words


def test_programs_of_a_killed_nursery_die_with_it(here: Service, tmp_path: Path) -> None:
    (job_id,) = submit(here.url, starting_programs(tmp_path))
    first = wait_for_journal(tmp_path / "journal", "program", 3)
    (nursery,) = children_of(here.worker.pid)

    os.kill(nursery, signal.SIGKILL)

    poll_until(lambda: not any(map(is_running, first)), what="the programs have ended")
    (tmp_path / "gate").touch()
    (job,) = wait_until_ended(here.url, job_id)
    assert outcomes(job) == ["abandoned", "finished"]


def test_timed_out_process_makes_room_for_the_next(here: Service, tmp_path: Path) -> None:
    stuck = [waiting(tmp_path) for _ in range(4)]
    for each in stuck:
        each.timeout_seconds, each.max_attempts, each.backoff = 0.3, 1, quick()

    *failed, after = here.run(*stuck, draft("test.note_process"))

    assert {job.error.code for job in failed if job.error is not None} == {"timeout"}
    assert after.status == "finished"
