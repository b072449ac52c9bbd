"""The service behind a proxy, and the way to a verdict on it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx2
import redis
import redis.asyncio as async_redis

from app.queue.workers import SILENCE_SECONDS
from tests.chaos.cast import Cast
from tests.chaos.judge import ENDED, Verdict, fetch, judge, leftovers, read_journal
from tests.chaos.proxy import CuttingProxy
from tests.chaos.submitters import Submitters
from tests.conftest import ValkeyServer, free_port
from tests.http_doubles import bearer, key

MODULES = "tests.chaos.jobs"
OPEN_SECONDS = 20.0
END_SECONDS = 60.0
WATCH_SECONDS = 0.1


@dataclass
class Stage:
    """All that takes part."""

    valkey: ValkeyServer
    proxy: CuttingProxy
    cast: Cast
    client: httpx2.AsyncClient
    folder: Path
    played: Counter[str] = field(default_factory=Counter)
    freezing: list[asyncio.Task[None]] = field(default_factory=list)
    # When nobody was there who could have taken over.
    unattended: list[float] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    async def watch(self) -> None:
        """Notes for as long as it runs when no worker was at work.

        And when Redis found that nobody had looked for half a silence: as it cannot tell who
        was alive meanwhile, it counts from there. A loaded machine takes long to start anybody.
        """
        looked_ms = 0
        async with async_redis.Redis(port=self.valkey.port) as client:
            while True:
                if not self.cast.ready:
                    self.unattended.append(time.time())
                with suppress(redis.RedisError):
                    latest_ms = int(await client.get("rq:recado:recovered_at") or 0)
                    if looked_ms and latest_ms - looked_ms > SILENCE_SECONDS / 2 * 1000:
                        self.unattended.append(latest_ms / 1000)
                    looked_ms = latest_ms
                await asyncio.sleep(WATCH_SECONDS)

    async def wait_until_open(self) -> None:
        async with asyncio.timeout(OPEN_SECONDS):
            while True:
                try:
                    if (await self.client.get("/healthz")).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def wait_until_ended(self, job_ids: list[str]) -> None:
        """Or until none has ended for a while: the judge says which have not."""
        with redis.Redis.from_url(self.valkey.url, decode_responses=True) as client:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + END_SECONDS
            waiting = job_ids
            while waiting and loop.time() < deadline:
                before = len(waiting)
                with client.pipeline(transaction=False) as pipeline:
                    for job_id in waiting:
                        pipeline.hget(f"rq:job:{job_id}", "status")
                    statuses = pipeline.execute()
                pairs = zip(waiting, statuses, strict=True)
                waiting = [job_id for job_id, status in pairs if status not in ENDED]
                if len(waiting) < before:
                    deadline = loop.time() + END_SECONDS
                await asyncio.sleep(0.25)


@asynccontextmanager
async def stage(folder: Path, random: Random, grace_seconds: float = 1.0) -> AsyncIterator[Stage]:
    """The service behind a proxy, with two workers."""
    valkey = ValkeyServer(folder, "--appendfsync", "always")
    valkey.start()
    proxy, port, web_key = CuttingProxy(valkey.port), free_port(), key("m", "submit", "read")
    await proxy.start()
    shared = {"REDIS_URL": proxy.url, "JOB_MODULES": MODULES, "DATA_DIR": str(folder)}
    cast = Cast(
        folder, proxy.url, random,
        worker_variables={"JOB_MODULES": MODULES, "ABANDONED_LIMIT": "100"},
        web_variables=shared | {
            "PORT": str(port),
            "ABANDONED_LIMIT": "100",
            "API_KEYS": f"{web_key.name}:{'+'.join(web_key.scopes)}:{web_key.digest}",
        },
        grace_seconds=grace_seconds,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient(base_url=url, headers=bearer("m"), timeout=10) as client:
            made = Stage(valkey, proxy, cast, client, folder)
            cast.open_web()
            cast.hire_up_to(2)
            await made.wait_until_open()
            watching = asyncio.create_task(made.watch())
            try:
                yield made
            finally:
                watching.cancel()
                await asyncio.wait({watching})
    finally:
        cast.end()
        await proxy.close()
        valkey.kill()


async def deploy(stage: Stage, workers: int, *, web: bool = True) -> None:
    """SIGTERM to all processes at once, new ones at once beside those that leave.

    There is but one web process: while it changes, clients have to try again.
    """
    for each in stage.cast.at_work:
        stage.cast.ask_to_leave(each)
    stage.cast.hire_up_to(workers)
    if web:
        await stage.cast.deploy_web()


async def sentence(stage: Stage, submitters: Submitters) -> Verdict:
    """What became of everything, once it has come to rest."""
    await stage.wait_until_ended(list(submitters.acknowledged))
    await stage.wait_until_open()
    jobs = await fetch(stage.client, submitters.acknowledged)
    await stage.cast.see_all_off()
    runs = read_journal(stage.journal)
    verdict = judge(jobs, submitters.acknowledged, runs, stage.cast.hits, stage.unattended)
    verdict.faults += submitters.refused + stage.cast.bad_exits
    verdict.faults += leftovers(stage.valkey.url, submitters.acknowledged)
    return verdict


def report(stage: Stage, submitters: Submitters, verdict: Verdict) -> None:
    played = ", ".join(f"{count} x {name}" for name, count in sorted(stage.played.items()))
    print(
        f"\nfaults: {played}; {stage.proxy.cut_count} connections cut,"
        f" {stage.proxy.lost_replies} replies lost, {stage.cast.hired} workers in all\n"
        f"acknowledged {verdict.acknowledged} ({submitters.retried} tries without an answer,"
        f" {submitters.replayed} replays), ended {verdict.ended},"
        f" lost {verdict.acknowledged - verdict.ended}\n"
        f"interrupted {verdict.interrupted} jobs, run again {verdict.run_again} times,"
        f" slowest recovery {verdict.slowest_recovery:.1f} s,"
        f" slowest exit {stage.cast.slowest_exit:.1f} s,"
        f" nobody at work for {len(stage.unattended) * WATCH_SECONDS:.0f} s"
    )
