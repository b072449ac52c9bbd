"""`python -m app failed …`: from a cause to its last job, with only a terminal and Redis."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.harness import ROOT, draft, service, submit, wait_until_ended
from tests.heart_scene import Scene
from tests.terminal import Terminal, given


async def two_causes(scene: Scene) -> list[str]:
    """Two that were refused alike, and then one of another cause."""
    actor = await scene.worker()
    ids = []
    for message in ("550 no box 17", "550 no box 18", "disk is full"):
        ids.append(await scene.submit(tags={"shop": message[-2:]}))
        await actor.fail(await actor.take(), message)
    return ids


def statuses(url: str, ids: list[str]) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return [str(client.hget(f"rq:job:{each}", "status")) for each in ids]


def test_failures_are_listed_by_cause_as_over_http(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, two_causes)

    full, alike = terminal.json("failed", "list")["data"]
    text = terminal.type("failed", "list")

    assert (full["count"], full["error"]["message"]) == (1, "disk is full")
    assert (alike["count"], alike["type"], alike["queue"]) == (2, "test.note", "default")
    assert (alike["state"], alike["samples"]) == ("open", [ids[1], ids[0]])
    assert alike["trend"] == {"1h": 2, "24h": 2, "7d": 2}
    assert alike["fingerprint"] in text
    assert "PermanentError: disk is full" in text


def test_pages_of_causes_go_on_with_their_cursor(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, two_causes)

    first = terminal.json("failed", "list", "--limit", "1")
    rest = terminal.json("failed", "list", "--limit", "1", "--cursor", first["next_cursor"])
    terminal.type("failed", "list", "--cursor", "x")

    assert [each["count"] for each in first["data"] + rest["data"]] == [1, 2]
    assert rest["next_cursor"] is None
    assert (terminal.status, terminal.output) == (1, "")


def test_one_cause_shows_its_jobs_and_what_to_type(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, two_causes)
    cause = terminal.json("failed", "list")["data"][1]["fingerprint"]

    shown = terminal.json("failed", "show", cause)
    text = terminal.type("failed", "show", cause)

    assert [each["id"] for each in shown["jobs"]] == [ids[1], ids[0]]
    assert shown["error"]["code"] == "refused"
    assert ids[0] in text
    typed = re.findall(r"python -m app (\S.*?)  ", text)
    assert f"jobs show {ids[1]}" in typed
    assert f"failed retry {cause} --canary" in typed
    assert "2 in 1 h, 2 in 24 h, 2 in 7 d" in text


@pytest.mark.parametrize("cause", ["0123456789abcdef", "nonsense"])
def test_unknown_cause_is_one_sentence(terminal: Terminal, cause: str) -> None:
    terminal.type("failed", "show", cause)

    expected = f"Nothing that has failed has the cause {cause}.\n"
    assert (terminal.status, terminal.output, terminal.errors) == (1, "", expected)


def test_nothing_is_done_before_somebody_agrees(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, two_causes)
    cause = terminal.json("failed", "list")["data"][1]["fingerprint"]
    refusals = []

    for answer in ("n\n", "\n", "", "no, y\n"):
        terminal.type("failed", "discard", cause, answer=answer)
        refusals.append((terminal.status, terminal.output))
        assert f"Discard for good 2 failed jobs ({ids[1]}, {ids[0]})? [y/N]" in terminal.errors
        assert "Nothing was done." in terminal.errors

    assert refusals == [(1, "")] * 4
    assert statuses(redis_url, ids) == ["failed"] * 3
    assert terminal.json("audit")["data"] == []


def test_operation_begins_with_exactly_what_was_shown(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, two_causes)
    cause = terminal.json("failed", "list")["data"][1]["fingerprint"]

    begun = terminal.json(
        "failed", "retry", cause, "--canary", "--pace", "5", "--no-wait", answer="y\n"
    )

    assert (begun["action"], begun["total"], begun["canary"], begun["pace"]) == (
        "retry", 2, True, 5.0,
    )  # fmt: skip
    assert begun["created_by"].startswith("cli:")
    assert any("no live worker" in each for each in begun["warnings"])
    (act,) = terminal.json("audit")["data"]
    assert (act["key"], act["action"], act["detail"]["count"]) == (begun["created_by"], "retry", 2)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (["--all"], 3),
        (["--tag", "shop:17"], 1),
        (["--type", "test.note", "--queue", "default", "--error", "refused"], 3),
        (["--created-after", "2000-01-01T00:00:00Z"], 3),
    ],
)
def test_filters_say_which_are_meant(
    terminal: Terminal, redis_url: str, wanted: list[str], count: int
) -> None:
    given(redis_url, two_causes)

    begun = terminal.json("failed", "discard", *wanted, "--yes", "--no-wait")

    assert (begun["total"], begun["action"]) == (count, "discard")


@pytest.mark.parametrize(
    "wanted",
    [["--type", "log.write"], ["0123456789abcdef"], ["--created-before", "2000-01-01T00:00:00Z"]],
)
def test_filter_that_fits_nothing_asks_nothing(
    terminal: Terminal, redis_url: str, wanted: list[str]
) -> None:
    given(redis_url, two_causes)

    terminal.type("failed", "retry", *wanted)

    expected = "No failed job is meant by that.\n"
    assert (terminal.status, terminal.output, terminal.errors) == (1, "", expected)


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["abc", "--all"], ["--all", "--type", "x.y"], ["--tag", "shop"], ["--pace", "0"],
        ["--all", "--pace", "1e3"], ["--created-after", "yesterday"],
        ["--created-after", "2030-01-31T12:00:00"], ["--type", ""], ["--type", "\udcff"],
    ],
    ids=str,
)  # fmt: skip
def test_what_names_no_jobs_is_status_2(terminal: Terminal, arguments: list[str]) -> None:
    terminal.type("failed", "retry", *arguments)

    assert (terminal.status, terminal.output) == (2, "")
    assert "usage: python -m app failed retry" in terminal.errors


def test_operation_is_paused_resumed_and_stopped(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, two_causes)
    name = terminal.json("failed", "retry", "--all", "--yes", "--no-wait")["id"]

    states = [
        terminal.json("failed", "operation", name, *act)["state"]
        for act in ([], ["--pause"], ["--resume"], ["--stop"])
    ]
    text = terminal.type("failed", "operation", name)
    terminal.type("failed", "operation", name, "--pause")

    assert states == ["queued", "paused", "running", "stopped"]
    assert "stopped by cli:" in text
    assert (terminal.status, terminal.output) == (1, "")
    assert terminal.errors == f"Operation {name} is stopped already.\n"
    actions = [each["action"] for each in terminal.json("audit")["data"]]
    assert actions == ["stop", "resume", "pause", "retry"]


def test_operations_are_listed_newest_first(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, two_causes)
    first = terminal.json("failed", "retry", "--tag", "shop:17", "--yes", "--no-wait")["id"]
    second = terminal.json("failed", "discard", "--type", "test.note", "--yes", "--no-wait")["id"]

    page = terminal.json("failed", "operations", "--limit", "1")
    rest = terminal.json("failed", "operations", "--cursor", page["next_cursor"])
    text = terminal.type("failed", "operations")

    assert [each["id"] for each in page["data"] + rest["data"]] == [second, first]
    assert page["data"][0]["filter"] == {"type": "test.note"}
    assert "tag=shop:17" in text


def test_unknown_operation_is_one_sentence(terminal: Terminal) -> None:
    terminal.type("failed", "operation", "nothing", "--stop")

    assert (terminal.status, terminal.errors) == (1, "There is no operation nothing.\n")


def test_ctrl_c_leaves_the_operation_and_says_how_to_go_on(redis_url: str, tmp_path: Path) -> None:
    given(redis_url, two_causes)
    program = [sys.executable, "-m", "app", "failed", "retry", "--all", "--yes"]
    process = subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"REDIS_URL": redis_url, "PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    waits = process.stderr.readline()

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)

    assert waits == "It waits: no live worker listens to queue operations.\n"
    assert (process.returncode, output) == (130, "")
    (typed,) = re.findall(r"python -m app (failed operation \w+ --stop)", errors)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hget(f"rq:recado:operation:{typed.split()[2]}", "state") == "queued"


class TestWithWorker:
    """A worker does what was asked for, and the command waits for it."""

    @pytest.fixture
    def url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with service(tmp_path) as running:
            monkeypatch.setenv("REDIS_URL", running.url)
            yield running.url

    def test_cause_is_retried_by_canary_and_the_rest_discarded(
        self, terminal: Terminal, url: str
    ) -> None:
        mended, broken = [draft("test.flaky", succeed_on=2) for _ in range(3)], draft("test.refuse")
        for each in mended:
            each.max_attempts = 1
        ids = submit(url, *mended)
        (bad,) = submit(url, broken)
        wait_until_ended(url, *ids, bad)
        causes = {each["type"]: each["fingerprint"] for each in self._causes(terminal)}

        retried = terminal.json("failed", "retry", causes["test.flaky"], "--yes", "--canary")
        done = terminal.status
        text = terminal.type("failed", "discard", causes["test.refuse"], answer="y\n")

        assert (retried["state"], retried["done"], done) == ("finished", 3, 0)
        assert [each.status for each in wait_until_ended(url, *ids)] == ["finished"] * 3
        assert (terminal.status, self._causes(terminal)) == (0, [])
        assert "discarded  1 of 1" in text

    def test_cause_that_comes_back_stops_it(self, terminal: Terminal, url: str) -> None:
        ids = submit(url, *(draft("test.refuse") for _ in range(3)))
        wait_until_ended(url, *ids)
        (cause,) = self._causes(terminal)

        text = terminal.type("failed", "retry", cause["fingerprint"], "--canary", "--yes")

        assert terminal.status == 1
        assert f"stopped by {cause['fingerprint']}" in text
        assert "retried  1 of 3" in text

    def test_each_look_is_a_line_of_json(self, terminal: Terminal, url: str) -> None:
        submitted = submit(url, draft("test.refuse"))
        wait_until_ended(url, *submitted)
        name = terminal.json("failed", "discard", "--all", "--yes", "--no-wait")["id"]

        lines = terminal.type("failed", "operation", name, "--watch", "--json").splitlines()

        last = [json.loads(line) for line in lines][-1]
        assert (last["id"], last["state"], last["done"]) == (name, "finished", 1)

    def _causes(self, terminal: Terminal) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = terminal.json("failed", "list")["data"]
        return found


def test_lines_tell_of_an_operation_until_it_ends(terminal: Terminal, redis_url: str) -> None:
    """With nobody to carry it out it ends when it is stopped."""
    given(redis_url, two_causes)
    name = terminal.json("failed", "retry", "--all", "--yes", "--no-wait")["id"]
    program = [sys.executable, "-m", "app", "failed", "operation", name, "--watch", "--json"]
    process = subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())

    terminal.type("failed", "operation", name, "--stop")
    output, _ = process.communicate(timeout=30)

    assert (first["state"], process.returncode) == ("queued", 1)
    assert json.loads(output.splitlines()[-1])["state"] == "stopped"
