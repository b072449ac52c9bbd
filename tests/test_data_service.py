"""Data jobs seen from outside: a file goes in over HTTP, and all else is told over HTTP too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running_service import RunningService, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def sent(service: RunningService, data: str, **fields: str) -> dict[str, Any]:
    """The job that a form with this file makes."""
    files = {"file": ("data.csv", data.encode(), "text/csv")}
    answer = service.client.post("/v1/data", data=fields, files=files)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def wide(columns: int) -> str:
    """A CSV file of three rows; each third column is of text."""
    rows = [[f"t{n}" if n % 3 == 0 else str(n) for n in range(columns)]] * 3
    return "\n".join(map(",".join, [[f"c{n}" for n in range(columns)], *rows]))


def test_many_columns_fit_into_a_child(service: RunningService) -> None:
    job = service.ended(sent(service, wide(1_500), operation="convert", output_format="parquet"))

    assert job["error"] is None
    assert job["result"] == {"row_count": 3}


def test_ten_thousand_columns_fit_into_a_child(service: RunningService) -> None:
    """One cell of each is 320 MB to DuckDB, as it has room for 2,048 of each."""
    job = sent(service, wide(10_000), operation="convert", output_format="csv")
    job = service.ended(job, seconds=300)

    assert job["error"] is None
    assert job["result"] == {"row_count": 3}


def test_progress_is_told_while_a_file_is_read(service: RunningService) -> None:
    """Sorting what it has made of each row takes long enough to be looked at."""
    data = "n\n" + "\n".join(map(str, range(100_000)))
    sql = "SELECT max(sha256(n::VARCHAR || m)) AS most FROM input, range(25) others(m)"
    job = sent(service, data, operation="query", sql=sql)
    told, names = [], []

    with service.client.stream(
        "GET", f"/v1/jobs/{job['id']}/events", headers={"accept": "text/event-stream"}, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                names.append(value)
            elif field == "data" and names[-1] == "progress":
                told.append(json.loads(value))

    assert names[-1] == "finished"
    percents = [each["current"] for each in told]
    assert percents
    assert all(each["unit"] == "percent" for each in told)
    assert percents == sorted(percents)
    assert 0 < percents[-1] <= 100
