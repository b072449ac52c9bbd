"""Tables of thousands of columns, which are worked on a few hundred at a time."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs.context import JobContext
from jobs.data.deadline import Deadline
from jobs.data.engine import Engine
from tests.data_scene import run, table

# A few more than are worked on at once.
COLUMNS = 1_010
LAST = f"c{COLUMNS - 1}"
NAMES = [f"c{number}" for number in range(COLUMNS)]
# Awkward texts among numbers, days and what is missing.
TEXTS = ["plain", 'said "so"', "two\nlines", "comma, here", "", "=1+1", "'=1", "-5 apples"]


def cell(row: int, column: int) -> str:
    match column % 4:
        case 0:
            return TEXTS[(row + column // 4) % len(TEXTS)]
        case 1:
            return str(row * column)
        case 2:
            return "" if row % 3 == 0 else f"{row / 4 + column:.2f}"
        case _:
            return f"2026-01-{row % 28 + 1:02}"


ROWS = [[cell(row, column) for column in range(COLUMNS)] for row in range(12)]


def written(rows: list[list[str]], header: list[str] | None = NAMES, **dialect: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", **dialect)
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def test_a_wide_file_keeps_every_cell_and_type_in_each_format() -> None:
    source = written(ROWS)

    parquet = run("convert", source, output_format="parquet")
    text = run("convert", source, output_format="csv")
    array = run("convert", source, output_format="json")
    lines = run("convert", source, output_format="ndjson")

    assert parquet.result == text.result == array.result == lines.result == {"row_count": 12}
    found = table(parquet.first, "parquet")
    assert [[str(value) for value in row[1::4]] for row in found] == [row[1::4] for row in ROWS]
    assert [[str(value) for value in row[3::4]] for row in found] == [row[3::4] for row in ROWS]
    assert [row[0] for row in found] == [row[0] or None for row in ROWS]
    assert {type(value) for row in found for value in row[2::4]} == {float, type(None)}
    safe = [["'" + c if c[:1] in {"=", "'", "-"} else c for c in row[::4]] for row in ROWS]
    assert [row[::4] for row in text.cells[1:]] == safe
    objects = json.loads(array.first)
    assert list(objects[0]) == text.cells[0] == NAMES
    assert objects == [json.loads(line) for line in lines.first.splitlines()]
    assert objects[4]["c4"] == TEXTS[5]


def test_a_wide_file_of_another_make() -> None:
    rows = [["1,5"] * COLUMNS, ["2,25"] * COLUMNS]
    source = "\n".join(map(";".join, rows))

    done = run("convert", source.encode("utf-16"), delimiter=";", output_format="json")

    objects = json.loads(done.first)
    assert [set(each.values()) for each in objects] == [{1.5}, {2.25}]
    assert list(objects[0])[:2] == ["column0000", "column0001"]


def test_wide_names_that_repeat_or_lack() -> None:
    header = ["a", "A", "", *NAMES[3:-1], "a"]

    done = run("query", written([["1"] * COLUMNS], header), sql="SELECT * FROM input")

    names = [each["name"] for each in done.result["columns"]]
    assert [*names[:4], names[-1]] == ["a", "A_1", "column0002", "c3", "a_2"]


def test_a_wide_line_that_is_too_short_is_named() -> None:
    source = written([ROWS[1], ROWS[1][:-1]])

    failed = run("convert", source, output_format="csv")
    padded = run("convert", source, output_format="csv", ragged="pad")

    assert failed.code == "bad_source"
    # The first row has a line break in some cell.
    breaks = sum(value.count("\n") for value in ROWS[1])
    assert str(failed.error) == f"line {3 + breaks}: 1009 cells, 1010 were expected"
    assert padded.result == {"row_count": 2}


def test_types_of_a_wide_file_that_change_late() -> None:
    rows = [["1"] * COLUMNS for _ in range(3)]
    rows[2][700] = "late"

    done = run("query", written(rows), sql="SELECT c0, c700 FROM input")

    assert [row["c700"] for row in done.rows] == ["1", "1", "late"]
    assert [row["c0"] for row in done.rows] == [1, 1, 1]


def test_types_of_a_wide_file_can_be_told() -> None:
    rows = [["7"] * COLUMNS, ["8"] * COLUMNS]

    done = run("query", written(rows), types={LAST: "text"}, sql=f"SELECT c0, {LAST} FROM input")
    wrong = run("query", written([["x"] * COLUMNS]), types={LAST: "integer"}, sql="FROM input")
    lacking = run("query", written(rows), types={"nobody": "text"}, sql="FROM input")

    assert done.rows == [{"c0": 7, LAST: "7"}, {"c0": 8, LAST: "8"}]
    assert wrong.code == "bad_source"
    assert str(wrong.error).startswith(f"column {LAST}: ")
    assert lacking.code == "unknown_column"


def test_wide_objects_keep_every_field_and_type() -> None:
    fields = {
        f"f{number}": [number, str(number), {"a": number}][number % 3] for number in range(1_010)
    }
    others = {"f0": None, "f1": "é", "f1009": {"a": 2}}

    done = run("convert", rows=[fields, others], output_format="ndjson")
    late = run(
        "query",
        "\n".join(map(json.dumps, [fields, fields, {"f0": "x"}])),
        sql="SELECT f0 FROM input",
    )

    first, second = map(json.loads, done.first.splitlines())
    assert first == fields
    assert {name: value for name, value in second.items() if value is not None} == {
        "f1": "é",
        "f1009": {"a": 2},
    }
    assert [row["f0"] for row in late.rows] == [0, 0, "x"]


def test_a_wide_answer_has_its_rows_in_order_and_shows_the_first() -> None:
    select = "SELECT * FROM input WHERE c1 > 3 ORDER BY c1 DESC"

    done = run("query", written(ROWS), sql=select, output_format="ndjson")

    objects = [json.loads(line) for line in done.first.splitlines()]
    assert [each["c1"] for each in objects] == list(range(11, 3, -1))
    assert [each[LAST] for each in objects] == [1009 * row for row in range(11, 3, -1)]
    assert done.result["row_count"] == 8
    assert done.rows == objects[: len(done.rows)]


def test_a_wide_answer_whose_rows_are_others_each_time_is_refused() -> None:
    select = "SELECT * REPLACE (random() AS c0) FROM input ORDER BY c0"

    done = run("query", written(ROWS), sql=select)

    assert done.code == "memory"
    assert "the same rows each time" in str(done.error)


def test_wide_rows_are_deduplicated_validated_and_profiled() -> None:
    source = written([*ROWS, ROWS[3]])

    kept = run("dedupe", source, keys=["c1", LAST])
    schema = {"properties": {LAST: {"type": "integer", "maximum": 10_000}}}
    checked = run("validate", source, schema=schema)
    profiled = run("profile", source)

    assert kept.result == {"row_count": 13, "kept": 12, "removed": 1}
    assert [row[1] for row in kept.cells[1:]] == [row[1] for row in ROWS]
    assert [each["pointer"] for each in checked.result["errors"]] == [f"/{LAST}"] * 2
    assert (checked.result["row_count"], checked.result["invalid"]) == (13, 2)
    assert profiled.result["row_count"] == 13
    figures = {each["name"]: each for each in profiled.result["columns"]}
    assert (figures["c1"]["max"], figures["c1"]["distinct"]) == (11, 12)


def test_a_file_wider_than_anybody_needs_is_refused() -> None:
    done = run("convert", ",".join(["1"] * 100_001), output_format="csv")

    assert done.code == "memory"
    assert "100001 columns" in str(done.error)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_addresses_are_spent_on_threads_without_work(tmp_path: Path) -> None:
    """Each has 8 MiB of stack, and RLIMIT_AS counts them: ten thousand columns need the room."""
    before = _threads()
    with closing(Engine(JobContext(), tmp_path, Deadline(time.monotonic() + 60, 60), threads=1)):
        assert _threads() - before <= 1


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_row_with_broken_quotes_is_one_reject_of_a_wide_file_too() -> None:
    header = ",".join(f"c{number}" for number in range(1_200))
    rows = [f"{first}{',1' * 1_199}" for first in ("x", '"Bob" S', "y")]
    data = "\n".join([header, *rows, ""])

    judged = run("validate", data, schema={})
    done = run("query", data, sql="SELECT count(*) FROM input")

    why = "a quote is not closed, or more follows it"
    assert judged.result["row_count"] == 3
    assert judged.result["errors"] == [{"line": 3, "pointer": "", "message": why}]
    assert str(done.error) == f"line 3: {why}"
