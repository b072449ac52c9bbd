"""Whatever a table holds: what comes out, read by a plain DuckDB, is what went in."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data_scene import run, table

QUIET = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What UTF-8, UTF-16 and Windows-1252 have all; no line ends here, they come by themselves.
LETTERS = st.text(st.sampled_from("abzÄéñ ,;'\"\t|0"), min_size=1, max_size=8)
CELLS = st.one_of(
    st.none(),
    LETTERS,
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.dates().map(str),
    st.sampled_from(["true", "1.50", "x\ny", "=a", "-1", "€"]),
)
NAMES = st.lists(
    st.text(st.sampled_from("abcdexyz"), min_size=1, max_size=5), min_size=2, max_size=4,
    unique_by=str.lower,
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str | None]]]:
    names = draw(NAMES)
    row = st.lists(CELLS, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=12))


def written(names: list[str], rows: list[list[str | None]], delimiter: str, end: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


@QUIET
@given(
    tables(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)  # fmt: skip
def test_tables_come_out_as_they_went_in(
    found: tuple[list[str], list[list[str | None]]], delimiter: str, end: str, encoding: str
) -> None:
    names, rows = found
    data = written(names, rows, delimiter, end).encode(encoding)
    told = {"utf-8-sig": "utf-8", "cp1252": "windows-1252"}.get(encoding, encoding)

    done = run(
        "convert", data, output_format="parquet",
        delimiter=delimiter, quote='"', header=True, encoding=told, decimal=".",
    )  # fmt: skip

    assert done.error is None, done.error
    got = table(done.first, "parquet")
    assert len(got) == len(rows)
    for row, out in zip(rows, got, strict=True):
        for cell, value in zip(row, out, strict=True):
            assert (value is None) == (cell is None)
            if isinstance(value, str):
                assert value.replace("\r\n", "\n") == cell


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), LETTERS,
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)  # fmt: skip


@QUIET
@given(st.lists(st.fixed_dictionaries({"a": VALUES, "b": VALUES}), min_size=1, max_size=10))
def test_the_result_and_every_format_say_the_same(rows: list[dict[str, Any]]) -> None:
    answers = [
        run("query", rows=rows, sql="SELECT * FROM input", output_format=output_format)
        for output_format in ("csv", "json", "ndjson", "parquet")
    ]

    assert [each.error for each in answers] == [None] * 4
    assert all(each.rows == answers[0].rows for each in answers)
    assert json.loads(answers[1].first) == answers[0].rows
    assert [json.loads(line) for line in answers[2].first.splitlines()] == answers[0].rows


@QUIET
@given(st.lists(st.tuples(st.integers(0, 3) | st.none(), st.integers()), min_size=1, max_size=30))
def test_dedupe_keeps_what_a_dictionary_keeps(pairs: list[tuple[int | None, int]]) -> None:
    rows = [{"k": key, "n": number} for number, (key, _) in enumerate(pairs)]

    first = run("dedupe", rows=rows, keys=["k"], output_format="json")
    last = run("dedupe", rows=rows, keys=["k"], keep="last", output_format="json")

    places = [(key, number) for number, (key, _) in enumerate(pairs)]
    kept_last, kept_first = dict(places), dict(reversed(places))
    assert [row["n"] for row in json.loads(first.first)] == sorted(kept_first.values())
    assert [row["n"] for row in json.loads(last.first)] == sorted(kept_last.values())
