"""An operation carried out by real workers: through their deaths, each job once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import redis

from app.queue.connection import Reachability, connect
from app.queue.operations import Operations
from app.queue.records.drafts import JobDraft
from app.queue.records.failed import FailureFilter, OperationView, Order
from tests.conftest import ValkeyServer, poll_until
from tests.harness import draft, journal, seem_dead, submit, wait_until_ended, worker

JOBS = 500


def operate(url: str, *, order: Order) -> str:
    """An operation on all that has failed."""

    async def start() -> OperationView:
        client = connect(url)
        operations = Operations(client, Reachability())
        try:
            return await operations.start(FailureFilter(), order, "ops", "a-request")
        finally:
            await operations.aclose()
            await client.aclose()

    return asyncio.run(start()).id


def fail_all(url: str, folder: Path, count: int) -> list[str]:
    """Jobs that fail in their first run, and finish in any later one."""
    notes = str(folder / "journal")
    drafts: list[JobDraft] = []
    for _ in range(count):
        each = draft("test.flaky", journal=notes, succeed_on=2)
        each.max_attempts = 1
        drafts.append(each)
    ids = submit(url, *drafts)
    with worker(url, folder) as first:
        wait_until_failed(url, count)
        first.stop()
    return ids


def wait_until_failed(url: str, count: int) -> None:
    with redis.Redis.from_url(url) as client:
        poll_until(lambda: client.zcard("rq:failed:default") == count, what="all have failed")


def retried(url: str, ids: list[str]) -> list[int]:
    """How often each job was retried, by its trail."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        trails: list[Any] = [client.hget(f"rq:job:{each}", "x_trail") for each in ids]
    return [str(trail).count('"retried":true') for trail in trails]


def test_worker_is_killed_in_the_middle_and_each_job_is_retried_once(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    url = valkey.url
    ids = fail_all(url, tmp_path, JOBS)
    operation = operate(url, order=Order("retry", pace=400.0))

    with redis.Redis.from_url(url, decode_responses=True) as client:
        key = f"rq:recado:operation:{operation}"
        with worker(url, tmp_path) as victim:
            poll_until(lambda: int(client.hget(key, "done") or 0) > 50, what="it is under way")
            victim.kill()
        done = int(client.hget(key, "done"))
        assert 0 < done < JOBS, "it was over before the kill"
        with worker(url, tmp_path):
            seem_dead(url, victim.pid)
            poll_until(
                lambda: client.hget(key, "state") == "finished", seconds=60, what="it is finished"
            )
            ended = wait_until_ended(url, *ids[-5:])
            poll_until(lambda: client.zcard("rq:failed:default") == 0, what="none has failed")
            poll_until(lambda: client.zcard("rq:finished:default") == JOBS, what="all finished")
        counted = int(client.hget(key, "done"))

    assert (counted, {job.status for job in ended}) == (JOBS, {"finished"})
    assert retried(url, ids) == [1] * JOBS
    runs = [line[0] for line in journal(tmp_path / "journal") if line[2] > 1]
    assert set(runs) == set(ids)
