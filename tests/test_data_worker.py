"""Data jobs in a worker: files reach the child, answers are stored, progress is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.queue.records.views import JobView
from tests.harness import Service, draft, service, submit, wait_until_ended

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Service]:
    (folder / "tmp").mkdir()
    with service(
        folder, STORAGE_URL=f"file:{folder}/storage", TMPDIR=str(folder / "tmp")
    ) as running:
        yield running


def stored(folder: Path, job: JobView) -> bytes:
    key: str = job.artifacts[0]["key"]
    return (folder / "storage" / key).read_bytes()


def test_a_chain_of_data_jobs(here: Service, folder: Path) -> None:
    first = draft("data.query", rows=[{"a": 1}], sql="SELECT range AS n FROM range(5)")
    second = replace(
        draft("data.convert", job_id=first.id, output_format="ndjson"), depends_on=[first.id]
    )

    query, convert = wait_until_ended(here.url, *submit(here.url, first, second))

    assert query.result["row_count"] == 5
    assert query.artifacts[0]["name"] == "result.csv"
    assert convert.result == {"row_count": 5}
    assert [json.loads(line) for line in stored(folder, convert).splitlines()] == [
        {"n": n} for n in range(5)
    ]


def test_a_file_that_is_gone(here: Service) -> None:
    (job,) = here.run(draft("data.profile", upload_id="u" * 20))

    assert job.error is not None
    assert (job.error.code, job.error.retryable, job.attempt) == ("file_missing", False, 1)


def test_a_large_answer_is_streamed_and_its_progress_told(here: Service, folder: Path) -> None:
    """Written out, it has about as many bytes as a child may take of memory."""
    many = draft(
        "data.query",
        rows=[{"a": 1}],
        sql="SELECT range AS n, repeat('x', 200) AS text FROM range(2000000)",
        output_format="parquet",
    )

    (job,) = here.run(many, seconds=120)

    assert job.error is None
    assert job.result["row_count"] == 2_000_000
    assert len(job.result["rows"]) == 100
    assert job.progress is not None
    assert job.progress | {"message": ""} == {
        "current": 100, "total": 100, "unit": "percent", "message": "",
    }  # fmt: skip
    assert not [path for path in (folder / "tmp").glob("*/*") if path.is_dir()]
