"""Redis is gone for long, or comes back as another: web and worker stay, and say so once each."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from app.queue.workers import SILENCE_SECONDS
from tests.conftest import ValkeyServer, poll_until
from tests.harness import (
    JOB_MODULES,
    WorkerProcess,
    draft,
    journal,
    submit,
    wait_for_journal,
    wait_until_ended,
    worker,
)
from tests.running_service import RunningService, running_service

OUTAGE_SECONDS = 60.0


@dataclass
class Logs:
    """What web and worker have said since this was made."""

    service: RunningService

    def __post_init__(self) -> None:
        self._begin = {name: len(self._lines(name)) for name in ("worker", "app.main")}

    def _lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.service.folder / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def of_redis(self) -> dict[str, list[str]]:
        """The words about Redis, in order, by process."""
        return {
            name: [
                line["event"]
                for line in self._lines(name)[begin:]
                if line["logger"] == "recado.redis"
            ]
            for name, begin in self._begin.items()
        }

    def wait_until_both_said(self, word: str) -> None:
        poll_until(
            lambda: all(word in words for words in self.of_redis().values()),
            what=f"web and worker say {word}",
        )

    def troubles(self) -> Counter[str]:
        """All other warnings and errors, but what clients and jobs are told."""
        return Counter(
            line["event"]
            for name, begin in self._begin.items()
            for line in self._lines(name)[begin:]
            if line["level"] not in {"info", "debug"}
            and line["logger"] != "recado.redis"
            and line["event"] not in {"request_failed", "job_retry_scheduled"}
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("outages")
    with running_service(folder, job_modules=JOB_MODULES) as running:
        yield running


def run_one(service: RunningService, job_type: str = "test.note") -> dict[str, Any]:
    """A job from its submission over HTTP to its end."""
    answer = service.client.post("/v1/jobs", json={"type": job_type, "params": {}})
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json())
    assert job["status"] == "finished"
    return job


def status_of_submission(service: RunningService) -> int:
    body = {"type": "test.note", "params": {}}
    return service.client.post("/v1/jobs", json=body).status_code


def test_back_with_an_empty_script_cache_it_is_given_the_scripts_again(
    service: RunningService,
) -> None:
    logs = Logs(service)
    with redis.Redis.from_url(service.valkey.url) as client:
        for job_type in ("test.note", "test.note_process", "test.fail_once"):
            client.script_flush()
            run_one(service, job_type)

    assert logs.of_redis() == {"worker": [], "app.main": []}
    assert logs.troubles() == {}


def test_back_as_an_empty_instance_it_finds_the_worker_again(service: RunningService) -> None:
    before = run_one(service)["result"]["pid"]
    logs = Logs(service)
    service.valkey.kill()
    logs.wait_until_both_said("redis_unreachable")
    assert status_of_submission(service) == 503
    shutil.rmtree(service.folder / "appendonlydir")
    service.valkey.start()
    logs.wait_until_both_said("redis_back")
    poll_until(service.is_ready, what="the worker has registered again")

    assert run_one(service)["result"]["pid"] == before
    run_one(service, "test.note_process")
    expected = ["redis_unreachable", "redis_back"]
    assert logs.of_redis() == {"worker": expected, "app.main": expected}
    assert logs.troubles().keys() <= {"worker_forgotten"}


def test_failed_over_to_a_read_only_replica_it_waits_for_the_promotion(
    service: RunningService, tmp_path: Path
) -> None:
    before = run_one(service)["result"]["pid"]
    gate, path = tmp_path / "gate", tmp_path / "journal"
    params = {"gate": str(gate), "journal": str(path)}
    running = service.client.post("/v1/jobs", json={"type": "test.wait", "params": params}).json()
    wait_for_journal(path, "began")
    logs = Logs(service)
    with redis.Redis.from_url(service.valkey.url) as client:
        # Of a primary that is not there: the data stays, and nothing can be written.
        client.replicaof("127.0.0.1", "1")
        logs.wait_until_both_said("redis_refuses")
        gate.touch()
        wait_for_journal(path, "ran")
        assert status_of_submission(service) == 503
        # Reading goes on, and is not taken for a return.
        assert service.client.get(f"/v1/jobs/{running['id']}").json()["status"] == "started"
        client.replicaof("NO", "ONE")
    logs.wait_until_both_said("redis_back")

    assert [each["outcome"] for each in service.ended(running)["attempts"]] == ["finished"]
    assert run_one(service)["result"]["pid"] == before
    expected = ["redis_refuses", "redis_back"]
    assert logs.of_redis() == {"worker": expected, "app.main": expected}
    assert logs.troubles() == {}


def test_password_that_is_another_now_is_named(service: RunningService) -> None:
    why = "Redis refuses our user or password"
    run_one(service)
    logs = Logs(service)
    with redis.Redis.from_url(service.valkey.url) as client:
        client.config_set("requirepass", "another")
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)
        poll_until(
            lambda: service.client.get("/readyz").json()["reasons"] == [why],
            what="/readyz says why",
        )
        answer = service.client.post("/v1/jobs", json={"type": "test.note", "params": {}})
        client.config_set("requirepass", "")
    logs.wait_until_both_said("redis_back")
    run_one(service)

    assert (answer.status_code, answer.json()["detail"]) == (503, why)
    assert answer.headers["retry-after"]


def test_right_that_is_missing_is_named_and_waited_for(service: RunningService) -> None:
    run_one(service)
    logs = Logs(service)
    with redis.Redis.from_url(service.valkey.url) as client:
        client.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
        client.execute_command("AUTH", "admin", "admin")
        try:
            client.execute_command("ACL", "SETUSER", "default", "-@write")
            logs.wait_until_both_said("redis_refuses")
            answer = service.client.post("/v1/jobs", json={"type": "test.note", "params": {}})
            client.execute_command("ACL", "SETUSER", "default", "+@all", "-info")
            ready = service.client.get("/readyz")
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")
    run_one(service)

    why = "Redis denies our user a right that is needed (ACL LOG names it)"
    assert (answer.status_code, answer.json()["detail"]) == (503, why)
    assert answer.headers["retry-after"]
    assert (ready.status_code, ready.json()["reasons"]) == (503, [why])
    assert logs.of_redis() == {"worker": ["redis_refuses"], "app.main": ["redis_refuses"]}
    assert logs.troubles() == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_minute_without_redis_takes_jobs_only_from_the_dead(
    valkey: ValkeyServer, tmp_path: Path, how: str
) -> None:
    """After it, silence counts anew: who was only cut off has time to be heard."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with (
        worker(valkey.url, tmp_path / "first") as first,
        worker(valkey.url, tmp_path / "second") as second,
    ):
        kinds = ["test.wait", "test.wait_process"] * 4
        params = {"gate": str(tmp_path / "gate"), "journal": str(tmp_path / "journal")}
        job_ids = submit(valkey.url, *(draft(kind, **params) for kind in kinds))
        wait_for_journal(tmp_path / "journal", "began", len(kinds))
        back_at = _minute_without(valkey, how, first, tmp_path / "gate")
        jobs = wait_until_ended(valkey.url, *job_ids, seconds=40)

        assert {job.status for job in jobs} == {"finished"}
        for job in jobs:
            outcomes = [each.outcome for each in job.attempts]
            if _pid_of(job.attempts[0].worker) == second.pid:
                assert outcomes == ["finished"]
                continue
            assert outcomes == ["abandoned", "finished"]
            begun_again_at = job.attempts[1].started_at
            assert begun_again_at >= back_at + timedelta(seconds=SILENCE_SECONDS - 0.1)
        assert {_pid_of(job.attempts[0].worker) for job in jobs} == {first.pid, second.pid}
        ends = [word for _, word, _, _ in journal(tmp_path / "journal")].count("ran")
        assert ends == len(jobs)
        text = second.log.read_text()
        assert [text.count(word) for word in ("redis_unreachable", "redis_back")] == [1, 1]
        assert second.stop() == 0


def _minute_without(valkey: ValkeyServer, how: str, victim: WorkerProcess, gate: Path) -> datetime:
    """One of the workers dies meanwhile, and the work of all gets done. When Redis was back."""
    assert valkey.process is not None
    if how == "killed":
        valkey.kill()
    else:
        valkey.process.send_signal(signal.SIGSTOP)
    time.sleep(OUTAGE_SECONDS / 2)
    victim.kill()
    gate.touch()
    time.sleep(OUTAGE_SECONDS / 2)
    back_at = datetime.now(UTC)
    if how == "killed":
        valkey.start()
    else:
        valkey.process.send_signal(signal.SIGCONT)
    return back_at


def _pid_of(worker_name: str | None) -> int:
    assert worker_name is not None
    return int(worker_name.split(".")[-2])
