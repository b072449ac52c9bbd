"""What reaches the terminal: colours and bars of ours, and nothing that a job would have it do."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from app.commands.terminal import visible
from tests.harness import JOB_MODULES, ROOT
from tests.heart_scene import Scene
from tests.terminal import Terminal, given

# Sets the window's title, clears the screen (twice), turns the writing around, is mark-up of rich.
HOSTILE = "\x1b]0;mine\x07\x1b[2J \x9b2J \u202egpj.exe\u2066 [red]x[/red] :boom:\rback\x00\u2028"
ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


async def hostile_jobs(scene: Scene) -> dict[str, str]:
    """All that somebody else can write into Redis, written there."""
    actor = await scene.worker()
    failed = await scene.submit(params={"message": HOSTILE}, tags={"k": HOSTILE})
    await actor.fail(await actor.take(), HOSTILE)
    record = f"rq:job:{failed}"
    waiting = await scene.submit(params={"message": HOSTILE})
    cause = json.loads(scene.redis.hget(record, "x_error"))["fingerprint"]
    scene.redis.hset(record, mapping={"x_by": HOSTILE, "x_traceback": HOSTILE})
    scene.redis.hset(f"rq:recado:failure:{cause}", mapping={"type": HOSTILE, "class": HOSTILE})
    scene.redis.sadd("rq:queues", f"rq:queue:{HOSTILE}")
    scene.redis.rpush(f"rq:queue:{HOSTILE}", waiting)
    scene.redis.hset(f"rq:worker:{actor.name}", "hostname", HOSTILE)
    scene.redis.xadd(
        "rq:recado:audit",
        {
            "key": HOSTILE,
            "action": HOSTILE,
            "target": HOSTILE,
            "detail": json.dumps({"a": HOSTILE}),
        },
    )
    return {"failed": failed, "cause": cause}


def test_what_jobs_say_is_shown_and_not_obeyed(terminal: Terminal, redis_url: str) -> None:
    names = given(redis_url, hostile_jobs)
    shown: dict[str, str] = {}

    for command in (
        "status", "queues", "workers", "audit", "jobs list", f"jobs show {names['failed']}",
        "failed list", f"failed show {names['cause']}",
    ):  # fmt: skip
        for form in ([], ["--json"]):
            text = terminal.type(*command.split(), *form)
            assert ORDERS.search(text + terminal.errors) is None, (command, form)
            shown[command + "".join(form)] = text

    for command in ("queues", "workers", "audit", "jobs list", "failed list"):
        assert "\\x1b" in shown[command], command
        assert "[red]x[/red] :boom:" in shown[command], command
    document = json.loads(shown["audit--json"])
    assert document["data"][0]["key"] == HOSTILE


def test_what_is_refused_or_not_found_is_no_order_either(terminal: Terminal) -> None:
    for arguments in (
        ["jobs", "show", HOSTILE], ["submit", "test.note", "--params", json.dumps({HOSTILE: 1})],
        ["queues", "pause", HOSTILE], ["failed", "show", HOSTILE], ["submit", HOSTILE],
        ["jobs", "list", "--status", HOSTILE], ["schedules", "show", HOSTILE],
    ):  # fmt: skip
        assert terminal.type(*arguments) == ""
        assert terminal.status in {1, 2}
        assert ORDERS.search(terminal.errors) is None, arguments


def test_written_out_text_says_what_it_was() -> None:
    assert visible("a\tb\nc\x1b[0m\x9b\u202e\ud800é🎉") == "a\tb\nc\\x1b[0m\\x9b\\u202e\\ud800é🎉"


def on_a_terminal(url: str, folder: Path, *arguments: str) -> tuple[str, int]:
    """What a person sees who types this, and the exit status."""
    leader, follower = pty.openpty()
    environment = {
        "REDIS_URL": url, "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8",
        "DATA_DIR": str(folder), "JOB_MODULES": JOB_MODULES,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, env=environment,
        stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    try:
        while piece := os.read(leader, 65536):
            seen += piece
    except OSError:  # EIO: nobody writes to it any more
        pass
    os.close(leader)
    return seen.decode(), process.wait()


def test_people_see_colours_but_none_of_a_job(redis_url: str, tmp_path: Path) -> None:
    names = given(redis_url, hostile_jobs)

    listed, _ = on_a_terminal(redis_url, tmp_path, "failed", "list")
    shown, _ = on_a_terminal(redis_url, tmp_path, "jobs", "show", names["failed"])

    for text in (listed, shown):
        styles = re.findall("\x1b\\[[0-9;]*m", text)
        assert styles
        rest = re.sub("\x1b\\[[0-9;]*m|\r\n", "", text)
        assert ORDERS.search(rest) is None


def test_list_of_causes_fits_a_terminal_of_80_columns(redis_url: str, tmp_path: Path) -> None:
    given(redis_url, hostile_jobs)

    listed, status = on_a_terminal(redis_url, tmp_path, "failed", "list")

    lines = re.sub("\x1b\\[[0-9;]*m", "", listed).splitlines()
    assert status == 0
    assert max(map(len, lines[:-1])) <= 80
    assert "No room for: queue" in listed


def test_people_see_a_bar_and_programs_none(
    redis_url: str, tmp_path: Path, terminal: Terminal
) -> None:
    line = ["submit", "test.note", "--wait", "0.5"]

    seen, status = on_a_terminal(redis_url, tmp_path, *line)
    piped = terminal.type(*line)

    assert (status, terminal.status) == (4, 4)
    assert "━" in seen
    assert re.fullmatch(r"[0-9a-f]{35}\nqueued\n", piped)
    assert terminal.errors == "No live worker listens to queue default.\n"


def test_people_see_how_far_a_queue_is_emptied(redis_url: str, tmp_path: Path) -> None:
    given(redis_url, lambda scene: scene.submit_many(3))

    line = ["queues", "empty", "default", "--confirm", "default"]
    seen, status = on_a_terminal(redis_url, tmp_path, *line)

    assert (status, "3 of 3" in seen, "default: 3 canceled" in seen) == (0, True, True)


def test_job_has_the_attempts_of_its_type(redis_url: str, tmp_path: Path) -> None:
    """In a process of its own, which knows no type but those that it loads."""
    job_id = given(redis_url, lambda scene: scene.submit())

    seen, _ = on_a_terminal(redis_url, tmp_path, "jobs", "show", job_id, "--json")

    shown = json.loads(seen)
    assert (shown["max_attempts"], shown["status"]) == (5, "queued")


def test_terminal_of_few_letters_ends_no_command(redis_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "status", "--once"], cwd=ROOT, capture_output=True,
        text=True, check=False,
        env={
            "REDIS_URL": redis_url, "PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path),
            "PYTHONIOENCODING": "ascii",
        },
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2717 no live worker listens to queue email" in done.stdout
