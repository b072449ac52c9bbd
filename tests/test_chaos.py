"""Everything goes wrong at once, for a minute; what was acknowledged ends, and ends once.

CHAOS_SECONDS makes it longer, CHAOS_SEED repeats what a run did (it prints its seed).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

import httpx2
import pytest
import redis

from tests.chaos.cast import Cast
from tests.chaos.judge import ENDED, Verdict, fetch, judge, leftovers, read_journal
from tests.chaos.proxy import CuttingProxy
from tests.chaos.submitters import Submitters
from tests.conftest import ValkeyServer, free_port
from tests.http_doubles import bearer, key

JOBS_A_MINUTE = 2000
SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**6)
# Of the whole: the rest is for the last recoveries.
SHARE_OF_CHAOS = 0.65
# The promise is 15 s; a worker counts as dead after 10 s of silence.
FREEZE_SECONDS = (11.5, 14.0)
RECOVERY_SECONDS = 15.0
PAUSE_SECONDS = (0.3, 1.5)
END_SECONDS = 60.0
MODULES = "tests.chaos.jobs"
# Each of these in every round, in another order each time.
DECK = (
    "kill a worker", "kill a worker", "kill all workers", "kill a child", "kill a child",
    "kill Valkey", "kill Valkey", "freeze a worker", "deploy a worker", "deploy everything",
    "cut connections", "cut connections", "lose replies", "lose replies", "kill the web",
)  # fmt: skip


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

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    async def wait_until_open(self) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    if (await self.client.get("/healthz")).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def wait_until_ended(self, job_ids: list[str]) -> None:
        """Or until the time is up: the judge says which have not."""
        with redis.Redis.from_url(self.valkey.url, decode_responses=True) as client:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + END_SECONDS
            waiting = job_ids
            while waiting and loop.time() < deadline:
                with client.pipeline(transaction=False) as pipeline:
                    for job_id in waiting:
                        pipeline.hget(f"rq:job:{job_id}", "status")
                    statuses = pipeline.execute()
                pairs = zip(waiting, statuses, strict=True)
                waiting = [job_id for job_id, status in pairs if status not in ENDED]
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
            yield made
    finally:
        cast.end()
        await proxy.close()
        valkey.kill()


async def break_things(stage: Stage, seconds: float, random: Random) -> None:
    """One fault after the other; between two and four workers are there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    deck: list[str] = []
    while loop.time() < end or any(stage.played[each] == 0 for each in DECK):
        if not deck:
            deck = random.sample(DECK, len(DECK))
        fault = deck.pop()
        if await play(stage, fault, random):
            stage.played[fault] += 1
        else:
            deck.insert(0, fault)
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        stage.cast.hire_up_to(random.choice((2, 2, 3)))
    await asyncio.gather(*stage.freezing)
    stage.cast.hire_up_to(2)


async def play(stage: Stage, fault: str, random: Random) -> bool:
    """False when there was nobody that it could have happened to."""
    cast = stage.cast
    ready = cast.ready
    if not ready:
        return False
    match fault:
        case "kill a worker":
            cast.kill_tree(random.choice(ready))
        case "kill all workers":
            for each in cast.at_work:
                cast.kill_tree(each)
        case "kill a child":
            return cast.kill_child()
        case "kill Valkey":
            stage.valkey.kill()
            await asyncio.to_thread(stage.valkey.start)
        case "freeze a worker":
            if cast.frozen:
                return False
            freeze = cast.freeze(random.choice(ready), random.uniform(*FREEZE_SECONDS))
            stage.freezing.append(asyncio.create_task(freeze))
        case "deploy a worker":
            cast.ask_to_leave(random.choice(ready))
        case "deploy everything":
            await deploy(stage, len(cast.at_work))
        case "cut connections":
            stage.proxy.cut()
        case "lose replies":
            stage.proxy.lose_replies()
        case "kill the web":
            cast.kill_web()
            cast.open_web()
    return True


async def deploy(stage: Stage, workers: int) -> None:
    """SIGTERM to all processes at once, new ones at once beside those that leave."""
    for each in stage.cast.at_work:
        stage.cast.ask_to_leave(each)
    stage.cast.hire_up_to(workers)
    await stage.cast.deploy_web()


async def sentence(stage: Stage, submitters: Submitters) -> Verdict:
    """What became of everything, once it has come to rest."""
    await stage.wait_until_ended(list(submitters.acknowledged))
    await stage.wait_until_open()
    jobs = await fetch(stage.client, submitters.acknowledged)
    await stage.cast.see_all_off()
    verdict = judge(jobs, submitters.acknowledged, read_journal(stage.journal), stage.cast.hits)
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
        f" slowest exit {stage.cast.slowest_exit:.1f} s"
    )


@pytest.mark.slow
async def test_what_was_acknowledged_ends_once_whatever_breaks(tmp_path: Path) -> None:
    print(f"\nCHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    random = Random(SEED)
    async with stage(tmp_path, random) as made:
        count = round(JOBS_A_MINUTE * SECONDS / 60)
        seconds = SECONDS * SHARE_OF_CHAOS
        submitters = Submitters(made.client, made.journal, count, seconds, Random(SEED + 1))
        await asyncio.gather(submitters.run(), break_things(made, seconds, random))
        verdict = await sentence(made, submitters)
        report(made, submitters, verdict)
        clocks = Counter(
            run.shifted_by for runs in read_journal(made.journal).values() for run in runs
        )

    assert not verdict.faults, "\n".join(verdict.faults[:20])
    assert verdict.acknowledged == verdict.ended == count
    assert verdict.slowest_recovery <= RECOVERY_SECONDS
    # It was no quiet day: what it promises has been put to the test.
    assert verdict.interrupted > 0
    assert made.proxy.lost_replies > 0
    assert set(clocks) == {0, 120}
