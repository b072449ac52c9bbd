"""Stock producers and operators beside our worker: what they enqueue, stop, cancel and requeue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rq.command import (
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.job import JobStatus, Retry, requeue_job
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import Worker

from tests.conftest import poll_until
from tests.harness import (
    TIDY_SECONDS,
    WorkerProcess,
    draft,
    journal,
    service,
    submit,
    view,
    wait_until_ended,
    worker,
)
from tests.stock import Stock, stock_on


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with service(tmp_path_factory.mktemp("ours"), "--queues", "default") as running:
        yield running.worker


@pytest.fixture
def live(ours: WorkerProcess) -> Iterator[Stock]:
    """Where our worker runs, and still does when the test is over."""
    with stock_on(ours.url) as stock:
        yield stock
    assert ours.process.poll() is None


@pytest.fixture
def run(live: Stock, tmp_path: Path) -> Iterator[Run]:
    run = Run(live.url, tmp_path)
    yield run
    run.let_go()


class Run:
    """A job of ours that runs until it is let go."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._gate, self._journal = folder / "gate", folder / "journal"

    def begin(self, job_type: str = "test.wait", **changes: Any) -> str:
        prepared = draft(job_type, gate=str(self._gate), journal=str(self._journal))
        (job_id,) = submit(self._url, replace(prepared, **changes))
        poll_until(lambda: journal(self._journal), what="the job runs")
        return job_id

    def let_go(self) -> None:
        self._gate.touch()

    def words(self) -> list[str]:
        return [line[1] for line in journal(self._journal)]


def test_plain_enqueue_is_run_and_its_result_read(live: Stock) -> None:
    job = live.enqueue("log.write", {"message": "x"}, result_ttl=60)

    (found,) = wait_until_ended(live.url, job.id)

    assert (found.status, found.type, found.attempt) == ("finished", "log.write", 1)
    job = live.job(job.id)
    assert job.get_status() is JobStatus.FINISHED
    value = job.return_value()
    assert value is not None
    assert value["message"] == "x"
    latest = job.latest_result()
    assert latest is not None
    assert latest.type is Result.Type.SUCCESSFUL
    assert latest.return_value == value
    assert 0 < live.connection.ttl(job.key) <= 60 + TIDY_SECONDS
    assert job.id in live.queue().finished_job_registry.get_job_ids()


def test_async_type_and_params_that_do_not_fit(live: Stock) -> None:
    good = live.enqueue("test.note", {"message": "m"})
    bad = live.enqueue("test.note", {"no_such": 1}, retry=Retry(max=3))

    ended = wait_until_ended(live.url, good.id, bad.id)

    assert [each.status for each in ended] == ["finished", "failed"]
    assert ended[1].error is not None
    assert ended[1].error.code == "invalid_params"
    assert ended[1].attempt == 1


