"""The running service obeys /openapi.json: schemathesis, all its checks on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import ROOT, children_of
from tests.http_doubles import bearer
from tests.running_service import MASTER, RunningService, running_service


@dataclass(frozen=True)
class Described:
    """A running service, and jobs of it that have ended: one for each run of schemathesis, and
    as many again, as a run may delete what it is shown in a list."""

    service: RunningService
    job_ids: list[str]

    def ended_job(self) -> str:
        while True:
            job_id = self.job_ids.pop()
            if self.service.client.get(f"/v1/jobs/{job_id}").status_code == 200:
                return job_id


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    """Its answers are looked at. The thousands of jobs that it takes for them are not waited for:
    those with a process of their own run when nobody else wants the processor.
    """
    with running_service(tmp_path_factory.mktemp("service"), WORKER_PROCESSES="1") as running:
        job_ids = [_ended_job(running) for _ in range(2 * len(PARTS) + 4)]
        (nursery,) = children_of(running.worker.pid)
        os.setpriority(os.PRIO_PROCESS, nursery, 19)
        with suppress(OSError):  # or that would count among its own session only: sched(7)
            Path(f"/proc/{nursery}/autogroup").write_text("19")
        yield Described(running, job_ids)


def _ended_job(service: RunningService) -> str:
    job = service.client.post("/v1/jobs", json={"type": "log.write", "params": {"message": "x"}})
    job_id: str = service.ended(job.json())["id"]
    return job_id


# Minutes of generated requests; .ci/run has them in a step of their own.
ONE_BY_ONE = ("--phases", "examples,coverage,fuzzing")
# Each is a test, so that they are spread over the processes that run tests. What is known of
# one operation's answers is used for others below the same path.
PARTS = {
    "jobs": (*ONE_BY_ONE, "--include-path-regex", "^/v1/jobs"),
    "emails": (*ONE_BY_ONE, "--include-path-regex", "^/v1/emails"),
    "batches": (*ONE_BY_ONE, "--include-path-regex", "^/v1/batches"),
    "data": (*ONE_BY_ONE, "--include-path-regex", "^/v1/data"),
    "others": (*ONE_BY_ONE, "--exclude-path-regex", "^/v1/(jobs|emails|batches|data)"),
}
# One after the other along their links, which the examples' answers show.
TOGETHER = ("--phases", "examples,stateful")


def run_schemathesis(described: Described, folder: Path, *arguments: str) -> None:
    """All checks over every operation; a failure is told as schemathesis tells it."""
    # Another run may have paused it.
    described.service.client.post("/v1/queues/default/resume").raise_for_status()
    variables = {
        "RECADO_KEY": bearer(MASTER)["Authorization"].removeprefix("Bearer "),
        "RECADO_JOB": described.ended_job(),
        "PYTHONPATH": str(ROOT),
    }
    configuration = ROOT / "tests" / "schemathesis.toml"
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration),
            "run", f"{described.service.url}/openapi.json", "--no-color", *arguments,
        ],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.first
def test_service_obeys_its_description(described: Described, tmp_path: Path) -> None:
    run_schemathesis(described, tmp_path, "--max-examples", "5", *TOGETHER)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_each_operation_obeys_its_description(
    described: Described, tmp_path: Path, part: str
) -> None:
    run_schemathesis(described, tmp_path, "--max-examples", "5", *PARTS[part])


@pytest.mark.slow
def test_service_obeys_its_description_for_long(described: Described, tmp_path: Path) -> None:
    run_schemathesis(described, tmp_path, "--max-examples", "100")
