"""The running service obeys /openapi.json: schemathesis, all its checks on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import ROOT, children_of
from tests.http_doubles import bearer
from tests.running_service import MASTER, RunningService, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Its answers are looked at. The thousands of jobs that it takes for them are not waited for:
    those with a process of their own run when nobody else wants the processor.
    """
    with running_service(tmp_path_factory.mktemp("service"), WORKER_PROCESSES="1") as running:
        (nursery,) = children_of(running.worker.pid)
        os.setpriority(os.PRIO_PROCESS, nursery, 19)
        with suppress(OSError):  # or that would count among its own session only: sched(7)
            Path(f"/proc/{nursery}/autogroup").write_text("19")
        yield running


ONE_BY_ONE = ("--phases", "examples,coverage,fuzzing")
# Each is a test, so that they are spread over the processes that run tests. What is known of
# one operation's answers is used for others below the same path.
PARTS = {
    "jobs": (*ONE_BY_ONE, "--include-path-regex", "^/v1/jobs"),
    "emails": (*ONE_BY_ONE, "--include-path-regex", "^/v1/emails"),
    "batches": (*ONE_BY_ONE, "--include-path-regex", "^/v1/batches"),
    "data": (*ONE_BY_ONE, "--include-path-regex", "^/v1/data"),
    "others": (*ONE_BY_ONE, "--exclude-path-regex", "^/v1/(jobs|emails|batches|data)"),
    # One after the other along their links, which the examples' answers show.
    "together": ("--phases", "examples,stateful"),
}


def run_schemathesis(service: RunningService, folder: Path, *arguments: str) -> None:
    """All checks over every operation; a failure is told as schemathesis tells it."""
    # Another part may have paused it.
    service.client.post("/v1/queues/default/resume").raise_for_status()
    job = service.client.post("/v1/jobs", json={"type": "log.write", "params": {"message": "x"}})
    variables = {
        "RECADO_KEY": bearer(MASTER)["Authorization"].removeprefix("Bearer "),
        "RECADO_JOB": service.ended(job.json())["id"],
        "PYTHONPATH": str(ROOT),
    }
    configuration = ROOT / "tests" / "schemathesis.toml"
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration),
            "run", f"{service.url}/openapi.json", "--no-color", *arguments,
        ],
        cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.first
@pytest.mark.parametrize("part", PARTS)
def test_service_obeys_its_description(service: RunningService, tmp_path: Path, part: str) -> None:
    run_schemathesis(service, tmp_path, "--max-examples", "5", *PARTS[part])


@pytest.mark.slow
def test_service_obeys_its_description_for_long(service: RunningService, tmp_path: Path) -> None:
    run_schemathesis(service, tmp_path, "--max-examples", "100")
