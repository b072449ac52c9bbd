"""What jobs leave behind: stored before the result is told, and no folder left on the disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tests.artifact_jobs  # noqa: F401 - declares the job types
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from jobs.context import JobContext
from tests.conftest import poll_until
from tests.harness import Service, draft, service, submit, wait_until_ended, worker

MODULES = "tests.job_types,tests.artifact_jobs"
KINDS = ["test.leave", "test.leave_process"]


def settings(folder: Path) -> dict[str, str]:
    """Of workers that share a storage and a folder for temporary files."""
    (folder / "tmp").mkdir(exist_ok=True)
    return {
        "JOB_MODULES": MODULES, "STORAGE_URL": f"file:{folder}/storage",
        "TMPDIR": str(folder / "tmp"), "MAX_ARTIFACT_BYTES": "100000",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Service]:
    with service(folder, **settings(folder)) as running:
        yield running


def run(here: Service, job: JobDraft) -> JobView:
    (ended,) = here.run(job)
    return ended


def runs_left(folder: Path) -> list[Path]:
    """Folders of runs that are still on the disk."""
    return [path for path in (folder / "tmp").glob("*/*") if path.is_dir()]


def stored(folder: Path, artifact: dict[str, Any]) -> bytes:
    key: str = artifact["key"]
    return (folder / "storage" / key).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_artifacts_are_stored_in_the_order_in_which_they_were_named(
    here: Service, folder: Path, kind: str
) -> None:
    job = run(here, draft(kind, size=70_000))

    assert (job.status, [each["name"] for each in job.artifacts]) == (
        "finished", ["rows.csv", "report.html"],
    )  # fmt: skip
    rows = job.artifacts[0]
    data = b"\x01" * 70_000
    assert stored(folder, rows) == data
    assert (rows["size"], rows["sha256"]) == (70_000, hashlib.sha256(data).hexdigest())
    assert rows["content_type"] == "text/csv"
    assert runs_left(folder) == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_run_that_finished_leaves_artifacts(
    here: Service, folder: Path, kind: str
) -> None:
    job = run(here, draft(kind, how="fail"))

    assert (job.status, job.attempt) == ("finished", 2)
    assert stored(folder, job.artifacts[0]) == b"\x02" * 10
    assert len(list((folder / "storage/artifacts" / job.id).iterdir())) == 1
    assert runs_left(folder) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["missing", "link", "pipe"])
def test_announced_artifact_that_is_no_file_fails_the_job(
    here: Service, folder: Path, kind: str, how: str
) -> None:
    job = run(here, draft(kind, how=how))

    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error is not None
    assert (job.error.code, job.artifacts) == ("bad_artifact", [])
    assert "report.html" in job.error.message
    assert runs_left(folder) == []


def test_what_a_job_writes_after_its_end_is_not_in_its_artifact(
    here: Service, folder: Path
) -> None:
    held = run(here, draft("test.leave", how="hold", size=6))
    later = run(here, draft("test.leave", how="write later"))

    assert (held.status, later.status) == ("finished", "finished")
    assert stored(folder, held.artifacts[0]) == b"\x01" * 6


def test_artifact_over_the_limit_fails_the_job(here: Service, folder: Path) -> None:
    job = run(here, draft("test.leave", size=100_001))

    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "bad_artifact")
    assert "100000 bytes" in job.error.message
    assert not (folder / "storage/artifacts" / job.id).exists()


def test_job_that_is_not_kept_stores_nothing(here: Service, folder: Path) -> None:
    journal = folder / "unkept"
    job = replace(draft("test.leave", journal=str(journal)), retention_seconds=0)

    submit(here.url, job)

    poll_until(lambda: journal.exists() and not runs_left(folder), what="the job has run")
    assert not (folder / "storage/artifacts" / job.id).exists()


def test_folder_of_a_killed_child_is_removed(here: Service, folder: Path) -> None:
    journal = folder / "killed"
    job = run(here, draft("test.leave_process", how="die", journal=str(journal)))

    assert (job.status, job.attempt) == ("finished", 2)
    assert runs_left(folder) == []


@pytest.mark.parametrize("kind", KINDS)
def test_folder_of_a_timed_out_run_is_removed(here: Service, folder: Path, kind: str) -> None:
    job = run(here, replace(draft(kind, gate="never"), timeout_seconds=0.3, max_attempts=1))

    assert (job.status, job.artifacts) == ("failed", [])
    assert runs_left(folder) == []


def test_full_storage_is_worth_another_attempt(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    variables = settings(tmp_path) | {"STORAGE_URL": f"file:{tmp_path}/in-the-way/storage"}
    with worker(redis_url, tmp_path, **variables):
        (job,) = wait_until_ended(redis_url, *submit(redis_url, draft("test.leave")))

    assert (job.status, job.attempt) == ("failed", 2)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("storage_unavailable", True)


def test_worker_leaves_no_folder_and_removes_those_of_killed_ones(
    redis_url: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    with worker(redis_url, tmp_path, **settings(tmp_path)) as first:
        submit(redis_url, draft("test.leave", gate="never", journal=str(journal)))
        poll_until(lambda: journal.exists() and journal.read_text(), what="the job writes")
        first.kill()
    assert len(runs_left(tmp_path)) == 1

    with worker(redis_url, tmp_path, "--grace", "0", **settings(tmp_path)) as second:
        assert not Path(journal.read_text()).exists()
        assert len(list((tmp_path / "tmp").glob("recado-worker-*"))) == 1
        with worker(redis_url, tmp_path, "--grace", "0", **settings(tmp_path)) as third:
            assert len(list((tmp_path / "tmp").glob("recado-worker-*"))) == 2
            assert third.stop() == 0
        assert second.stop() == 0
    assert list((tmp_path / "tmp").glob("recado-worker-*")) == []


class TestContext:
    """What a job's author sees."""

    def test_artifact_can_be_written_in_a_test_of_the_job(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        context = JobContext()

        path = context.new_artifact("rows.csv", "text/csv")
        path.write_text("a,b\n")

        assert path.name == "rows.csv"

    @pytest.mark.parametrize(
        "name", ["", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", "x" * 101, "a\0", "a\n"]
    )
    def test_name_that_could_be_more_than_a_name_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="no name for an artifact"):
            JobContext().new_artifact(name)

    @pytest.mark.parametrize("kind", ["", "csv", "text/csv\r\nX: y", "text/" + "x" * 300])
    def test_content_type_that_is_none_is_refused(self, kind: str) -> None:
        with pytest.raises(ValueError, match="no content type"):
            JobContext().new_artifact("a", kind)

    def test_name_is_taken_once(self, tmp_path: Path) -> None:
        context = JobContext(artifacts_folder=str(tmp_path))
        context.new_artifact("a")

        with pytest.raises(ValueError, match="already"):
            context.new_artifact("a")

    def test_twenty_are_enough(self, tmp_path: Path) -> None:
        context = JobContext(artifacts_folder=str(tmp_path))
        for number in range(20):
            context.new_artifact(f"a{number}")

        with pytest.raises(ValueError, match="at most 20"):
            context.new_artifact("b")
