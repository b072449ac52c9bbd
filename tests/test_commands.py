"""`python -m app …`: what an operator sees who has only a terminal and Redis."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from redis import Redis

from app.commands import jobs
from app.commands.session import Session, run
from app.commands.tables import seconds_text, short_time
from app.queue import lists
from app.queue.connection import connect_blocking
from app.queue.errors import QueueUnavailableError
from app.queue.fitness import judge
from tests.conftest import ValkeyServer
from tests.harness import ROOT
from tests.heart_scene import Scene
from tests.terminal import Terminal, given

GOOD = {
    "redis_version": "7.2.4", "aof_enabled": "1", "maxmemory": "100000000",
    "maxmemory_policy": "noeviction", "used_memory": "1000", "cluster_enabled": "0",
}  # fmt: skip


async def some_jobs(scene: Scene) -> dict[str, str]:
    actor = await scene.worker()
    failed = await scene.submit()
    await actor.fail(await actor.take(), "550 [bold]no such box")
    running = await scene.submit()
    await actor.beat(await actor.take())
    return {"failed": failed, "running": running, "queued": await scene.submit()}


def test_queues_and_workers_are_told(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, some_jobs)

    (queue,) = [
        each for each in terminal.json("queues")["data"] if each["name"] == "default"
    ]  # fmt: skip
    (worker,) = terminal.json("workers")["data"]

    assert (queue["depth"], queue["running"], queue["failed"], queue["workers"]) == (1, 1, 1, 1)
    assert (worker["running"], worker["state"]) == ([ids["running"]], "busy")
    assert "default" in terminal.type("queues")
    assert worker["name"] in terminal.type("workers")


def test_status_says_what_is_not_as_it_should_be(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, some_jobs)

    shown = terminal.json("status")
    text = terminal.type("status")

    assert shown["status"] == "unavailable"
    assert "no live worker listens to queue email" in shown["reasons"]
    assert {"reasons", "queues", "workers"} <= shown.keys()
    assert "no live worker listens to queue email" in text
    assert terminal.status == 0


def test_jobs_are_listed_shown_and_canceled(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, some_jobs)

    listed = terminal.json("jobs", "list", "--status", "failed")["data"]
    shown = terminal.json("jobs", "show", ids["failed"])
    text = terminal.type("jobs", "show", ids["failed"])
    canceled = terminal.json("jobs", "cancel", ids["queued"])
    stopping = terminal.json("jobs", "cancel", ids["running"])

    assert [each["id"] for each in listed] == [ids["failed"]]
    assert shown["error"]["code"] == "refused"
    assert [each["event"] for each in shown["trail"]] == ["queued", "started", "failed"]
    # What a job says is told as it is, and is no mark-up of ours.
    assert "550 [bold]no such box" in text
    assert "550 [bold]no such box" in terminal.type("jobs", "list")
    assert canceled == {"id": ids["queued"], "status": "canceled"}
    assert stopping == {"id": ids["running"], "status": "stopping"}
    trail = terminal.json("jobs", "show", ids["queued"])["trail"]
    assert trail[-1]["detail"]["by"].startswith("cli:")


def test_pages_go_on_with_their_cursor(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, lambda scene: scene.submit_many(3))

    first = terminal.json("jobs", "list", "--limit", "2")
    rest = terminal.json("jobs", "list", "--limit", "2", "--cursor", first["next_cursor"])

    assert len(first["data"]) == 2
    assert {each["id"] for each in first["data"] + rest["data"]} == set(ids)


def test_list_goes_on_behind_pages_that_have_none(
    terminal: Terminal, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def some(scene: Scene) -> str:
        job_id = await scene.submit(queue="data")
        await scene.submit_many(5)
        return job_id

    sought = given(redis_url, some)
    wanted = ["jobs", "list", "--queue", "data"]
    monkeypatch.setattr(lists, "MOST_LOOKED_AT", 1)
    monkeypatch.setattr(jobs, "MOST_EMPTY", 6)

    found = terminal.json(*wanted)
    text = terminal.type(*wanted)
    monkeypatch.setattr(jobs, "MOST_EMPTY", 2)
    so_far = terminal.type(*wanted)
    cursor = re.search(r"--cursor (\S+)", so_far)
    assert cursor is not None
    rest = terminal.json(*wanted, "--cursor", cursor[1], "--limit", "1")

    assert [each["id"] for each in found["data"]] == [sought]
    assert sought in text
    assert "No such job so far.\nThere are more: --cursor" in so_far
    assert (rest["data"], rest["next_cursor"] is None) == ([], False)
    assert terminal.type("jobs", "list", "--status", "canceled") == "No such job.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jobs", "show", "no-such-job"], "There is no job no-such-job."),
        (["jobs", "cancel", "no-such-job"], "There is no job no-such-job."),
        (["jobs", "list", "--cursor", "x"], "--cursor takes what the page before ended with."),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_1(
    terminal: Terminal, arguments: list[str], sentence: str
) -> None:
    terminal.type(*arguments)

    assert (terminal.status, terminal.output, terminal.errors) == (1, "", f"{sentence}\n")


def test_ended_job_cannot_be_canceled(terminal: Terminal, redis_url: str) -> None:
    ids = given(redis_url, some_jobs)

    terminal.type("jobs", "cancel", ids["failed"])

    assert (terminal.status, terminal.errors) == (1, f"Job {ids['failed']} is failed already.\n")


@pytest.mark.parametrize(
    "command",
    [
        "status", "queues", "queues pause email", "queues empty email --confirm email",
        "workers", "audit", "jobs list", "jobs show x", "jobs cancel x", "jobs retry x",
        'submit log.write --params {"message":"a"}', "failed list",
        "failed show 0123456789abcdef", "failed retry --all --yes", "failed operation x",
        "schedules", "schedules show x", "schedules run x", "schedules delete x",
    ],
)  # fmt: skip
def test_redis_that_is_away_is_one_sentence(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SUBMIT_TIMEOUT_SECONDS", "0.1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")

        terminal.type(*command.split())

    assert (terminal.status, terminal.output) == (3, "")
    assert terminal.errors == "Redis does not answer.\n"


async def written_by_others(scene: Scene) -> None:
    for key in ("queues", "workers", "recado:failures", "recado:audit", "recado:schedules"):
        scene.redis.set(f"rq:{key}", "\x1b[2J")


def test_answer_that_nobody_expects_is_one_sentence(terminal: Terminal, redis_url: str) -> None:
    given(redis_url, written_by_others)

    for command in ("status", "queues", "workers", "failed list", "audit", "schedules"):
        terminal.type(*command.split())

        assert (terminal.status, terminal.output) == (3, ""), command
        assert terminal.errors.startswith("Redis gave an answer that nobody expects: "), command
        assert "WRONGTYPE" in terminal.errors and terminal.errors.count("\n") == 1


def test_what_is_asked_beside_an_answer_that_fails_leaves_no_connection(
    terminal: Terminal,
) -> None:
    async def fail() -> None:
        raise QueueUnavailableError("away")

    async def use(session: Session) -> None:
        await asyncio.gather(session.client.ping(), fail())

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            run(use)
        gc.collect()

    assert [str(each.message) for each in told] == []


def test_name_that_is_no_text_is_no_traceback(terminal: Terminal, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.sadd("rq:recado:paused", b"\xff")

    terminal.type("queues")

    assert (terminal.status, terminal.output) == (3, "")
    assert terminal.errors.startswith("Redis gave an answer that nobody expects: 'utf-8' codec")


def test_redis_may_listen_on_a_socket_of_this_machine(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = ValkeyServer(tmp_path, "--unixsocket", "s")
    server.start()
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/s")
    try:
        submitted = terminal.type("submit", "test.note").strip()
        listed = terminal.json("jobs", "list")["data"]
        with connect_blocking(f"unix://{tmp_path}/s") as client:
            assert client.ping()
    finally:
        server.kill()

    assert [each["id"] for each in listed] == [submitted]


def test_settings_at_fault_are_status_2(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "http://nowhere")

    terminal.type("queues")

    assert terminal.status == 2
    assert "REDIS_URL" in terminal.errors


def test_reader_that_has_seen_enough_is_no_error(redis_url: str, tmp_path: Path) -> None:
    given(redis_url, lambda scene: scene.submit_many(60))
    program = f"{sys.executable} -m app jobs list --limit 200 --json | head -1"

    done = subprocess.run(
        ["/bin/sh", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"REDIS_URL": redis_url, "PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path)},
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("{\n", "")


class TestCheck:
    def test_server_of_the_tests_is_looked_at(
        self, terminal: Terminal, shared_valkey: ValkeyServer
    ) -> None:
        findings = terminal.json("check")["findings"]

        texts = [each["text"] for each in findings]
        assert any("7.2.4" in text or "Valkey" in text for text in texts)
        assert "Files can be stored." in texts
        assert "No mail server is configured: e-mails wait and are retried." in texts
        has_fault = any(each["level"] == "fault" for each in findings)
        assert terminal.status == (1 if has_fault else 0)

    def test_redis_that_is_away_is_a_fault_beside_the_others(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
            monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{nobody.getsockname()[1]}")
            found = terminal.json("check")["findings"]

        assert [each["level"] for each in found] == ["fault", "fault", "ok"]
        assert found[0]["text"] == "Redis does not answer."
        assert found[1]["text"].startswith("The mail server: ")
        assert found[2]["text"] == "Files can be stored."
        assert terminal.status == 1

    def test_mail_server_that_is_away_is_a_fault(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{nobody.getsockname()[1]}")
            text = terminal.type("check")

        assert "✗ The mail server: " in text
        assert terminal.status == 1

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            ("60", [("ok", "Schedules in the file: 1.")]),
            ("0", [("fault", "SCHEDULES_FILE: /schedules/0/interval: ")]),
        ],
    )
    def test_schedules_file_is_read(
        self,
        terminal: Terminal,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        seconds: str,
        expected: list[tuple[str, str]],
    ) -> None:
        path = tmp_path / "schedules.toml"
        path.write_text(
            f'[[schedules]]\nname = "a"\ninterval = {seconds}\njob = {{type = "test.note"}}\n'
        )
        monkeypatch.setenv("SCHEDULES_FILE", str(path))

        found = terminal.json("check")["findings"]

        about = [each for each in found if "chedules" in each["text"].casefold()]
        assert [each["level"] for each in about] == [level for level, _ in expected]
        assert about[0]["text"].startswith(expected[0][1])

    @pytest.mark.parametrize(
        ("changed", "fsync", "level", "word"),
        [
            ({}, "everysec", "ok", "appendfsync everysec"),
            ({}, "always", "ok", "no job is lost"),
            ({}, None, "warning", "cannot be asked"),
            ({}, "no", "fault", "appendfsync is no"),
            ({"aof_enabled": "0"}, "everysec", "fault", "appendonly is off"),
            ({"redis_version": "6.2.14"}, "everysec", "fault", "too old"),
            ({"cluster_enabled": "1"}, "everysec", "fault", "cluster"),
            ({"maxmemory_policy": "allkeys-lru"}, "everysec", "fault", "allkeys-lru"),
            ({"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}, "always", "warning", "lru"),
            ({"maxmemory": "0"}, "everysec", "warning", "maxmemory is not set"),
            ({"used_memory": "95000000"}, "everysec", "fault", "nearly full"),
            ({"role": "slave"}, "everysec", "fault", "read-only replica"),
        ],
    )
    def test_each_condition_is_named(
        self, changed: dict[str, str], fsync: str | None, level: str, word: str
    ) -> None:
        findings = judge(GOOD | changed, fsync)

        (found,) = [each for each in findings if word in each.text]
        assert found.level == level
        assert [each for each in findings if each is not found and each.level == "fault"] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.04, "0.0 s"), (9.94, "9.9 s"), (42.3, "42 s"), (300, "5 min"),
        (7500, "2 h 05"), (3 * 86400, "3 d"),
    ],
)  # fmt: skip
def test_ages_are_short(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_times_of_today_are_told_without_their_date() -> None:
    now = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
    berlin = timezone(timedelta(hours=1))

    assert short_time(datetime(2030, 1, 31, 12, 30, 5, tzinfo=berlin), now) == "11:30:05"
    assert short_time(datetime(2030, 1, 31, 0, 30, tzinfo=berlin), now) == "2030-01-30 23:30"
