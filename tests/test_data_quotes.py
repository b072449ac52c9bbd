"""Quotes of CSV that are broken: what follows them is not lost, nor read as what it is not."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs.data import lines, quotes, sql
from jobs.data.deadline import Deadline
from jobs.data.faults import UnreadableError
from jobs.data.source import Source
from jobs.errors import PermanentError
from tests.data_scene import run

_COUNT = "SELECT count(*) AS rows, max(length(b)) AS longest FROM input"
_LONG = Deadline(float("inf"), 60.0)
# More than what is sniffed, in rows and in bytes.
_INCHES = f'1,5" wide{"." * 44}\n' * 21_000
_NUMBERS = "1234567890123456,1234567890123456789\n" * 30_000
_ROWS_ABOVE = "12345,x\n" * 200_000
_JOBS: list[tuple[str, dict[str, Any]]] = [
    ("validate", {"schema": {}}),
    ("validate", {"schema": {}, "ragged": "pad"}),
    ("query", {"sql": _COUNT, "ragged": "pad"}),
    ("convert", {"output_format": "parquet", "ragged": "pad"}),
    ("profile", {"ragged": "pad"}),
    ("dedupe", {"keys": ["a"], "ragged": "pad"}),
]


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(("operation", "params"), _JOBS)
def test_a_quote_that_is_not_closed_is_named_by_its_line(
    operation: str, params: dict[str, Any], is_packed: bool
) -> None:
    data = ("a,b\n" + _ROWS_ABOVE + '1,"y\n' + "12345,x\n" * 1_000).encode()

    done = run(operation, gzip.compress(data, 1) if is_packed else data, **params)

    assert done.code == "bad_source"
    assert "line 200002: a quote is not closed" in str(done.error)


def test_nor_is_it_lost_where_inches_make_the_number_of_quotes_even() -> None:
    lines = '1,"two\nlines"\n' * 700_000 + '1,5" wide\n' + '1,"y\n' + "12345,x\n" * 1_000

    done = run("convert", "a,b\n" + lines, output_format="parquet")

    assert done.code == "bad_source"
    assert "line 1400003: a quote is not closed" in str(done.error)


@pytest.mark.parametrize("ragged", [None, "pad"])
def test_quotes_are_quotes_behind_a_beginning_that_has_only_inches(ragged: str | None) -> None:
    data = "a,b\n" + '1,5" wide\n' * 200_000 + '2,"y, z"\n3,"u\nv, ""w"""\n'

    done = run("query", data, sql="SELECT * FROM input WHERE a > 1", ragged=ragged)
    judged = run("validate", data, schema={}, ragged=ragged)

    assert (done.error, judged.error) == (None, None)
    assert done.rows == [{"a": 2, "b": "y, z"}, {"a": 3, "b": 'u\nv, "w"'}]
    assert (judged.result["row_count"], judged.result["invalid"]) == (200_002, 0)


@pytest.mark.parametrize("cell", ['"x" y', '"x', '"x" "y'])
@pytest.mark.parametrize("ragged", [None, "pad"])
def test_cells_that_begin_with_a_quote_and_are_not_in_quotes_stay_whole(
    cell: str, ragged: str | None
) -> None:
    done = run("query", "a,b\n" + f"1,{cell}\n" * 1_000, sql=_COUNT, ragged=ragged)

    assert done.error is None
    assert done.rows == [{"rows": 1_000, "longest": len(cell)}]


@pytest.mark.parametrize("rows_above", [10, 200_000])
@pytest.mark.parametrize("ragged", [None, "pad"])
def test_what_follows_a_closed_quote_is_not_left_out(ragged: str | None, rows_above: int) -> None:
    data = "a,b\n" + '1,"x"\n' * rows_above + '1,"y" z\n' + '1,"x"\n' * 10

    done = run("query", data, sql=_COUNT, ragged=ragged)

    assert done.code == "bad_source"
    assert f"line {rows_above + 2}: a quote is not closed, or more follows it" in str(done.error)


