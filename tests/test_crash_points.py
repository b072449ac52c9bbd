"""A worker, its children and Valkey, killed right before and right after each send to Redis.

Whatever the moment, each job ends once, in one place, and nothing of the dead is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import get_args

import pytest

from tests.conftest import ValkeyServer
from tests.crash_checks import check_crash, check_end, check_keys
from tests.crash_lives import LIVES
from tests.crash_proxy import At, Moment
from tests.crash_stage import Point, Stage, Victim
from tests.crash_victims import Victims

# So many servers, each with a victim at a time: they wait more than they compute.
AT_ONCE = 6
# One worker takes over from so many victims.
TOGETHER = 16
MOMENTS: tuple[Moment, ...] = get_args(Moment)
WITH_PROCESSES = [name for name, life in LIVES.items() if life.needs_processes]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    folder = tmp_path_factory.mktemp("crash")
    victims = Victims(folder / "victims.log")
    servers = []
    for number in range(AT_ONCE):
        (folder / str(number)).mkdir()
        servers.append(ValkeyServer(folder / str(number), "--appendfsync", "always"))
        servers[-1].start()
    yield [Stage(server, victims, folder) for server in servers]
    victims.close()
    for server in servers:
        server.kill()


@dataclass(frozen=True)
class Strike:
    """One point to be played; at None nothing is struck."""

    name: str
    victim: Victim
    at: At | None
    moment: Moment = "before"


@dataclass
class Count:
    """What became of the points, by life and victim."""

    points: Counter[str]
    twice: Counter[str]
    faults: list[str]

    def __str__(self) -> str:
        lines = [f"{name}: {count} points, {self.twice[name]} run twice"
                 for name, count in sorted(self.points.items())]  # fmt: skip
        total = f"{self.points.total()} points, {len(self.faults)} faults,"
        return "\n".join(["", *lines, f"{total} {self.twice.total()} run twice"])


def play(stages: list[Stage], strikes: Sequence[Strike]) -> list[Point]:
    """Play them, some at a time; say how many there were, and assert what must hold of each."""
    count = Count(Counter(), Counter(), [])
    size = min(TOGETHER, -(-len(strikes) // len(stages)))
    waiting = [strikes[at : at + size] for at in range(0, len(strikes), size)]

    def play_some(stage: Stage) -> list[Point]:
        played = []
        while waiting:
            played += play_together(stage, waiting.pop(), count)
        return played

    with ThreadPoolExecutor(len(stages)) as pool:
        points = [point for share in pool.map(play_some, stages) for point in share]
    print(count)
    assert not count.faults, "\n".join(count.faults)
    return points


def play_together(stage: Stage, strikes: Sequence[Strike], count: Count) -> list[Point]:
    """One after the other, and then one worker takes over from all of them."""
    stage.clear()
    points = []
    try:
        for each in strikes:
            points.append(stage.place(each.name, each.victim, each.at, each.moment))
            stage.play(points[-1])
        stage.finish(points)
        check_keys(stage, points)
    except (AssertionError, pytest.fail.Exception) as fault:
        count.faults.append(f"{[str(point) for point in points]}: {fault}")
        return []
    for point in points:
        name = f"{point.name}, {point.victim}"
        count.points[name] += point.was_reached
        try:
            check_crash(point)
            count.twice[name] += check_end(stage, point)
        except AssertionError as fault:
            count.faults.append(str(fault))
    return points


def play_all(stages: list[Stage], victim: Victim, names: Sequence[str]) -> None:
    """Every point of these lives: as many as they send requests when nobody strikes."""
    wholes = play(stages, [Strike(name, victim, None) for name in names])
    points = [
        Strike(whole.name, victim, at, moment)
        for whole in wholes
        for at, moment in product(range(1, len(whole.requests) + 1), MOMENTS)
    ]
    play(stages, points)


# Where most is at stake: what is claimed, what ends, and the worker's own coming and going.
SAMPLE: list[tuple[str, Victim, At]] = [
    ("finished", "both", ("birth", 1)),
    ("finished", "both", ("claim", 1)),
    ("finished", "both", ("end", 1)),
    ("finished", "both", ("death", 1)),
    ("not kept", "both", ("end", 1)),
    ("process", "worker", ("claim", 1)),
    ("process", "worker", ("end", 1)),
    ("retry", "both", ("end", 1)),
    ("retry at once", "both", ("end", 1)),
    ("failed", "both", ("end", 1)),
    ("stopped", "both", ("claim", 1)),
    ("stopped", "both", ("end", 1)),
    ("expired in a pause", "both", ("promote", 1)),
    ("dependent", "both", ("end", 1)),
    ("dependent", "both", ("end", 2)),
    ("failed parent", "both", ("end", 1)),
    ("batch", "both", ("claim", 1)),
    ("batch", "both", ("end", 1)),
    ("slot", "both", ("end", 1)),
    ("notify", "both", ("end", 1)),
    ("notify", "both", ("end", 2)),
    ("leaving", "both", ("end", 1)),
    ("finished", "valkey", ("claim", 1)),
    ("finished", "valkey", ("end", 1)),
    ("dependent", "valkey", ("end", 1)),
]
# It may be over before its worker gets so far: whichever comes first ends what has expired.
PERHAPS: list[tuple[str, Victim, At]] = [
    ("retry", "both", ("promote", 3)),
    ("expired", "both", ("claim", 1)),
    ("expired", "both", ("promote", 1)),
]


@pytest.mark.first
def test_sampled_crash_loses_no_job(stages: list[Stage]) -> None:
    points = play(stages, [Strike(*each, at) for each in SAMPLE + PERHAPS for at in MOMENTS])

    missed = [point for point in points if not point.was_reached]
    assert {(each.name, each.victim, each.at) for each in missed} <= set(PERHAPS)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["both", "valkey"])
def test_crash_at_any_point_loses_no_job(stages: list[Stage], victim: Victim) -> None:
    play_all(stages, victim, list(LIVES))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "nursery"])
def test_crash_of_a_part_at_any_point_loses_no_job(stages: list[Stage], victim: Victim) -> None:
    play_all(stages, victim, WITH_PROCESSES)


@pytest.mark.slow
def test_crash_of_a_child_at_any_point_loses_no_job(stages: list[Stage]) -> None:
    """Of a child that lives long enough for its worker to speak to Redis meanwhile."""
    play_all(stages, "child", ["stopped process", "long process"])
