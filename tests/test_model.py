"""The scripts against a model of them: whatever happens in whatever order, they agree, and no
job is lost, run by two at once or ended twice. What that found stands below by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import ValkeyServer
from tests.model_machine import Heart
from tests.model_play import BUDGETS, SECOND, Play
from tests.model_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    server = ValkeyServer(tmp_path_factory.mktemp("model"), "--appendonly", "no")
    server.start()
    world = World(server.url)
    yield world
    world.close()
    server.kill()


def run_examples(world: World, **options: Any) -> int:
    """How many calls were made."""
    machine: Any = type("HeartOnThisServer", (Heart,), {"world": world, "steps": 0})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate, Phase.shrink],
            **options,
        ),
    )
    return int(machine.steps)


def test_scripts_do_what_the_model_says_in_any_order(world: World) -> None:
    run_examples(world, max_examples=200, stateful_step_count=25, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(1, 5))
def test_scripts_do_what_the_model_says_in_100_000_steps(world: World, quarter: int) -> None:
    """In four parts, for as many processes; other examples each time."""
    steps = 0
    while steps < 25_000:
        steps += run_examples(world, max_examples=200, stateful_step_count=50)
    print(f"\nquarter {quarter}: {steps} calls, nothing found")


@pytest.fixture
def play(world: World) -> Iterator[Play]:
    """The model agrees after each call, and in the end nothing is left."""
    play = Play(world)
    yield play
    if not play.has_parted:
        play.drain()


def keys_with(play: Play, text: str) -> list[str]:
    """Which keys have it in their name or in what they hold."""
    found = play.world.stored().items()
    return sorted(key for key, stored in found if text in key or text in str(stored.value))


def test_claim_that_arrives_after_its_worker_left_takes_nothing(play: Play) -> None:
    """Nobody would notice that it is silent, and the job would wait for an hour."""
    player = play.join("default")
    play.submit(play.request(play.draft()))
    play.leave(player)

    answer = play.do("claim", player.name, 1, (1, 1), ["default"], 0)

    assert answer == ["register"]
    assert play.world.stored()["rq:queue:default"].value == play.known
    assert play.do("beat", player.name, 1, ()) == ["register"]


def test_job_of_a_worker_that_slept_for_hours_and_then_leaves_goes_back(play: Play) -> None:
    """Its execution was forgotten meanwhile, and with the last trace of it the job was nowhere."""
    player = play.join("default")
    play.submit(play.request(play.draft()))
    play.claim(player)
    play.pass_time(4000 * SECOND)
    play.do("birth", player.name, player.queues)

    play.leave(player)

    assert play.world.stored()["rq:queue:default"].value == play.known


def test_worker_forgotten_before_anybody_looked_is_no_ghost_of_its_queues(play: Play) -> None:
    """All was down for longer than RQ keeps a worker's record; nobody used those queues yet."""
    player = play.join("email.high", "email")
    play.vanish(player)
    play.pass_time(500 * SECOND)

    play.live_through(16)

    assert keys_with(play, player.name) == []


def test_tags_and_errors_of_a_job_forgotten_before_upkeep_are_no_ghosts(play: Play) -> None:
    player = play.join("default")
    play.submit(play.request(play.draft(tags={"team": "red"})))
    play.claim(player)
    play.end(player, [(player.running[0], "failed", 60, 0.0)])
    play.pass_time(90_000 * SECOND)
    assert f"rq:job:{play.known[0]}" not in play.world.stored()

    play.live_through(16)

    assert keys_with(play, play.known[0]) == []


def test_reader_that_finds_a_forgotten_job_by_its_tag_repairs_that_list(play: Play) -> None:
    play.submit(play.request(play.draft(tags={"team": "red"}, retention_seconds=60)))
    play.do("control", "cancel", play.known[0], "shop")
    play.pass_time(2000 * SECOND)

    play.do("repair", "tag", "team:red", [play.known[0]])

    assert "rq:recado:i:tag:team:red" not in play.world.stored()


def test_bytes_of_a_batch_on_its_way_in_stay_counted(play: Play) -> None:
    """Else they were taken off without having been counted, and the budget let too much in."""
    request = play.request(play.draft(), play.draft(), is_batch=True)
    play.stage(request)
    play.do("commit", request, BUDGETS)
    counted = play.world.stored()["rq:recado:bytes"].value

    for _ in range(3):
        play.pass_time(4 * SECOND)
        play.do("recover")

    assert int(counted["default"]) > 1800
    assert play.world.stored()["rq:recado:bytes"].value == counted


