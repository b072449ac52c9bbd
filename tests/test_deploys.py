"""Deploys under load, as a platform does them: SIGTERM to all processes at once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from tests.chaos.stage import Stage, deploy, report, sentence, stage
from tests.chaos.submitters import Submitters

DEPLOYS = int(os.environ.get("DEPLOYS", "100"))
JOBS_A_SECOND = 30.0
WORKERS = 2
READY_SECONDS = 30.0
# Between two deploys all are at work for so long.
LOAD_SECONDS = 0.3
# Clients can submit nothing while the one web process changes: not each time.
WEB_EVERY = 10


async def deploy_again_and_again(made: Stage) -> None:
    for number in range(DEPLOYS):
        async with asyncio.timeout(READY_SECONDS):
            while len(made.cast.ready) < WORKERS:
                await asyncio.sleep(0.05)
            await made.wait_until_open()
        await asyncio.sleep(LOAD_SECONDS)
        await deploy(made, WORKERS, web=number % WEB_EVERY == 0)
        made.played["deploy everything"] += 1


@pytest.mark.slow
async def test_deploys_lose_nothing_and_run_nothing_twice(tmp_path: Path) -> None:
    async with stage(tmp_path, Random(1), grace_seconds=20.0) as made:
        submitters = Submitters(made.client, made.journal, JOBS_A_SECOND, Random(2))
        submitting = asyncio.create_task(submitters.run())
        await deploy_again_and_again(made)
        submitters.enough.set()
        await submitting
        verdict = await sentence(made, submitters)
        report(made, submitters, verdict)

    assert not verdict.faults, "\n".join(verdict.faults[:20])
    assert verdict.acknowledged == verdict.ended > DEPLOYS
    # Jobs whose claim was under way go back; none of them has begun.
    assert verdict.run_again == 0