@pytest.mark.parametrize(
    ("operation", "params"), [(name, {**own, "ragged": "fail"}) for name, own in _JOBS[1:]]
)
@pytest.mark.parametrize("above", [_INCHES, _NUMBERS], ids=["inches", "numbers"])
def test_quotes_are_text_where_none_was_one_before_and_one_cannot_be(
    operation: str, params: dict[str, Any], above: str
) -> None:
    """Behind a beginning with inches, or with none, which left open what they are."""
    data = f'a,b\n{above}2,"Bob" Smith\n2,"Ann"\n'
    cells = [above.splitlines()[0].partition(",")[2], '"Bob" Smith', '"Ann"']
    own: dict[str, Any] = {
        "query": {"sql": "SELECT b FROM input WHERE a = 2"},
        "validate": {"schema": {"properties": {"b": {"enum": cells}}}},
    }

    done = run(operation, data, **params | own.get(operation, {}))

    assert done.error is None
    if operation == "query":
        assert [row["b"] for row in done.rows] == ['"Bob" Smith', '"Ann"']
    if operation == "validate":
        assert done.result["invalid"] == 0


@pytest.mark.parametrize("cell", ["Smith, Ann", 'say ""hi""', "u\nv", "x\n3,y"])
def test_but_not_where_a_cell_needs_them(cell: str) -> None:
    data = f'a,b\n{_INCHES}2,"{cell}"\n2,"Bob" Smith\n'
    line = 21_003 + cell.count("\n")

    judged = run("validate", data, schema={})

    assert [each["line"] for each in judged.result["errors"]] == [line]

    for ragged in (None, "pad"):
        done = run("query", data, sql=_COUNT, ragged=ragged)

        assert done.code == "bad_source"
        assert str(done.error) == f"line {line}: a quote is not closed, or more follows it"


@pytest.mark.parametrize("ragged", [None, "pad"])
def test_client_may_tell_that_quotes_are_text(ragged: str | None) -> None:
    data = 'a,"b"\n' + '1,"x"\n2,"Bob" Smith\n3,"y\n' * 10
    judged = run("validate", data, schema={}, quote="", ragged=ragged)
    done = run("query", data, sql="SELECT * FROM input LIMIT 3", quote="", ragged=ragged)

    assert done.rows == [
        {"a": 1, '"b"': '"x"'},
        {"a": 2, '"b"': '"Bob" Smith'},
        {"a": 3, '"b"': '"y'},
    ]
    assert (judged.result["row_count"], judged.result["invalid"]) == (30, 0)


def test_rows_with_broken_quotes_are_rejects_with_their_lines() -> None:
    """All the same to validate, where other jobs refuse the file by the first of them."""
    data = 'a,b\n1,"x"\n2,"Bob" Smith\n3,"u\nv"\n4,"u\nv" w\n5,"y"\n'

    judged = run("validate", data, schema={})

    assert (judged.result["row_count"], judged.result["invalid"]) == (5, 2)
    why = "a quote is not closed, or more follows it"
    assert judged.result["errors"] == [
        {"line": 3, "pointer": "", "message": why},
        {"line": 6, "pointer": "", "message": why},
    ]


def test_spaces_around_quotes_are_none_of_a_cell_to_any_job() -> None:
    data = 'a,b\n1, "x, y"\n2,"z" \n3,"u\n, v" ,\n4,  "w"\n'.replace(" ,\n", " \n")

    done = run("query", data, sql="SELECT * FROM input")
    cells = [row["b"] for row in done.rows]
    judged = run("validate", data, schema={"properties": {"b": {"enum": cells}}})

    assert cells == ["x, y", "z", "u\n, v", '  "w"']
    assert (judged.result["row_count"], judged.result["invalid"]) == (4, 0)


@pytest.mark.parametrize("ragged", [None, "pad"])
def test_cell_that_begins_in_what_is_sniffed_and_ends_behind_it_is_one(
    ragged: str | None,
) -> None:
    cell = "y,z\n" * 200_000
    data = "a,b\n" + f"2,x{'.' * 30}\n" * 21_000 + f'1,"{cell}"\n2,x\n'

    done = run("query", data, sql=_COUNT, ragged=ragged)
    judged = run("validate", data, schema={}, ragged=ragged)

    assert done.rows == [{"rows": 21_002, "longest": len(cell)}]
    assert (judged.result["row_count"], judged.result["invalid"]) == (21_002, 0)