def test_upkeep_goes_on_when_the_clock_was_put_back(play: Play) -> None:
    play.live_through(8)
    play.pass_time(-86400 * SECOND)
    player = play.join("default")
    play.submit(play.request(play.draft(retention_seconds=60)))
    play.claim(player)
    play.end(player, [(player.running[0], "finished", 60, 0.0)])

    play.live_through(100, [player])

    assert keys_with(play, play.known[0]) == []


@pytest.mark.parametrize("act", ["stock_cancel", "stock_delete"])
def test_who_waits_for_a_job_that_a_stock_tool_took_away_is_settled(play: Play, act: str) -> None:
    """RQ tells nobody, and the dependent waited for ever."""
    parent = play.draft()
    play.submit(play.request(parent))
    play.submit(play.request(play.draft(depends_on=[parent.id])))
    play.do(act, parent.id)

    play.live_through(12)

    status = play.world.stored()[f"rq:job:{play.known[1]}"].value["status"]
    # As RQ has it, a parent whose record is gone has ended well.
    assert status == ("canceled" if act == "stock_cancel" else "queued")


def test_job_canceled_at_once_is_forgotten_where_nothing_was_ever_queued(play: Play) -> None:
    parent = play.draft()
    play.submit(play.request(parent))
    play.do("control", "cancel", parent.id, "shop")
    play.submit(play.request(play.draft(queue="email", depends_on=[parent.id])))
    play.pass_time(2000 * SECOND)

    for _ in range(2):
        play.pass_time(86400 * SECOND)
        play.live_through(8)

    assert keys_with(play, play.known[1]) == []


def test_job_that_a_stock_tool_requeued_outlives_the_record_that_had_failed(play: Play) -> None:
    """RQ's requeue leaves the TTL of the failed record on it: it vanished in its queue."""
    player = play.join("default")
    play.submit(play.request(play.draft()))
    play.claim(player)
    play.end(player, [(player.running[0], "failed", 60, 0.0)])
    play.pass_time(59 * SECOND)
    play.do("stock_requeue", play.known[0])
    play.leave(player)
    play.pass_time(2000 * SECOND)  # nobody is up

    play.live_through(24)
    play.pass_time(90_000 * SECOND)

    assert play.world.stored()[f"rq:job:{play.known[0]}"].value["status"] == "queued"


def test_job_of_a_stock_producer_is_in_lists_until_it_is_forgotten(play: Play) -> None:
    made_us = play.model.now_us + 1000
    job_id = play.new_id("-stock")
    play.do("stock_enqueue", "default", job_id)
    play.live_through(24)
    entry = f"{made_us:013x}:{job_id}"
    listed = {f"rq:recado:i:{name}" for name in ("all", "type:test.note")}
    assert {key for key in keys_with(play, entry) if key.startswith("rq:recado:i:")} == listed

    player = play.join("default")
    play.claim(player)
    play.end(player, [(player.running[0], "finished", 60, 0.0)])
    play.live_through(100, [player])

    assert keys_with(play, job_id) == []


def test_lists_of_errors_forget_a_stock_job_whose_record_was_deleted(play: Play) -> None:
    """Its id alone does not say where it stands in them; the record that did was gone."""
    play.do("stock_enqueue", "default", play.new_id("-stock"))
    player = play.join("default")
    play.claim(player)
    play.end(player, [(player.running[0], "retry", 60, 0.0)])
    play.do("stock_delete", play.known[0])
    play.do("repair", "status", "failed", [play.known[0]])

    play.live_through(100, [player])

    assert keys_with(play, play.known[0]) == []


def test_progress_of_a_job_that_a_stock_tool_deleted_brings_nothing_back(play: Play) -> None:
    """RQ leaves the execution of a running job that has a concurrency key."""
    player = play.join("default")
    play.submit(play.request(play.draft(slot="one")))
    play.claim(player)
    play.do("stock_delete", play.known[0])

    play.do("progress", player.name, player.running[0], '{"current":1}')

    assert f"rq:job:{play.known[0]}" not in play.world.stored()


def test_call_that_staged_a_batch_and_arrives_again_puts_no_clock_on_its_jobs(play: Play) -> None:
    """What is committed and waits to be queued was forgotten 60 s after the late call."""
    request = play.request(play.draft(), play.draft(), is_batch=True)
    play.stage(request)
    play.do("commit", request, BUDGETS)
    play.do("stage", request)
    play.pass_time(130 * SECOND)  # nobody is up

    play.live_through(24)

    found = [play.world.stored()[f"rq:job:{draft.id}"].value["status"] for draft in request.drafts]
    assert found == ["queued", "queued"]
