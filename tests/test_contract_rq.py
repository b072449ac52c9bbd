"""Our records as the installed RQ reads them: jobs, registries, workers, `rq info`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rq.job import JobStatus
from rq.registry import StartedJobRegistry, clean_registries
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import Worker

from tests.conftest import ValkeyServer, poll_until
from tests.harness import (
    TIDY_SECONDS,
    WorkerProcess,
    draft,
    journal,
    quick,
    submit,
    view,
    wait_until_ended,
    worker,
)
from tests.stock import PERFORM, Stock, stock_on


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("contract"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def ours(server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with worker(server.url, tmp_path_factory.mktemp("ours"), "--queues", "default,email") as ours:
        yield ours


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    """Where nothing runs."""
    with stock_on(redis_url) as stock:
        yield stock


@pytest.fixture
def live(ours: WorkerProcess) -> Iterator[Stock]:
    """Where our worker runs."""
    with stock_on(ours.url) as stock:
        yield stock


def test_stock_job_reads_what_we_submit(stock: Stock) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    prepared = replace(
        draft("test.note", message="olá"), timeout_seconds=61.5, retention_seconds=77,
        failure_retention_seconds=88,
    )  # fmt: skip
    (job_id,) = submit(stock.url, prepared)

    job = stock.job(job_id)

    assert job.func_name == PERFORM
    assert job.args == ["test.note", {"message": "olá"}]
    assert job.kwargs == {}
    assert (job.origin, job.description) == ("default", "test.note")
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (62, 77, 88)
    assert job.get_status() is JobStatus.QUEUED
    assert job.enqueued_at is not None
    assert before < job.created_at <= job.enqueued_at < before + timedelta(minutes=1)
    assert stock.queue().job_ids == [job_id]
    assert stock.queue().count == 1
    assert [each.id for each in stock.queue().jobs] == [job_id]
    assert [each.name for each in type(stock.queue()).all(connection=stock.connection)] == [
        "default"
    ]
    assert job.get_position() == 0


def test_stock_registry_shows_what_is_scheduled(stock: Stock) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    (job_id,) = submit(stock.url, replace(draft("test.note"), scheduled_at=at))

    registry = stock.queue().scheduled_job_registry

    assert registry.get_job_ids() == [job_id]
    assert registry.get_scheduled_time(job_id) == at
    job = stock.job(job_id)
    assert (job.get_status(), job.enqueued_at) == (JobStatus.SCHEDULED, None)
    assert stock.queue().count == 0


def test_stock_job_reads_how_ours_ended(live: Stock) -> None:
    drafts = [
        draft("test.note", message="a"),
        replace(draft("test.flaky", succeed_on=2), backoff=quick()),
        draft("test.permanent", message="never again"),
    ]
    finished, retried, failed = submit(live.url, *drafts)
    wait_until_ended(live.url, finished, retried, failed)

    job = live.job(finished)
    assert job.is_finished
    value = job.return_value()
    assert value is not None
    assert value["attempt"] == 1
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.started_at <= job.ended_at
    assert job.worker_name is not None
    assert live.queue().finished_job_registry.get_expiration_time(job) > datetime.now(UTC)
    assert 0 < live.connection.ttl(job.key) <= 3600 + TIDY_SECONDS
    assert job.get_executions() == []

    results = live.job(retried).results()
    assert [each.type for each in results] == [Result.Type.SUCCESSFUL, Result.Type.RETRIED]
    assert "not yet" in str(results[1].exc_string)
    assert results[0].execution_id != results[1].execution_id
    assert results[0].worker_name == job.worker_name

    job = live.job(failed)
    assert job.is_failed
    assert failed in live.failed().get_job_ids()
    latest = job.latest_result()
    assert latest is not None
    assert latest.type is Result.Type.FAILED
    assert "PermanentError: never again" in str(latest.exc_string)


@pytest.fixture
def running(live: Stock, tmp_path: Path) -> Iterator[str]:
    """A job that our worker runs for as long as the test lasts."""
    gate, notes = tmp_path / "gate", tmp_path / "journal"
    (job_id,) = submit(live.url, draft("test.wait", gate=str(gate), journal=str(notes)))
    poll_until(lambda: journal(notes), what="the job runs")
    yield job_id
    gate.touch()
    (ended,) = wait_until_ended(live.url, job_id)
    # Whatever stock tools looked at: one run, well ended.
    assert (ended.status, ended.attempt) == ("finished", 1)
    assert [line[1] for line in journal(notes)] == ["began", "ran"]
    assert job_id not in live.failed().get_job_ids()


def test_stock_tools_show_our_worker_and_what_it_runs(
    live: Stock, running: str, ours: WorkerProcess
) -> None:
    (found,) = Worker.all(connection=live.connection, serializer=JSONSerializer)

    assert found.pid == ours.pid
    assert found.get_state() == "busy"
    assert set(found.queue_names()) == {
        name + suffix
        for name in ("default", "email", "operations")
        for suffix in ("", ".high", ".low")
    }
    assert found.birth_date is not None
    assert found.last_heartbeat is not None
    current = found.get_current_job()
    assert current is not None
    assert (current.id, current.get_status()) == (running, JobStatus.STARTED)
    assert [each.job_id for each in found.get_current_executions(refresh=True)] == [running]
    assert found.current_execution_count == 1
    (execution,) = live.job(running).get_executions()
    assert execution.worker_name == found.name
    assert live.queue().started_job_registry.get_job_ids() == [running]
    assert Worker.count(queue=live.queue("email")) == 1


def test_looking_with_stock_tools_moves_nothing(live: Stock, running: str) -> None:
    key = f"rq:job:{running}"
    watched = ["status", "worker_name", "started_at", "x_trail"]
    before = live.text.hmget(key, watched)
    wip = live.text.zrange("rq:wip:default", 0, -1, withscores=True)
    assert len(wip) == 1

    shown = [live.rq("info"), live.rq("info", "--by-queue"), live.rq("info", "--raw")]
    for queue in (live.queue(), live.queue("email")):
        clean_registries(queue)
        assert running not in queue.failed_job_registry.get_job_ids()
    started = StartedJobRegistry("default", connection=live.connection, serializer=JSONSerializer)
    started.cleanup()
    assert started.count == 1

    assert all("default" in text for text in shown)
    assert "1 executing" in shown[0]
    assert "busy" in shown[2]
    assert live.text.hmget(key, watched) == before
    assert live.text.zrange("rq:wip:default", 0, -1, withscores=True) == wip
    assert live.text.ttl(key) == -1


def test_idle_worker_is_shown_as_idle_with_its_counts(live: Stock) -> None:
    wait_until_ended(live.url, *submit(live.url, draft("test.note")))

    def idle() -> bool:
        (found,) = Worker.all(connection=live.connection, serializer=JSONSerializer)
        return found.get_state() == "idle"

    poll_until(idle, what="the worker is idle")
    (found,) = Worker.all(connection=live.connection, serializer=JSONSerializer)

    assert found.successful_job_count > 0
    assert found.total_working_time > 0
    assert found.get_current_job() is None
    assert "idle" in live.rq("info", "--raw", "--only-workers")


def test_stock_view_of_a_stock_job_and_ours_agree(stock: Stock) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    job = stock.queue().enqueue_at(at, PERFORM, "test.note", {"message": "m"})

    found = view(stock.url, job.id)

    assert (found.type, found.params, found.status) == ("test.note", {"message": "m"}, "scheduled")
    assert found.scheduled_at == at
    assert found.queue == "default"
