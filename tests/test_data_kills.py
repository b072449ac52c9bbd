"""Data jobs whose processes are killed at random: each ends, and nothing of them remains."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from app.queue.records.drafts import new_job_id
from tests.conftest import poll_until
from tests.harness import (
    Service,
    WorkerProcess,
    children_of,
    draft,
    is_running,
    seem_dead,
    service,
    submit,
    view,
    wait_until_ended,
)

# A second or two of work, most of it with files on the disk.
SQL = "SELECT n, sha256(n::VARCHAR) AS text FROM range({rows}) numbers(n) ORDER BY text"


def family(pid: int) -> list[int]:
    """It and all that descends from it."""
    return [pid, *(each for child in children_of(pid) for each in family(child))]


class Killer:
    """Kills processes of a worker, and gives it a successor when it is gone."""

    def __init__(self, here: Service, folder: Path) -> None:
        self._here = here
        self._folder = folder
        self._random = random.Random(6)  # the same kills each time
        self.worker = here.worker
        self.seen: set[int] = set()

    def kill(self, victim: str) -> None:
        nursery = children_of(self.worker.pid)
        children = [each for pid in nursery for each in children_of(pid)]
        self.seen.update(family(self.worker.pid))
        if victim == "child":
            self._end(self._random.sample(children, min(1, len(children))))
        elif victim == "nursery":
            self._end(nursery)
        else:
            if victim == "tree":
                self._end([*children, *nursery])
            self._succeed()

    def _end(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _succeed(self) -> None:
        dead = self.worker
        dead.kill()
        seem_dead(self._here.url, dead.pid)
        self.worker = start(self._here.url, self._folder, "next.log")

    def end(self) -> None:
        self.seen.update(family(self.worker.pid))
        self.worker.stop()


def start(url: str, folder: Path, log: str) -> WorkerProcess:
    process = WorkerProcess(
        url, folder / log, "--processes", "4",
        STORAGE_URL=f"file:{folder}/storage", TMPDIR=str(folder / "tmp"), ABANDONED_LIMIT="20",
    )  # fmt: skip
    process.wait_until_ready()
    return process


def kill_at_random(folder: Path, jobs: int, rows: int, victims: list[str]) -> None:
    """Run so many jobs, and kill one victim after the other while they run."""
    (folder / "tmp").mkdir()
    with service(
        folder, "--processes", "4",
        STORAGE_URL=f"file:{folder}/storage", TMPDIR=str(folder / "tmp"), ABANDONED_LIMIT="20",
    ) as here:  # fmt: skip
        killer = Killer(here, folder)
        made = draft("data.query", rows=[{"a": 1}], sql=SQL.format(rows=rows))
        ids = submit(here.url, *(replace(made, id=new_job_id()) for _ in range(jobs)))
        try:
            for victim in victims:
                poll_until(
                    lambda: any(view(here.url, each).status == "started" for each in ids),
                    what="one runs",
                )
                killer.kill(victim)
            ended = wait_until_ended(here.url, *ids, seconds=240)
        finally:
            killer.end()

    assert {(job.status, job.error and job.error.message) for job in ended} == {("finished", None)}
    assert {job.result["row_count"] for job in ended} == {rows}
    poll_until(lambda: not any(map(is_running, killer.seen)), what="no process remains")
    left = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    stored = [path for path in (folder / "storage").rglob("*") if path.is_file()]
    kept = [folder / "storage" / job.artifacts[0]["key"] for job in ended]
    assert left == []
    assert sorted(stored) == sorted(kept)


def test_killed_data_jobs_end_and_leave_nothing(tmp_path: Path) -> None:
    kill_at_random(tmp_path, jobs=4, rows=200_000, victims=["child", "nursery", "tree"])


@pytest.mark.slow
def test_twenty_data_jobs_under_many_kills(tmp_path: Path) -> None:
    victims = ["child", "tree", "nursery", "worker"] * 5
    kill_at_random(tmp_path, jobs=20, rows=1_000_000, victims=victims)
