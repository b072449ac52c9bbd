"""A process whose own clock is ahead does to the jobs what any other does: the server's counts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.chaos import clock
from tests.harness import ROOT, draft
from tests.heart_scene import Scene, scene_on

AHEAD_SECONDS = 120
# What workers do all the time, and one job.
_WORK = """
import asyncio, sys
from tests.heart_scene import scene_on

async def work():
    async with scene_on(sys.argv[1]) as scene:
        for _ in range(3):
            await scene.caretaker.recover()
            await scene.caretaker.promote()
        actor = await scene.worker("email")
        await actor.beat()
        await actor.retry(await actor.take(), 60.0)

asyncio.run(work())
"""


@pytest.fixture
async def scene(redis_url: str) -> AsyncIterator[Scene]:
    async with scene_on(redis_url) as scene:
        yield scene


async def _work_ahead(scene: Scene, folder: Path) -> None:
    variables = os.environ | clock.environment(folder / "ahead", AHEAD_SECONDS)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _WORK, scene.url],
        cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


async def test_worker_whose_clock_is_ahead_does_nothing_too_early(
    scene: Scene, tmp_path: Path
) -> None:
    held, retried = await scene.submit(), await scene.submit(queue="email")
    scheduled = await scene.submit(delay_seconds=60.0)
    expiring = await scene.submit(expires_at=datetime.now(UTC) + timedelta(seconds=60))
    other = await scene.worker()
    claimed = (await other.claim(coroutines=1)).jobs[0]
    assert claimed.id == held

    await _work_ahead(scene, tmp_path)

    statuses = [scene.status(each) for each in (held, scheduled, expiring, retried)]
    assert statuses == ["started", "scheduled", "queued", "scheduled"]
    assert (await other.beat(claimed))[1] == []
    due = scene.redis.zscore("rq:scheduled:email", retried)
    assert due <= scene.now_ms() / 1000 + 60
    assert (await scene.view(retried)).attempts[0].started_at <= datetime.now(UTC)


async def test_delay_counts_by_the_servers_clock(scene: Scene) -> None:
    """The web process' clock may be ahead, too."""
    ahead = datetime.now(UTC) + timedelta(seconds=AHEAD_SECONDS)
    submitted = replace(draft("test.note"), created_at=ahead, delay_seconds=60.0)

    await scene.submitter.submit(submitted)

    due = scene.redis.zscore("rq:scheduled:default", submitted.id)
    assert due <= scene.now_ms() / 1000 + 60
