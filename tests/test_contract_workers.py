"""Stock workers and schedulers on our jobs: alone, and beside our worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rq.worker import Worker

from tests.conftest import poll_until
from tests.harness import draft, journal, submit, view, wait_until_ended, worker
from tests.stock import Stock, stock_on


@pytest.fixture
def stock(redis_url: str) -> Iterator[Stock]:
    with stock_on(redis_url) as stock:
        yield stock


def test_stock_worker_finishes_our_jobs(stock: Stock, tmp_path: Path) -> None:
    notes = tmp_path / "journal"
    written, noted, failed, elsewhere = submit(
        stock.url,
        draft("log.write", message="by a stock worker"),
        draft("test.note", journal=str(notes)),
        draft("test.permanent", message="refused"),
        replace(draft("test.note"), priority="low"),
    )

    stock.rq("worker", "--burst", "default")

    found = view(stock.url, written)
    assert (found.status, found.type) == ("finished", "log.write")
    assert found.result["message"] == "by a stock worker"
    assert found.started_at is not None
    assert found.ended_at is not None
    assert view(stock.url, noted).result["attempt"] == 1
    assert [line[0] for line in journal(notes)] == [noted]
    found = view(stock.url, failed)
    assert found.status == "failed"
    assert "refused" in str(found.traceback)
    assert view(stock.url, elsewhere).status == "queued"


def test_each_job_runs_once_beside_a_stock_worker(stock: Stock, tmp_path: Path) -> None:
    """More jobs than the first to come could take at once; both get some."""
    notes = tmp_path / "journal"
    drafts = [draft("test.note", journal=str(notes)) for _ in range(30)]
    with stock.rq_worker(tmp_path / "stock.log", "default"):
        poll_until(lambda: Worker.count(connection=stock.connection) == 1, what="it listens")
        first = submit(stock.url, *drafts)
        poll_until(lambda: len(journal(notes)) >= 2, what="the stock worker has begun")
        with worker(stock.url, tmp_path):
            second = submit(stock.url, *(draft("test.note", journal=str(notes)) for _ in range(30)))
            ended = wait_until_ended(stock.url, *first, *second)

    assert {each.status for each in ended} == {"finished"}
    runs = Counter(line[0] for line in journal(notes))
    assert runs == dict.fromkeys([*first, *second], 1)
    workers = {stock.text.hget(f"rq:job:{each}", "worker_name") for each in [*first, *second]}
    assert len(workers) == 2


def test_scheduled_jobs_are_not_doubled_beside_a_stock_scheduler(
    stock: Stock, tmp_path: Path
) -> None:
    notes = tmp_path / "journal"
    with (
        stock.rq_worker(tmp_path / "stock.log", "--with-scheduler", "default"),
        worker(stock.url, tmp_path),
    ):
        poll_until(
            lambda: stock.connection.exists("rq:scheduler-lock:default"), what="it schedules"
        )
        at = datetime.now(UTC) + timedelta(seconds=2)
        ours = submit(
            stock.url,
            *(replace(draft("test.note", journal=str(notes)), scheduled_at=at) for _ in range(40)),
        )
        theirs = [
            stock.queue()
            .enqueue_at(at, "app.worker.perform", "test.note", {"journal": str(notes)})
            .id
            for _ in range(10)
        ]
        ended = wait_until_ended(stock.url, *ours, *theirs)

    assert {each.status for each in ended} == {"finished"}
    assert Counter(line[0] for line in journal(notes)) == dict.fromkeys([*ours, *theirs], 1)


def test_stock_maintenance_leaves_our_running_jobs_alone(stock: Stock, tmp_path: Path) -> None:
    """A stock worker cleans the registries of its queues when it starts, by its own clock."""
    gate, notes = tmp_path / "gate", tmp_path / "journal"
    with worker(stock.url, tmp_path):
        (job_id,) = submit(stock.url, draft("test.wait", gate=str(gate), journal=str(notes)))
        poll_until(lambda: journal(notes), what="the job runs")

        stock.rq("worker", "--burst", "default")

        assert view(stock.url, job_id).status == "started"
        gate.touch()
        (found,) = wait_until_ended(stock.url, job_id)
    assert (found.status, found.attempt) == ("finished", 1)


def test_job_of_a_killed_stock_worker_is_taken_over(stock: Stock, tmp_path: Path) -> None:
    gate, notes = tmp_path / "gate", tmp_path / "journal"
    with stock.rq_worker(
        tmp_path / "stock.log", "--worker-class", "rq.SimpleWorker", "default"
    ) as process:
        (job_id,) = submit(stock.url, draft("test.wait", gate=str(gate), journal=str(notes)))
        poll_until(lambda: journal(notes), what="the job runs")
        process.kill()
        process.wait()
    (entry,) = stock.text.zrange("rq:wip:default", 0, -1)
    # Its execution is due 90 s after its last sign of life: as if they had passed.
    stock.text.zadd("rq:wip:default", {entry: 1})
    gate.touch()

    with worker(stock.url, tmp_path):
        (found,) = wait_until_ended(stock.url, job_id)

    assert found.status == "finished"
    assert [line[1] for line in journal(notes)] == ["began", "began", "ran"]
    assert not stock.text.keys("rq:execution:*")
