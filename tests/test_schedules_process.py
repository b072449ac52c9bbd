"""Schedules kept by real workers: through their deaths, each tick is one job."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import redis

from app.queue import scripts
from app.queue.connection import Reachability, connect
from app.queue.schedules import Schedules
from app.schedule import Schedule, ScheduleView
from tests.conftest import ValkeyServer, poll_until
from tests.crash_proxy import CrashProxy, Moment
from tests.harness import ROOT, seem_dead, view, worker

KEY = "rq:recado:schedule:beat"
FILE = """
[[schedules]]
name = "beat"
interval = 1
job = { type = "log.write", params = { message = "beat" } }
"""


def schedule(url: str, wanted: Schedule) -> ScheduleView:
    async def create() -> ScheduleView:
        client = connect(url)
        schedules = Schedules(client, Reachability())
        try:
            return await schedules.create(wanted, "ops", "a-request")
        finally:
            await schedules.aclose()
            await client.aclose()

    return asyncio.run(create())


def yearly() -> Schedule:
    job = {"type": "log.write", "params": {"message": "beat"}}
    return Schedule("beat", job, cron="0 0 1 1 *", missed="run_once", overlap="enqueue")


@pytest.mark.parametrize("moment", get_args(Moment))
def test_worker_is_killed_as_it_takes_a_tick_and_the_job_is_made_once(
    valkey: ValkeyServer, tmp_path: Path, moment: Moment
) -> None:
    schedule(valkey.url, yearly())
    proxy = CrashProxy(valkey.port, ("tick", 1), moment)
    try:
        with (
            worker(proxy.url, tmp_path) as victim,
            redis.Redis.from_url(valkey.url, decode_responses=True) as client,
        ):
            proxy.strike = victim.process.kill
            # Or the first time is only to say that the server does not know it.
            client.script_load(scripts.TICK.source.decode())
            seconds, micros = client.time()
            due = int(seconds) * 1000 + int(micros) // 1000
            client.hset(KEY, "next", due)
            client.zadd("rq:recado:schedules", {"beat": due})
            poll_until(proxy.tripped.is_set, what="the worker takes the tick")
            victim.process.wait()
            made = client.llen(f"{KEY}:runs")
            assert made == (moment == "after")
            with worker(valkey.url, tmp_path):
                seem_dead(valkey.url, victim.pid)
                poll_until(lambda: client.llen("rq:queue:default") == 0, what="none waits")
                poll_until(lambda: client.zcard("rq:finished:default") == 1, what="it has run")
                poll_until(lambda: int(client.hget(KEY, "next") or 0) > due, what="it goes on")
            (job_id,) = client.lrange(f"{KEY}:runs", 0, -1)
    finally:
        proxy.close()

    assert view(valkey.url, job_id).attempt == 1


def test_workers_keep_the_schedules_of_a_file_to_the_second(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    path = tmp_path / "schedules.toml"
    path.write_text(FILE)
    file = {"SCHEDULES_FILE": str(path)}

    with (
        worker(valkey.url, tmp_path, **file),
        worker(valkey.url, tmp_path, **file),
        redis.Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        poll_until(lambda: client.llen(f"{KEY}:runs") >= 4, what="four ticks have come")
        job_ids = client.lrange(f"{KEY}:runs", 0, -1)

    # The first 13 characters of an id are the microsecond of its tick.
    ticks = [int(each[:13], 16) for each in job_ids]
    assert len(set(ticks)) == len(ticks)
    assert {each % 1_000_000 for each in ticks} == {0}
    assert all(later - earlier >= 1_000_000 for later, earlier in itertools.pairwise(ticks))


def test_faults_of_the_file_are_all_told_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "schedules.toml"
    path.write_text(FILE.replace("interval = 1", "interval = 0\ntime_zone = 'Mars/Base'"))

    for module in ("app.worker", "app.main"):
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={"REDIS_URL": "redis://127.0.0.1:1", "SCHEDULES_FILE": str(path), "PATH": ""},
        )  # fmt: skip

        assert done.returncode == 2
        assert "SCHEDULES_FILE: /schedules/0/interval: " in done.stderr
        assert "SCHEDULES_FILE: /schedules/0/time_zone: " in done.stderr
