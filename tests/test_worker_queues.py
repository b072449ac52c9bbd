"""What a worker takes, in which order and how much at once; its command line; its log."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from app.queue.records.drafts import JobDraft
from tests.conftest import poll_until
from tests.harness import (
    WorkerProcess,
    draft,
    journal,
    submit,
    view,
    wait_for_journal,
    wait_until_ended,
    worker,
)

MARKER = "hunter2-in-the-params"


def noted(job_type: str, folder: Path, **params: Any) -> JobDraft:
    return draft(job_type, journal=str(folder / "journal"), **params)


def most_at_once(path: Path, job_ids: list[str]) -> int:
    """How many of the jobs were between their `began` and their `ran` line together."""
    running, most = 0, 0
    for job_id, word, _, _ in journal(path):
        if job_id in job_ids:
            running += {"began": 1, "ran": -1}[word]
            most = max(most, running)
    return most


# Slots


def test_never_more_run_at_once_than_there_are_slots(redis_url: str, tmp_path: Path) -> None:
    asynchronous = [noted("test.nap", tmp_path, seconds=0.05) for _ in range(12)]
    forked = [noted("test.nap_process", tmp_path, seconds=0.05) for _ in range(5)]
    job_ids = submit(redis_url, *asynchronous, *forked)

    with worker(redis_url, tmp_path, "--concurrency", "2", "--processes", "1"):
        jobs = wait_until_ended(redis_url, *job_ids)

    assert {job.status for job in jobs} == {"finished"}
    path = tmp_path / "journal"
    assert most_at_once(path, [each.id for each in asynchronous]) == 2
    assert most_at_once(path, [each.id for each in forked]) == 1


def test_job_that_no_slot_is_free_for_stays_in_the_queue(redis_url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    made = [noted("test.wait", tmp_path, gate=str(gate)) for _ in range(3)]
    with worker(redis_url, tmp_path, "--concurrency", "2", "--processes", "1"):
        job_ids = submit(redis_url, *made)
        wait_for_journal(tmp_path / "journal", "began", 2)
        # A second look at the queue has passed once this one, of another kind, is done.
        (passed,) = submit(redis_url, draft("test.note_process"))
        wait_until_ended(redis_url, passed)

        statuses = Counter(view(redis_url, job_id).status for job_id in job_ids)

        assert statuses == {"started": 2, "queued": 1}
        gate.touch()
        wait_until_ended(redis_url, *job_ids)


def test_coroutines_are_not_stuck_behind_jobs_that_wait_for_a_process(
    redis_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    slow = [noted("test.wait_process", tmp_path, gate=str(gate)) for _ in range(6)]
    with worker(redis_url, tmp_path, "--concurrency", "2", "--processes", "1"):
        slow_ids = submit(redis_url, *slow)
        wait_for_journal(tmp_path / "journal", "began")

        (quick_id,) = submit(redis_url, draft("test.note"))
        (quick,) = wait_until_ended(redis_url, quick_id)

        assert quick.status == "finished"
        assert [view(redis_url, each).status for each in slow_ids].count("queued") == 5
        gate.touch()
        wait_until_ended(redis_url, *slow_ids)


# Queues


def test_higher_priority_goes_first_and_equals_in_order(redis_url: str, tmp_path: Path) -> None:
    made = [noted("test.note", tmp_path) for _ in range(6)]
    for each, priority in zip(made, ["low", "default", "high"] * 2, strict=True):
        each.priority = priority  # type: ignore[assignment]
    job_ids = submit(redis_url, *made)

    with worker(redis_url, tmp_path, "--concurrency", "1"):
        wait_until_ended(redis_url, *job_ids)

    in_order = [made[at].id for at in (2, 5, 1, 4, 0, 3)]
    assert [job_id for job_id, _, _, _ in journal(tmp_path / "journal")] == in_order


def test_only_the_named_queues_are_served(redis_url: str, tmp_path: Path) -> None:
    job_ids = submit(redis_url, *map(_in_queue, ["data", "email", "default"]))

    with worker(redis_url, tmp_path, "--queues", "data,email"):
        served = wait_until_ended(redis_url, *job_ids[:2])
        # Whatever it would take, it would have taken by its next look.
        wait_until_ended(redis_url, *submit(redis_url, _in_queue("email")))

    assert [job.status for job in served] == ["finished", "finished"]
    assert view(redis_url, job_ids[2]).status == "queued"
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("rq:queue:default") == 1


def _in_queue(queue: str) -> JobDraft:
    made = draft("test.note")
    made.queue = queue
    return made


# Command line


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--no-such"], {}, "--no-such"),
        (["default"], {}, "default"),
        (["--queues", "Not A Queue"], {}, "Not A Queue"),
        (["--queues", ","], {}, "at least one queue"),
        (["--concurrency", "0"], {}, "--concurrency"),
        (["--processes", "many"], {}, "--processes"),
        (["--grace", "-1"], {}, "--grace"),
        (["--grace", "nan"], {}, "--grace"),
        ([], {"JOB_MODULES": "no.such_module"}, "no.such_module"),
        ([], {"JOB_MODULES": "broken_jobs"}, "broken_jobs"),
        ([], {"JOB_MODULES": "doubled_jobs"}, "doubled_jobs"),
        ([], {"REDIS_URL": "http://elsewhere"}, "REDIS_URL"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_ends_with_status_2_and_is_named(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], told: str
) -> None:
    (tmp_path / "broken_jobs.py").write_text("def half a function\n")
    (tmp_path / "doubled_jobs.py").write_text(
        "from jobs.catalog import job\nfrom jobs.log import LogWriteParams, JobContext\n"
        "@job('log.write')\ndef other(params: LogWriteParams, context: JobContext): ...\n"
    )
    if "JOB_MODULES" in environment:
        environment = environment | {"PYTHONPATH": str(tmp_path)}
    process = WorkerProcess("redis://127.0.0.1:1", tmp_path / "log", *arguments, **environment)

    try:
        status = process.process.wait(timeout=20)
    finally:
        process.end()

    said = process.log.read_text()
    assert status == 2, said
    assert told in said
    assert "Traceback" not in said


# Log


def test_each_transition_is_one_line_with_its_facts_and_no_params(
    redis_url: str, tmp_path: Path
) -> None:
    drafts = [
        draft("test.note", message=MARKER),
        draft("test.fail_once", message=MARKER),
        draft("test.permanent", message=MARKER),
        draft("test.crash", message=MARKER),
        draft("test.note_process", message=MARKER),
    ]
    for number, each in enumerate(drafts):
        each.request_id = f"request-{number}"
    with worker(redis_url, tmp_path, LOG_FORMAT="json") as process:
        job_ids = submit(redis_url, *drafts)
        wait_until_ended(redis_url, *job_ids)
        assert process.stop() == 0

    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    told = [_events(lines, job_id) for job_id in job_ids]

    retried = ["job_started", "job_retry_scheduled", "job_queued", "job_started"]
    assert told == [
        ["job_started", "job_finished"],
        [*retried, "job_finished"],
        ["job_started", "job_failed"],
        [*retried, "job_failed"],
        ["job_started", "job_finished"],
    ]
    for line in (each for each in lines if "job_id" in each):
        number = job_ids.index(line["job_id"])
        assert line["type"] == drafts[number].type
        assert line["queue"] == "default"
        assert line["request_id"] == f"request-{number}"
        assert line["attempt"] in {1, 2}
        if line["event"] not in {"job_started", "job_queued"}:
            assert line["duration_seconds"] >= 0
    assert MARKER not in process.log.read_text()


def _events(lines: list[dict[str, Any]], job_id: str) -> list[str]:
    return [line["event"] for line in lines if line.get("job_id") == job_id]


def test_text_log_has_the_same_facts(redis_url: str, tmp_path: Path) -> None:
    made = draft("test.crash", message=MARKER)
    made.request_id = "request-1"
    with worker(redis_url, tmp_path, LOG_FORMAT="text", LOG_LEVEL="debug") as process:
        (job_id,) = submit(redis_url, made)
        wait_until_ended(redis_url, job_id)
        poll_until(lambda: "job_failed" in process.log.read_text(), what="the line is written")

    text = process.log.read_text()
    (line,) = [each for each in text.splitlines() if "job_failed" in each]
    for fact in (
        f"job_id={job_id}", "type=test.crash", "queue=default", "attempt=2",
        "request_id=request-1", "duration_seconds=", "code=error", "error_class=ValueError",
    ):  # fmt: skip
        assert fact in line
    assert MARKER not in text


def test_worker_that_cannot_reach_redis_waits_for_it(tmp_path: Path) -> None:
    process = WorkerProcess("redis://127.0.0.1:1", tmp_path / "worker.log", LOG_FORMAT="json")
    try:
        poll_until(lambda: "redis_unreachable" in process.log.read_text(), what="it says so")
        assert process.process.poll() is None
        assert process.stop() == 0
    finally:
        process.end()
    assert process.log.read_text().count("redis_unreachable") == 1
