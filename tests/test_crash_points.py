"""A worker, its children and Valkey, killed right before and right after each send to Redis.

Whatever the moment, each job ends once, in one place, and nothing of the dead is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest

from tests.conftest import ValkeyServer
from tests.crash_checks import check_crash, check_end, check_keys
from tests.crash_lives import LIVES
from tests.crash_proxy import At, Moment
from tests.crash_stage import Point, Stage, Victim
from tests.crash_victims import Victims

# So many servers, each with a victim at a time: they wait more than they compute.
AT_ONCE = 4
WITH_PROCESSES = [name for name in LIVES if "process" in name]


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


def play(stages: list[Stage], name: str, victim: Victim, *points: At) -> None:
    """Play these points of a life, or each one; assert what must hold, and count."""
    for stage in stages:
        stage.clear()
    whole = stages[0].place(name, victim, None, "before")
    stages[0].play(whole)
    chosen = points or range(1, len(whole.requests) + 1)
    wanted = [(at, moment) for at in chosen for moment in get_args(Moment)]

    def play_some(stage: Stage, share: list[tuple[At, Moment]]) -> list[Point]:
        played = [whole] if stage is stages[0] else []
        for at, moment in share:
            point = stage.place(name, victim, at, moment)
            stage.play(point)
            played.append(point)
        if played:
            stage.finish(played)
        return played

    shares = [wanted[number :: len(stages)] for number in range(len(stages))]
    with ThreadPoolExecutor(len(stages)) as pool:
        played = list(pool.map(play_some, stages, shares))
    twice = 0
    for stage, own in zip(stages, played, strict=True):
        for point in own:
            check_crash(point)
            twice += check_end(stage, point)
        check_keys(stage, own)
    reached = sum(point.was_reached for own in played for point in own)
    if points:
        assert reached, f"none of {points} among {whole.requests}"
    print(f"\n{name}, {victim}: {reached} points, 0 lost, {twice} run twice")


SAMPLE: list[tuple[str, Victim, list[At]]] = [
    ("finished", "both", [("birth", 1), ("claim", 1), ("end", 1), ("death", 1)]),
    ("not kept", "both", [("end", 1)]),
    ("process", "worker", [("claim", 1), ("end", 1)]),
    ("retry", "both", [("end", 1), ("promote", 3)]),
    ("retry at once", "both", [("end", 1)]),
    ("failed", "both", [("end", 1)]),
    ("stopped", "both", [("claim", 1), ("end", 1)]),
    ("expired", "both", [("promote", 1), ("claim", 1)]),
    ("dependent", "both", [("end", 1), ("end", 2)]),
    ("failed parent", "both", [("end", 1)]),
    ("batch", "both", [("claim", 1), ("end", 1)]),
    ("slot", "both", [("end", 1)]),
    ("notify", "both", [("end", 1), ("end", 2)]),
    ("leaving", "both", [("end", 1)]),
    ("finished", "valkey", [("claim", 1), ("end", 1)]),
    ("dependent", "valkey", [("end", 1)]),
]


@pytest.mark.parametrize(("name", "victim", "points"), SAMPLE)
def test_sampled_crash_loses_no_job(
    stages: list[Stage], name: str, victim: Victim, points: list[At]
) -> None:
    play(stages, name, victim, *points)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("victim", ["both", "valkey"])
def test_crash_at_any_point_loses_no_job(stages: list[Stage], name: str, victim: Victim) -> None:
    play(stages, name, victim)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PROCESSES)
@pytest.mark.parametrize("victim", ["worker", "nursery"])
def test_crash_of_a_part_at_any_point_loses_no_job(
    stages: list[Stage], name: str, victim: Victim
) -> None:
    play(stages, name, victim)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stopped process", "long process"])
def test_crash_of_a_child_at_any_point_loses_no_job(stages: list[Stage], name: str) -> None:
    """Of a child that lives long enough for its worker to speak to Redis meanwhile."""
    play(stages, name, "child")
