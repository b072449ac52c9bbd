"""Data jobs seen from outside: a file goes in over HTTP, and all else is told over HTTP too."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running_service import RunningService, running_service

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def sent(service: RunningService, data: str | bytes, **fields: str) -> dict[str, Any]:
    """The job that a form with this file makes."""
    content = data.encode() if isinstance(data, str) else data
    files = {"file": ("data.csv", content, "text/csv")}
    answer = service.client.post("/v1/data", data=fields, files=files)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def wide(columns: int) -> str:
    """A CSV file of three rows; each third column is of text."""
    rows = [[f"t{n}" if n % 3 == 0 else str(n) for n in range(columns)]] * 3
    return "\n".join(map(",".join, [[f"c{n}" for n in range(columns)], *rows]))


def test_ten_thousand_columns_fit_into_a_child(service: RunningService) -> None:
    """One cell of each is 320 MB to DuckDB, as it has room for 2,048 of each."""
    job = sent(service, wide(10_000), operation="convert", output_format="csv")
    job = service.ended(job, seconds=300)

    assert job["error"] is None
    assert job["result"] == {"row_count": 3}


def test_rows_of_ten_thousand_fields_fit_into_a_child(service: RunningService) -> None:
    rows = [{f"f{n}": n if n % 3 else f"t{n}" for n in range(10_000)}] * 3
    body = {"operation": "query", "sql": "SELECT f0, f9999 FROM input", "rows": rows}
    job = service.client.post("/v1/data", json=body).json()
    job = service.ended(job, seconds=300)

    assert job["error"] is None
    assert job["result"]["rows"] == [{"f0": "t0", "f9999": "t9999"}] * 3


@pytest.mark.parametrize("operation", ["convert", "validate"])
def test_a_line_of_100_mb_fails_the_job_at_once(service: RunningService, operation: str) -> None:
    data = gzip.compress(b'{"a": "' + b"x" * 100 * MIB, 1)
    fields = {"convert": {"output_format": "parquet"}, "validate": {"schema": "{}"}}[operation]

    job = service.ended(sent(service, data, operation=operation, **fields), seconds=60)

    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert job["error"]["code"] == "bad_source"


def test_a_bomb_ends_with_its_time(service: RunningService) -> None:
    """10 GB of short lines in 10 MB."""
    data = gzip.compress(b"1\n" * 5 * MIB) * 1_000
    options = '{"timeout": 4, "max_attempts": 1}'
    job = sent(service, data, operation="convert", output_format="csv", options=options)
    job = service.ended(job, seconds=60)

    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert job["error"]["code"] == "timeout"


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
    assert percents[-1] == 100
