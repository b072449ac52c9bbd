"""Files that need more memory than a job has when they are read as they stand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.harness import ROOT

COLUMNS, ROWS = 80, 122_880
# In a process of its own, which may take 260 MiB more than it has: DuckDB gets half of them.
_PROGRAM = """
import json, resource, sys
from pathlib import Path
import jobs.data  # which tells DuckDB's allocator what to do before it is loaded
from jobs import catalog
from tests import data_scene

operation, source, target, params = sys.argv[1:]
params = json.loads(params)
catalog.load().get(f"data.{operation}").load()
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (260 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
done = data_scene.run(operation, Path(source), **params)
for data in done.artifacts.values():
    Path(target).write_bytes(data)
print(json.dumps([done.code, done.result.get("row_count"), done.left]))
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def long_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 columns, each of a megabyte and more in a page: as many writers make them."""
    path = tmp_path_factory.mktemp("memory") / "long.parquet"
    texts = (f"'v' || hash(n * {COLUMNS} + {number}) % 5000000 AS c{number}"
             for number in range(COLUMNS - 1))  # fmt: skip
    duckdb.execute(
        f"COPY (SELECT n, {', '.join(texts)} FROM range({ROWS}) AS numbers(n)) TO '{path}'"
        f" (FORMAT parquet, ROW_GROUP_SIZE {ROWS})"
    )
    return path


def bounded(operation: str, source: Path, target: Path, **params: Any) -> list[Any]:
    """The code of its error, its count of rows and what it left lying about."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, operation, str(source), str(target), json.dumps(params)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_a_parquet_file_of_long_pages_is_read_a_few_columns_at_a_time(
    long_pages: Path, tmp_path: Path
) -> None:
    target = tmp_path / "answer.parquet"

    found = bounded("dedupe", long_pages, target, keys=["n"], output_format="parquet")

    assert found == [None, ROWS, []]
    rows = duckdb.execute(
        f"SELECT count(*) FROM ((FROM '{target}') EXCEPT ALL (FROM '{long_pages}'))"
    )
    assert rows.fetchall() == [(0,)]


def test_a_parquet_file_of_long_pages_is_profiled(long_pages: Path, tmp_path: Path) -> None:
    assert bounded("profile", long_pages, tmp_path / "report.html") == [None, ROWS, []]


def test_a_parquet_file_of_long_pages_is_validated(long_pages: Path, tmp_path: Path) -> None:
    required = {"properties": {"c0": {"type": "string"}}, "required": ["c0", "c78"]}

    found = bounded("validate", long_pages, tmp_path / "rejects.csv", schema=required)

    assert found == [None, ROWS, []]


def test_long_rows_are_converted(tmp_path: Path) -> None:
    """A group of as many rows as DuckDB makes one of would have 400 MB."""
    source, target = tmp_path / "long.csv", tmp_path / "answer.parquet"
    duckdb.execute(
        f"COPY (SELECT n, repeat(md5(n::VARCHAR), 100) AS text FROM range({ROWS // 4})"
        f" AS numbers(n)) TO '{source}' (HEADER)"
    )

    found = bounded("convert", source, target, output_format="parquet")

    assert found == [None, ROWS // 4, []]
    groups = duckdb.execute(
        f"SELECT count(DISTINCT row_group_id) FROM parquet_metadata('{target}')"
    )
    assert groups.fetchall() > [(1,)]
