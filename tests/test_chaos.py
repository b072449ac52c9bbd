"""Everything goes wrong at once, for a minute; what was acknowledged ends, and ends once.

CHAOS_SECONDS makes it longer, CHAOS_SEED repeats what a run did (it prints its seed).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.chaos.judge import read_journal
from tests.chaos.stage import Stage, deploy, report, sentence, stage
from tests.chaos.submitters import Submitters

JOBS_A_MINUTE = 2000
SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or SystemRandom().randrange(1, 10**6)
# Of the whole: the rest is for the last recoveries.
SHARE_OF_CHAOS = 0.65
# The promise is 15 s; a worker counts as dead after 10 s of silence.
FREEZE_SECONDS = (11.5, 14.0)
RECOVERY_SECONDS = 15.0
PAUSE_SECONDS = (0.3, 1.5)
# Each of these in every round, in another order each time.
DECK = (
    "kill a worker", "kill a worker", "kill all workers", "kill a child", "kill a child",
    "kill Valkey", "kill Valkey", "freeze a worker", "deploy a worker", "deploy everything",
    "cut connections", "cut connections", "lose replies", "lose replies", "kill the web",
)  # fmt: skip


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


@pytest.mark.slow
async def test_what_was_acknowledged_ends_once_whatever_breaks(tmp_path: Path) -> None:
    print(f"\nCHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    random = Random(SEED)
    async with stage(tmp_path, random) as made:
        count = round(JOBS_A_MINUTE * SECONDS / 60)
        seconds = SECONDS * SHARE_OF_CHAOS
        submitters = Submitters(
            made.client, made.journal, count / seconds, Random(SEED + 1), count=count
        )
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