def test_stock_retry_with_its_intervals(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    job = live.enqueue(
        "test.flaky", {"succeed_on": 3, "journal": str(notes)}, retry=Retry(max=2, interval=[0, 1])
    )

    (found,) = wait_until_ended(live.url, job.id)

    assert (found.status, found.attempt) == ("finished", 3)
    assert len(journal(notes)) == 3
    kinds = [each.type for each in live.job(job.id).results()]
    assert kinds == [Result.Type.SUCCESSFUL, Result.Type.RETRIED, Result.Type.RETRIED]
    first, second = found.attempts[0], found.attempts[1]
    third = found.attempts[2]
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert third.started_at - second.ended_at >= timedelta(seconds=0.999)


def test_stock_retry_that_is_used_up(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    job = live.enqueue(
        "test.flaky", {"succeed_on": 9, "journal": str(notes)}, retry=Retry(max=1), failure_ttl=60
    )

    (found,) = wait_until_ended(live.url, job.id)

    assert (found.status, found.attempt) == ("failed", 2)
    assert len(journal(notes)) == 2
    assert live.job(job.id).retries_left == 0
    latest = live.job(job.id).latest_result()
    assert latest is not None
    assert "RetryLater: not yet" in str(latest.exc_string)


def test_stock_depends_on_is_kept(live: Stock, run: Run) -> None:
    parent = run.begin()
    child = live.enqueue("test.note", {}, depends_on=parent)
    assert child.get_status() is JobStatus.DEFERRED

    run.let_go()

    ended = wait_until_ended(live.url, parent, child.id)
    assert [each.status for each in ended] == ["finished", "finished"]
    assert ended[0].ended_at is not None
    assert ended[1].started_at is not None
    assert ended[0].ended_at <= ended[1].started_at


def test_stock_enqueue_in_runs_when_due_and_once(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    job = live.queue().enqueue_in(
        timedelta(seconds=1), "app.worker.perform", "test.note", {"journal": str(notes)}
    )
    due = live.text.zscore("rq:scheduled:default", job.id)

    (found,) = wait_until_ended(live.url, job.id)

    assert found.started_at is not None
    assert found.started_at.timestamp() >= due
    assert len(journal(notes)) == 1


def test_stock_at_front_comes_first(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    live.rq("suspend")
    try:
        back = live.enqueue("test.note", {"journal": str(notes)})
        front = live.enqueue("test.note", {"journal": str(notes)}, at_front=True)
        assert live.queue().job_ids == [front.id, back.id]
    finally:
        live.rq("resume")

    wait_until_ended(live.url, back.id, front.id)

    assert [line[0] for line in journal(notes)] == [front.id, back.id]


def test_suspend_lets_nothing_begin_and_resume_goes_on(live: Stock, run: Run) -> None:
    running = run.begin()
    live.rq("suspend")
    waiting = submit(live.url, draft("test.note"))[0]
    run.let_go()
    wait_until_ended(live.url, running)
    # Ending the one job made the worker look for another.
    polls = live.text.info("commandstats")["cmdstat_evalsha"]["calls"] + 3
    poll_until(
        lambda: live.text.info("commandstats")["cmdstat_evalsha"]["calls"] > polls,
        what="the worker asked again",
    )
    assert live.queue().job_ids == [waiting]

    live.rq("resume")

    assert wait_until_ended(live.url, waiting)[0].status == "finished"


@pytest.mark.parametrize("way", ["cli", "requeue_job"])
def test_stock_requeue_runs_our_failed_job_again(live: Stock, tmp_path: Path, way: str) -> None:
    notes = tmp_path / "journal"
    prepared = draft("test.flaky", succeed_on=2, journal=str(notes))
    (job_id,) = submit(live.url, replace(prepared, max_attempts=1))
    wait_until_ended(live.url, job_id)
    assert live.connection.ttl(f"rq:job:{job_id}") > 0

    if way == "cli":
        live.rq("requeue", "--serializer", "json", "--all", "--queue", "default")
    else:
        requeue_job(job_id, live.connection, serializer=JSONSerializer)

    poll_until(lambda: view(live.url, job_id).status == "finished", what="it has run again")
    found = view(live.url, job_id)
    assert (found.attempt, found.error) == (2, None)
    assert job_id not in live.failed().get_job_ids()


def test_requeued_job_has_no_time_to_live_while_it_runs(live: Stock, run: Run) -> None:
    job_id = run.begin()
    send_stop_job_command(live.connection, job_id, serializer=JSONSerializer)
    wait_until_ended(live.url, job_id)
    assert live.connection.ttl(f"rq:job:{job_id}") > 0

    requeue_job(job_id, live.connection, serializer=JSONSerializer)

    poll_until(lambda: run.words() == ["began", "began"], what="it runs again")
    assert live.connection.ttl(f"rq:job:{job_id}") == -1
    assert live.connection.ttl(f"rq:results:{job_id}") == -1
    run.let_go()
    assert wait_until_ended(live.url, job_id)[0].status == "finished"


def test_cancel_of_a_waiting_job_keeps_it_from_running(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    live.rq("suspend")
    try:
        drafts = [draft("test.note", journal=str(notes)) for _ in range(2)]
        canceled, kept = submit(live.url, *drafts)
        live.job(canceled).cancel()
    finally:
        live.rq("resume")

    assert wait_until_ended(live.url, kept)[0].status == "finished"
    assert view(live.url, canceled).status == "canceled"
    assert [line[0] for line in journal(notes)] == [kept]


@pytest.mark.parametrize("job_type", ["test.wait", "test.wait_process"])
def test_outcome_of_a_job_canceled_while_running_changes_nothing(
    live: Stock, run: Run, job_type: str
) -> None:
    job_id = run.begin(job_type)

    live.job(job_id).cancel()
    run.let_go()

    poll_until(lambda: "late" in _trail(live, job_id), what="its outcome was late")
    found = view(live.url, job_id)
    assert (found.status, found.result) == ("canceled", None)
    assert live.text.zscore("rq:finished:default", job_id) is None
    assert not live.text.keys(f"rq:execution:{job_id}*")
    assert not [
        each for each in live.text.zrange("rq:wip:default", 0, -1) if each.startswith(job_id)
    ]


def test_outcome_of_a_job_deleted_while_running_makes_no_new_record(live: Stock, run: Run) -> None:
    job_id = run.begin()

    live.job(job_id).delete()
    run.let_go()

    poll_until(lambda: run.words() == ["began", "ran"], what="it has run")
    (after,) = wait_until_ended(live.url, *submit(live.url, draft("test.note")))
    assert after.status == "finished"
    poll_until(lambda: not live.text.keys(f"*{job_id}*"), what="nothing of it is left")
    assert live.text.zscore("rq:finished:default", job_id) is None


def test_delete_of_a_waiting_job(live: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    live.rq("suspend")
    try:
        drafts = [draft("test.note", journal=str(notes)) for _ in range(2)]
        deleted, kept = submit(live.url, *drafts)
        live.job(deleted).delete()
    finally:
        live.rq("resume")

    wait_until_ended(live.url, kept)

    assert [line[0] for line in journal(notes)] == [kept]
    assert not live.text.keys(f"*{deleted}*")


@pytest.mark.parametrize("job_type", ["test.wait", "test.wait_process"])
@pytest.mark.parametrize("command", ["stop-job", "stop-execution"])
def test_stock_stop_command_stops_a_running_job(
    live: Stock, run: Run, job_type: str, command: str
) -> None:
    job_id = run.begin(job_type)

    if command == "stop-job":
        send_stop_job_command(live.connection, job_id, serializer=JSONSerializer)
    else:
        (execution,) = live.job(job_id).get_executions()
        send_stop_execution_command(live.connection, job_id, execution.id)

    (found,) = wait_until_ended(live.url, job_id)
    assert (found.status, found.reason) == ("stopped", "requested")
    assert live.job(job_id).get_status() is JobStatus.STOPPED
    assert job_id in live.failed().get_job_ids()
    assert run.words() == ["began"]


def test_stock_shutdown_command_ends_our_worker_after_draining(
    redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with worker(redis_url, folder) as ours, stock_on(redis_url) as stock:
        run = Run(redis_url, tmp_path)
        job_id = run.begin()
        (found,) = Worker.all(connection=stock.connection, serializer=JSONSerializer)

        send_shutdown_command(stock.connection, found.name)
        poll_until(lambda: "worker_stopping" in ours.log.read_text(), what="it is draining")
        waiting = submit(redis_url, draft("test.note"))[0]
        run.let_go()

        assert ours.process.wait(timeout=20) == 0
        assert view(redis_url, job_id).status == "finished"
        assert stock.queue().job_ids == [waiting]
        assert Worker.all(connection=stock.connection, serializer=JSONSerializer) == []


def _trail(live: Stock, job_id: str) -> str:
    return str(live.text.hget(f"rq:job:{job_id}", "x_trail"))
