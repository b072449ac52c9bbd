"""`submit`, `jobs retry`, `queues`, `schedules`, `audit`: work handed in, held and begun again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.harness import draft, service, submit, wait_until_ended
from tests.heart_scene import Scene
from tests.terminal import Terminal, given

NOTE = ["submit", "test.note"]


async def one_failed(scene: Scene) -> str:
    actor = await scene.worker()
    job_id = await scene.submit(params={"message": "a"}, tags={"shop": "7"})
    await actor.fail(await actor.take(), "refused")
    return job_id


class TestSubmit:
    def test_id_is_all_that_is_printed(self, terminal: Terminal) -> None:
        params = '{"message": "über"}'

        job_id = terminal.type(*NOTE, "--params", params, "--options", '{"tags": {"a": "b"}}')
        shown = terminal.json("jobs", "show", job_id.strip())

        assert re.fullmatch(r"[0-9a-f]{35}\n", job_id)
        assert terminal.status == 0
        assert (shown["status"], shown["params"]["message"]) == ("queued", "über")
        assert shown["tags"] == {"a": "b"}
        assert shown["submitted_by"].startswith("cli:")
        assert shown["request_id"].startswith("cli-")

    def test_who_waits_for_nobody_is_told(self, terminal: Terminal) -> None:
        shown = terminal.json(*NOTE)

        assert shown["warnings"] == ["no live worker listens to queue default"]
        assert terminal.errors == "No live worker listens to queue default.\n"

    @pytest.mark.parametrize("source", ["@{path}", "-"])
    def test_params_come_from_a_file_or_a_pipe(
        self, terminal: Terminal, tmp_path: Path, source: str
    ) -> None:
        content = '{"message": "from afar"}'
        path = tmp_path / "params.json"
        path.write_text(content)

        job_id = terminal.type(*NOTE, "--params", source.format(path=path), answer=content).strip()

        assert terminal.json("jobs", "show", job_id)["params"]["message"] == "from afar"

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["submit", "no.such"], "/type: "),
            (["submit", "operation.run"], "/type: "),
            ([*NOTE, "--params", '{"size": "x"}'], "/params/size: "),
            ([*NOTE, "--params", '{"sise": 1}'], "/params/sise: there is no such field\n"),
            ([*NOTE, "--options", '{"delay": -1}'], "/options/delay: "),
            ([*NOTE, "--options", '{"depends_on": ["nobody"]}'], "/options/depends_on/0: "),
            ([*NOTE, "--params", "{"], "--params is not JSON"),
            ([*NOTE, "--params", '{"size": 1e999}'], "--params has a number"),
            ([*NOTE, "--params", "[]"], "--params takes a JSON object"),
            ([*NOTE, "--params", ""], "--params is empty"),
            ([*NOTE, "--params", "@nowhere.json"], "'nowhere.json' cannot be read: No such file"),
            ([*NOTE, "--params", "@."], "'.' cannot be read: Is a directory"),
            ([*NOTE, "--wait", "-1"], "--wait"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_what_does_not_fit_is_named_and_status_2(
        self, terminal: Terminal, arguments: list[str], sentence: str
    ) -> None:
        terminal.type(*arguments)

        assert (terminal.status, terminal.output) == (2, "")
        assert sentence in terminal.errors
        assert terminal.json("jobs", "list")["data"] == []

    def test_all_faults_are_told_at_once(self, terminal: Terminal) -> None:
        terminal.type(
            "submit", "email.send", "--params", '{"to": "x", "subject": 1}', "--options",
            '{"priority": "soon"}',
        )  # fmt: skip

        pointers = [line.partition(":")[0] for line in terminal.errors.splitlines()]
        assert {"/params/to", "/params/subject", "/options/priority"} <= set(pointers)

    def test_attachment_goes_to_storage_as_over_http(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        params = {
            "from": "a@example.org", "to": "b@example.org", "subject": "s", "text": "t",
            "attachments": [{"filename": "a.txt", "content": "QUJD" * 40_000}],
        }  # fmt: skip
        path = tmp_path / "mail.json"
        path.write_text(json.dumps(params))

        job_id = terminal.type("submit", "email.send", "--params", f"@{path}").strip()

        (kept,) = terminal.json("jobs", "show", job_id)["params"]["attachments"]
        assert "content" not in kept
        assert kept["upload_id"]

    def test_wait_that_is_over_is_status_4(self, terminal: Terminal) -> None:
        shown = terminal.json(*NOTE, "--wait", "0.05")

        assert (terminal.status, shown["status"]) == (4, "queued")

    def test_full_redis_is_named(
        self, terminal: Terminal, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SUBMIT_TIMEOUT_SECONDS", "0.5")
        with redis.Redis.from_url(redis_url) as client:
            client.config_set("maxmemory", 1)
            try:
                terminal.type(*NOTE)
                refused = terminal.status, terminal.output, terminal.errors
                terminal.type("failed", "list")
            finally:
                client.config_set("maxmemory", 0)

        assert refused[:2] == (3, "")
        assert refused[2] == "Redis is full.\n"
        assert (terminal.status, terminal.output) == (0, "Nothing has failed for good.\n")


class TestWithWorker:
    @pytest.fixture
    def url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with service(tmp_path) as running:
            monkeypatch.setenv("REDIS_URL", running.url)
            yield running.url

    def test_outcome_is_the_exit_status(self, terminal: Terminal, url: str) -> None:
        line = ["submit", "log.write", "--params", '{"message": "hello"}', "--wait"]

        text = terminal.type(*line)
        finished = terminal.status
        shown = terminal.json(*line)
        failed = terminal.type("submit", "test.permanent", "--wait", "30")

        assert (finished, text.splitlines()[1]) == (0, "finished")
        assert json.loads(text.partition("finished\n")[2])["message"] == "hello"
        assert (shown["status"], shown["result"]["message"]) == ("finished", "hello")
        assert (terminal.status, failed.splitlines()[1]) == (1, "failed")
        assert "refused: never" in failed

    def test_failed_job_is_retried_with_other_params(self, terminal: Terminal, url: str) -> None:
        (job_id,) = submit(url, draft("test.refuse", message="a"))
        wait_until_ended(url, job_id)

        retried = terminal.json("jobs", "retry", job_id, "--params", '{"message": "b"}')
        wait_until_ended(url, job_id)
        shown = terminal.json("jobs", "show", job_id)

        assert retried["id"] == job_id
        assert [each["error"]["message"] for each in shown["attempts"]] == ["a", "b"]
        by = {each["detail"].get("by") for each in shown["trail"] if "retried" in each["detail"]}
        assert len(by) == 1
        assert by.pop().startswith("cli:")


class TestRetry:
    def test_it_is_as_it_was_but_for_what_is_given(
        self, terminal: Terminal, redis_url: str
    ) -> None:
        job_id = given(redis_url, one_failed)

        text = terminal.type("jobs", "retry", job_id)
        shown = terminal.json("jobs", "show", job_id)

        assert text == f"{job_id}: queued\n"
        assert (shown["params"]["message"], shown["tags"]) == ("a", {"shop": "7"})

    def test_other_options_take_the_place_of_all(self, terminal: Terminal, redis_url: str) -> None:
        job_id = given(redis_url, one_failed)

        retried = terminal.json("jobs", "retry", job_id, "--options", '{"priority": "high"}')

        assert (retried["priority"], retried["tags"]) == ("high", {})

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--params", '{"size": "x"}'], "/params/size: "),
            (["--options", '{"expires_at": "2030-01-01T00:00:00Z"}'], "/options/expires_at: "),
            (["--options", '{"depends_on": ["nobody"]}'], "/options/depends_on/0: "),
            (["--params", "nonsense"], "--params is not JSON"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_what_does_not_fit_changes_nothing(
        self, terminal: Terminal, redis_url: str, arguments: list[str], sentence: str
    ) -> None:
        job_id = given(redis_url, one_failed)

        terminal.type("jobs", "retry", job_id, *arguments)

        assert (terminal.status, terminal.output) == (2, "")
        assert sentence in terminal.errors
        assert terminal.json("jobs", "show", job_id)["status"] == "failed"

    def test_only_what_failed_can_be_retried(self, terminal: Terminal, redis_url: str) -> None:
        job_id = given(redis_url, lambda scene: scene.submit())

        terminal.type("jobs", "retry", job_id)
        waiting = terminal.status, terminal.errors
        terminal.type("jobs", "retry", "nobody")

        expected = f"Job {job_id} is queued: only a failed or stopped one can be retried.\n"
        assert waiting == (1, expected)
        assert (terminal.status, terminal.errors) == (1, "There is no job nobody.\n")


class TestQueues:
    def test_queue_is_paused_and_goes_on(self, terminal: Terminal) -> None:
        paused = terminal.json("queues", "pause", "email.high")
        shown = self._queue(terminal, "email")
        resumed = terminal.json("queues", "resume", "email")

        assert (paused, resumed) == (
            {"name": "email", "paused": True}, {"name": "email", "paused": False},
        )  # fmt: skip
        assert shown["paused"] is True
        assert self._queue(terminal, "email")["paused"] is False
        acts = terminal.json("audit")["data"]
        assert [each["action"] for each in acts] == ["resume", "pause"]
        assert all(each["key"].startswith("cli:") for each in acts)

    def test_emptying_asks_for_the_name(self, terminal: Terminal, redis_url: str) -> None:
        given(redis_url, lambda scene: scene.submit_many(3))
        refused = []

        for arguments, answer in (([], "yes\n"), ([], ""), (["--confirm", "email"], "")):
            terminal.type("queues", "empty", "default", *arguments, answer=answer)
            refused.append((terminal.status, self._queue(terminal, "default")["depth"]))
        text = terminal.type("queues", "empty", "default", answer="default\n")
        again = terminal.json("queues", "empty", "default", "--confirm", "default")

        assert refused == [(1, 3)] * 3
        assert text == "default: 3 canceled\n"
        assert again == {"name": "default", "canceled": 0, "is_complete": True}

    @pytest.mark.parametrize("act", ["pause", "resume", "empty"])
    def test_unknown_queue_is_one_sentence(self, terminal: Terminal, act: str) -> None:
        terminal.type("queues", act, "nowhere")

        assert (terminal.status, terminal.output) == (1, "")
        assert terminal.errors == "There is no queue nowhere.\n"

    def _queue(self, terminal: Terminal, name: str) -> dict[str, Any]:
        data = terminal.json("queues")["data"]
        return next(each for each in data if each["name"] == name)


class TestSchedules:
    @pytest.fixture
    def nightly(self, redis_url: str) -> None:
        given(redis_url, _make_schedules)

    def test_they_are_listed_with_their_next_run(self, terminal: Terminal, nightly: None) -> None:
        hourly, nightly_ = terminal.json("schedules")["data"]
        text = terminal.type("schedules")
        first = terminal.json("schedules", "list", "--limit", "1")

        assert (hourly["name"], hourly["interval"]) == ("hourly", 3600)
        assert (nightly_["cron"], nightly_["time_zone"]) == ("30 3 * * *", "Europe/Berlin")
        assert "30 3 * * * Europe/Berlin" in text
        assert "every 3600 s" in text
        assert first["next_cursor"] == "hourly"

    def test_one_tells_its_next_five_runs(self, terminal: Terminal, nightly: None) -> None:
        shown = terminal.json("schedules", "show", "nightly")
        text = terminal.type("schedules", "show", "nightly")

        runs = [each.replace("T", " ").removesuffix("Z") for each in shown["next_runs"]]
        assert len(runs) == 5
        assert all(each in text for each in runs)
        assert '"type": "test.note"' in text

    def test_it_is_run_once_more_now(self, terminal: Terminal, nightly: None) -> None:
        job_id = terminal.type("schedules", "run", "nightly").strip()

        shown = terminal.json("jobs", "show", job_id)

        assert (shown["type"], shown["status"]) == ("test.note", "queued")
        assert shown["tags"] == {"schedule": "nightly"}

    def test_deleted_one_is_gone(self, terminal: Terminal, nightly: None) -> None:
        text = terminal.type("schedules", "delete", "nightly")
        (act, *_) = terminal.json("audit")["data"]
        sentences = []
        for word in ("show", "run", "delete"):
            terminal.type("schedules", word, "nightly")
            sentences.append((terminal.status, terminal.errors))

        assert text == "nightly: deleted\n"
        assert act["key"].startswith("cli:")
        assert sentences == [(1, "There is no schedule nightly.\n")] * 3


async def _make_schedules(scene: Scene) -> None:
    from app.queue.schedules import Schedules
    from app.schedule import Schedule

    schedules = Schedules(scene.client, scene.reachability)
    job = {"type": "test.note", "params": {"message": "a"}}
    cron = Schedule("nightly", job, cron="30 3 * * *", time_zone="Europe/Berlin")
    for each in (cron, Schedule("hourly", job, interval_ms=3_600_000)):
        await schedules.create(each, "ops", "a-request")
    await schedules.aclose()


def test_audit_tells_who_did_what(terminal: Terminal) -> None:
    terminal.type("queues", "pause", "email")
    terminal.type("queues", "resume", "email")

    first = terminal.json("audit", "--limit", "1")
    rest = terminal.json("audit", "--cursor", first["next_cursor"])
    text = terminal.type("audit")

    assert [each["action"] for each in first["data"] + rest["data"]] == ["resume", "pause"]
    assert re.search(r"cli:\S+ +pause", text)


def test_lists_take_the_filters_that_http_takes(terminal: Terminal, redis_url: str) -> None:
    job_id = given(redis_url, one_failed)

    found = [
        [each["id"] for each in terminal.json("jobs", "list", *wanted)["data"]]
        for wanted in (
            ["--tag", "shop:7"], ["--tag", "shop:8"], ["--created-after", "2000-01-01T00:00:00Z"],
            ["--created-before", "2000-01-01T00:00:00+02:00"],
        )
    ]  # fmt: skip

    assert found == [[job_id], [], [job_id], []]
