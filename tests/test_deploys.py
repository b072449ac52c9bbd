"""Deploys under load, as a platform does them: SIGTERM to all processes at once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import pytest

from tests.chaos.stage import Stage, deploy, report, sentence, stage
from tests.chaos.submitters import Submitters
from tests.conftest import ValkeyServer
from tests.harness import draft, submit, wait_for_journal, worker

DEPLOYS = int(os.environ.get("DEPLOYS", "100"))
JOBS_A_SECOND = 30.0
WORKERS = 2
READY_SECONDS = 30.0
# Between two deploys all are at work for so long.
LOAD_SECONDS = 0.3
# Clients can submit nothing while the one web process changes: not each time.
WEB_EVERY = 10
# When a platform sends SIGKILL after SIGTERM.
PLATFORM_SECONDS = 30.0


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
def test_worker_is_gone_30_seconds_after_sigterm_beside_a_redis_that_hangs(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    assert valkey.process is not None
    with worker(valkey.url, tmp_path) as process:  # with the grace that is the default
        params = {"gate": str(tmp_path / "never"), "journal": str(tmp_path / "journal")}
        submit(valkey.url, draft("test.wait", **params), draft("test.wait_process", **params))
        wait_for_journal(tmp_path / "journal", "began", 2)
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            assert process.stop(seconds=PLATFORM_SECONDS) == 0
        finally:
            valkey.process.send_signal(signal.SIGCONT)


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