@pytest.mark.parametrize("ragged", [None, "pad"])
def test_a_first_row_that_is_too_long_is_named_by_its_line(ragged: str | None) -> None:
    cell = ("y" * 99 + "\n") * 50_000

    for operation, params in (_JOBS[0], ("query", {"sql": _COUNT})):
        done = run(operation, f'a,b\n1,"{cell}"\n2,x\n', **params, ragged=ragged)

        why = "a quote is not closed, or the row has more than 4194304 bytes"
        assert str(done.error) == f"line 2: {why}"


@pytest.mark.parametrize("size_bytes", [5_000_000, 13_000_000, 33_000_000])
def test_a_cell_that_is_too_long_is_no_rows(size_bytes: int) -> None:
    cell = ("y" * 99 + "\n") * (size_bytes // 100)

    done = run("query", f'a,b\n{_ROWS_ABOVE}1,"{cell}"\n12345,x\n', sql=_COUNT, ragged="pad")

    assert done.code == "bad_source"
    why = "a quote is not closed, or the row has more than 4194304 bytes"
    assert str(done.error) == f"line 200002: {why}"


def test_a_last_line_that_ends_with_an_escape_is_read() -> None:
    data = "a,b\n" + '1,"x \\"y\\" z"\n' * 1_000 + "2,C:\\folder\\\n"

    done = run("validate", data, schema={})

    assert done.error is None
    assert done.result["row_count"] == 1_001


@pytest.mark.parametrize(
    ("data", "rows", "count"),
    [
        ('"h";"i"\n' + '"1";"x y"\n' * 100, [{"h": 1, "i": "x y"}], 100),
        (
            "h,i\n" + '1,"l\nm"\n2,"say \\"q\\""\n' * 3,
            [{"h": 1, "i": "l\nm"}, {"h": 2, "i": 'say "q"'}],
            6,
        ),
        (
            "h,i\n" + '1,"5"" wide"\n2,C:\\dir\\\n' * 9,
            [{"h": 1, "i": '5" wide'}, {"h": 2, "i": "C:\\dir\\"}],
            18,
        ),
        (
            "h,i\n" + "1,\"l1 l2\"\n2,o'clock 'q'\n" * 5,
            [{"h": 1, "i": "l1 l2"}, {"h": 2, "i": "o'clock 'q'"}],
            10,
        ),
        (
            '"h";"i"\n' + '"1";"x, y"\n"2";"z"\n' * 9,
            [{"h": 1, "i": "x, y"}, {"h": 2, "i": "z"}],
            18,
        ),
        ("h,i\n" + "1,'x, y'\n" * 9, [{"h": 1, "i": "x, y"}], 9),
    ],
    ids=["semicolon", "backslash", "folder", "apostrophe", "comma", "single"],
)
@pytest.mark.parametrize("ragged", [None, "pad"])
def test_padded_rows_are_those_that_are_read_without(
    data: str, rows: list[dict[str, Any]], count: int, ragged: str | None
) -> None:
    done = run("query", data, sql="SELECT * FROM input", ragged=ragged)

    assert done.error is None
    assert (done.rows[: len(rows)], len(done.rows)) == (rows, count)


@pytest.mark.parametrize("first", ['1,"x"\n', '1,"two\nlines"\n', "1,'x, y'\n"])
def test_one_broken_row_does_not_end_quoting(first: str) -> None:
    broken = first.replace("x", "z").rstrip("\n") + " z\n"

    done = run("query", "a,b\n" + first * 500 + broken + first * 500, sql=_COUNT, ragged="pad")

    assert done.code == "bad_source"
    assert f"line {500 * first.count(chr(10)) + 2}: a quote is not closed" in str(done.error)


@pytest.mark.parametrize("operation", ["query", "validate"])
def test_a_first_row_that_is_too_long_is_one_row(operation: str) -> None:
    cell = ("y" * 99 + "\n") * 50_000
    params: dict[str, Any] = {"sql": _COUNT} if operation == "query" else {"schema": {}}

    done = run(operation, f'a,b\n1,"{cell}"\n2,x\n', ragged="pad", **params)

    assert str(done.error).startswith("line 2: a quote is not closed, or the row has more than")


def test_cells_may_be_between_spaces() -> None:
    data = 'a b c\n"x y" 5 "z w"\n1 2 3\n'

    done = run("query", data, sql="SELECT * FROM input", ragged="pad", delimiter=" ")

    assert done.error is None
    assert done.rows[0] == {"a": "x y", "b": 5, "c": "z w"}


def test_a_quote_in_a_comment_begins_no_cell() -> None:
    data = "# all of May\na,b\n" + '1,"x"\n#note,"see\n2,"y"\n3,"z"\n#end,"of May\n'

    asked = run("query", data, sql="SELECT count(*) AS rows FROM input")
    judged = run("validate", data, schema={})

    assert (asked.error, judged.error) == (None, None)
    assert asked.rows == [{"rows": judged.result["row_count"]}] == [{"rows": 3}]


_CELLS = ["a", '""', '"a"', '"a,"', '"\n"', '"a\na"', ' "a"', '  "a"', '"a" ', '"a', '"a"b', 'a"',
          '"a"""', '"a""b"', '"a" "b"', 'a "b"']  # fmt: skip
_ESCAPED = [r"a\"b", r'"a\"b"', r'"a\\"', r'"\a"', '"\\', r"a\b", r"a\\"]
_LAST = ("last", "1")


@pytest.mark.parametrize("escape", ['"', "\\"])
def test_it_is_as_the_reader_of_csv_has_it(escape: str, tmp_path: Path) -> None:
    """Either both read the last row as one of its own, or neither does."""
    dice = random.Random(20)
    cells = _CELLS if escape == '"' else [*_CELLS, *_ESCAPED]
    path = tmp_path / "rows.csv"
    options = {
        "auto_detect": False, "delim": ",", "quote": '"', "escape": escape, "header": True,
        "columns": {"h": "VARCHAR", "i": "VARCHAR"}, "parallel": False, "buffer_size": 4_194_304,
        "max_line_size": 4_194_304,
    }  # fmt: skip
    statement = "SELECT * FROM " + sql.call("read_csv", str(path), options)
    outcomes = set()
    with duckdb.connect() as connection:
        for _ in range(1_000):
            rows = [
                f"{dice.choice(cells)},{dice.choice(cells)}" for _ in range(dice.randrange(1, 4))
            ]
            path.write_text("\n".join(["h,i", *rows, "last,1", ""]), newline="")
            try:
                found = connection.execute(statement).fetchall()
                is_read = bool(found) and found[-1] == _LAST
            except duckdb.Error as error:
                if "unterminated" not in str(error):
                    continue
                is_read = False
            assert _is_taken(path, options) == is_read, path.read_text()
            outcomes.add(is_read)
    assert outcomes == {True, False}


def _is_taken(path: Path, options: dict[str, Any]) -> bool:
    try:
        quotes.check(Source(path, "csv", "none", "utf-8", b""), options, _LONG)
    except UnreadableError:
        return False
    return True


@pytest.mark.parametrize("is_packed", [False, True])
def test_looking_through_a_file_ends_when_the_time_is_over(tmp_path: Path, is_packed: bool) -> None:
    """And not when the worker ends the process, which would be tried again."""
    data = b"a,b\n" + b'1,"x"\n' * 10_000
    path = tmp_path / "table.csv"
    path.write_bytes(gzip.compress(data) if is_packed else data)
    source = Source(path, "csv", "gzip" if is_packed else "none", "utf-8", data)
    options = {"quote": '"', "escape": '"', "delim": ",", "max_line_size": 4_194_304}
    over = Deadline(0.0, 60.0)

    with pytest.raises(PermanentError, match="did not end within 60 s"):
        quotes.check(source, options, over)
    with source.open() as file, pytest.raises(PermanentError, match="did not end within 60 s"):
        quotes.have_lines(file, b'"', over)
    if is_packed:
        with pytest.raises(PermanentError, match="did not end within 60 s"):
            lines.check_lengths(source, 4_194_304, over)
