"""Files as few people send them, and what must not pass for their rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from app.queue.fingerprints import pattern_of
from jobs.data.faults import describe_source
from tests.data_scene import run

NOISE = random.Random(7).randbytes(5_000)


@pytest.mark.parametrize("above", ["\n", "\n\n", "\n \n\n"])
@pytest.mark.parametrize("rows", ["1,2\n", "1,2\n3,4\n"])
def test_blank_lines_above_a_header(above: str, rows: str) -> None:
    data = f"{above}a,b\n{rows}"
    expected = [dict(zip("ab", map(int, row.split(",")), strict=True)) for row in rows.split()]

    assert run("query", data, sql="FROM input").rows == expected
    assert run("validate", data, schema={}).result["row_count"] == len(expected)


@pytest.mark.parametrize("data", ["a\n1\n\n2\n", "a\n\n1\n\n", "\n\na\n1\n\n\n2\n"])
def test_blank_lines_of_one_column_are_rows_to_all(data: str) -> None:
    rows = run("query", data, sql="FROM input").rows
    required: dict[str, Any] = {"required": ["a"]}

    done = run("validate", data, schema=required)

    assert done.result["row_count"] == len(rows)
    assert done.result["invalid"] == sum(row["a"] is None for row in rows) > 0


@pytest.mark.parametrize("end", ["json", "ndjson"])
def test_fields_that_differ_in_case_only_keep_their_values(end: str) -> None:
    objects = [{"id": 1, "ID": 2}, {"ID": 3}]
    data = json.dumps(objects) if end == "json" else "\n".join(map(json.dumps, objects))

    done = run("query", data, filename=f"table.{end}", sql="FROM input")

    assert [list(row.values()) for row in done.rows] == [[1, 2], [None, 3]]


@pytest.mark.parametrize("operation", ["query", "validate"])
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (gzip.compress(gzip.compress(b"a,b\n1,2\n")), "twice"),
        (b"BZh91AY&SY" + NOISE, "bzip2"),
        (b"\x89PNG\r\n\x1a\n" + NOISE, "picture"),
        (b"\xff\xd8\xff\xe0" + NOISE, "picture"),
        (b"ARROW1\0\0" + NOISE, "Arrow"),
        (bytes(byte for byte in NOISE if byte), "no text"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<title>Sign in, please</title>", "HTML"),
        (b'<?xml version="1.0"?>\n<a b="1,2"/>\n', "XML"),
    ],
    ids=["twice", "bzip2", "png", "jpeg", "arrow", "noise", "html", "xml"],
)
def test_what_is_no_table_does_not_become_one(operation: str, data: bytes, word: str) -> None:
    params: dict[str, Any] = {"sql": "FROM input"} if operation == "query" else {"schema": {}}

    done = run(operation, data, filename="table.csv", **params)

    assert done.code == "bad_source"
    assert word in str(done.error)


def test_old_text_may_end_in_ctrl_z() -> None:
    done = run("query", "a,b\né,2\n3,\x1a\n".encode("latin-1"), sql="FROM input")

    assert done.rows == [{"a": "é", "b": "2"}, {"a": "3", "b": "\x1a"}]


def test_utf_32_is_read() -> None:
    assert run("query", "a,b\né,2\n".encode("utf-32"), sql="FROM input").rows == [
        {"a": "é", "b": 2}
    ]


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ('[{"a":1},{"a":2},{"a":x}]', "record/value 3"),
        ('[{"a":1}', "record/value 2"),
        ('{"a":1}\n{"a":x}', "line 2"),
    ],
)
def test_broken_json_is_named_where_it_is(data: str, place: str) -> None:
    done = run("query", data, filename="a.json" if data[0] == "[" else "a.ndjson", sql="FROM input")

    assert done.code == "bad_source"
    assert f" in {place}:" in str(done.error)


def test_json_that_is_too_deep_is_called_so() -> None:
    done = run("validate", '{"a":' * 5_000 + "1" + "}" * 5_000, schema={})

    assert done.result["errors"][0]["message"] == "it cannot be read: too deep"


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP", "TIMESTAMPTZ"])
def test_days_without_end_have_a_profile(kind: str, tmp_path: Any) -> None:
    path = tmp_path / "days.parquet"
    days = ["2024-01-01", "infinity", "infinity", "infinity"]
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT unnest({days}::{kind}[]) AS day) TO '{path}' (FORMAT parquet)"
        )

    done = run("profile", path.read_bytes(), filename="days.parquet")

    column = done.result["columns"][0]
    assert (column["max"], column["q75"]) == ("infinity", "infinity")
    json.dumps(done.result, allow_nan=False)


def test_files_that_lack_a_column_fail_of_one_cause() -> None:
    found = [run("dedupe", data, keys=["id"]) for data in ("a,b\n1,2\n", "it's\n1\n", "x,y,z\n")]

    assert {done.code for done in found} == {"unknown_column"}
    assert len({pattern_of(str(done.error)) for done in found}) == 1
    assert "'a, b'" in str(found[0].error)


def damaged_parquet(path: Path) -> Iterator[tuple[type[Exception], bytes]]:
    """Files with one bit of their footer turned, each of which DuckDB refuses in another way."""
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT range AS a, 'x' || range AS b FROM range(1000)) TO '{path}'"
            " (FORMAT parquet)"
        )
    data, known = path.read_bytes(), set()
    footer_bytes = int.from_bytes(data[-8:-4], "little")
    for place in range(len(data) - 8 - footer_bytes, len(data) - 8):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            with duckdb.connect() as connection:
                connection.execute(f"FROM '{path}'").fetchall()
        except duckdb.Error as error:
            words = str(error)[:40]
            if words not in known:
                known.add(words)
                yield type(error), bytes(damaged)


@pytest.mark.parametrize("operation", ["profile", "validate"])
def test_damage_to_a_parquet_file_is_no_fault_of_any_sql(operation: str, tmp_path: Path) -> None:
    params: dict[str, Any] = {} if operation == "profile" else {"schema": {}}
    kinds = set()
    for kind, data in damaged_parquet(tmp_path / "damaged.parquet"):
        done = run(operation, data, filename="damaged.parquet", **params)

        kinds.add(kind)
        assert done.code in {"bad_source", None}, done.error
        assert "Stack Trace" not in str(done.error)
        assert "0x7" not in str(done.error)
    assert duckdb.InternalException in kinds


def test_encrypted_parquet_is_called_so() -> None:
    done = run("query", b"PAR1" + bytes(100) + b"PARE", filename="a.parquet", sql="FROM input")

    assert (done.code, str(done.error)) == ("bad_source", "the Parquet file is encrypted")


@pytest.mark.parametrize("operation", ["query", "validate"])
@pytest.mark.parametrize(
    "data",
    ["a,b\n1,2,3\n4\n", "a,b\n1,2\n1,2,3\n", "\na,b\n1,2\n" + "1,2,3\n4\n" * 15_000,
     'a,"b\nc"\n1,"2\n2"\n3\n4,5,6\n'],
    ids=["first", "second", "late", "line breaks"],
)  # fmt: skip
def test_padded_rows_have_the_cells_of_the_header(operation: str, data: str) -> None:
    if operation == "query":
        done = run("query", data, ragged="pad", sql="SELECT * FROM input")
        assert done.error is None
        assert len(done.result["columns"]) == 2
        assert all(len(row) == 2 for row in done.cells)
    else:
        two: dict[str, Any] = {"maxProperties": 2}
        done = run("validate", data, ragged="pad", schema=two)
        assert done.result["invalid"] == 0


@pytest.mark.parametrize("end", ["json", "ndjson"])
def test_a_field_of_the_last_object_is_not_left_out(end: str) -> None:
    objects = ['{"a":1,"in":{"x":1}}'] * 25_000 + ['{"a":1,"in":{"x":1,"y":2},"late":3}']
    data = f"[{','.join(objects)}]" if end == "json" else "\n".join(objects)

    done = run("convert", data, filename=f"table.{end}", output_format="ndjson")

    last = json.loads(done.first.splitlines()[-1])
    assert last == {"a": 1, "in": {"x": 1, "y": 2}, "late": 3}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "lines",
    [["sep=;", "a;b", "1;x,y"], ["\ufeffSEP=,", "a,b", '1,"x,y"'], ['"sep=|"', "a|b", "1|x,y"]],
)
def test_a_line_that_says_the_delimiter_is_no_header(lines: list[str], end: str) -> None:
    data = end.join(lines) + end

    assert run("query", data, sql="FROM input").rows == [{"a": 1, "b": "x,y"}]
    done = run("validate", data, schema={"properties": {"a": {"const": "2"}}})
    assert done.result["row_count"] == 1
    assert done.result["errors"][0]["line"] == 3


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("My report\n\na,b,c\n1,2,3\n4,5\n", ["a", "b", "c"]),
        ("# comment\na,b,c\n" + "1,2,3\n" * 20, ["a", "b", "c"]),
        ("x,y\n" + '"1",5,6\n' * 20, ["x", "y", "column2"]),
    ],
    ids=["title", "comment", "R"],
)
def test_what_stands_above_the_table_takes_no_column_of_padded_rows(
    data: str, names: list[str]
) -> None:
    done = run("convert", data, ragged="pad", output_format="ndjson")

    rows = [json.loads(line) for line in done.first.splitlines()]
    assert list(rows[0]) == names
    assert all(rows[0].values())
    required: dict[str, Any] = {"required": names}
    agreed = run("validate", data, ragged="pad", schema=required).result
    assert agreed["row_count"] == len(rows)
    assert agreed["invalid"] == sum(None in row.values() for row in rows)


@pytest.mark.parametrize("cell", ["infinity", "-Infinity", " epoch"])
@pytest.mark.parametrize(
    "days",
    [["2020-01-01", "2020-01-03"], ["25/12/2020", "26/12/2020"], ["25/12/2020 09:30:00"] * 2],
    ids=["ISO", "days", "times"],
)
def test_a_word_among_days_is_no_other_day(days: list[str], cell: str) -> None:
    data = "\n".join(["d,e", f"{days[0]},x", f"{cell},epoch", f"{days[1]},y", ""])

    rows = run("query", data, sql="FROM input").rows

    assert [row["d"].strip() for row in rows] == [days[0], cell.strip(), days[1]]


def test_a_word_among_days_of_a_column_told_to_be_days_is_refused() -> None:
    data = "d\n25/12/2020\ninfinity\n"

    done = run("query", data, types={"d": "date"}, date_format="%d/%m/%Y", sql="FROM input")

    assert done.code == "bad_source"
    assert "column d: infinity" in str(done.error)


def test_a_word_among_days_of_a_wide_file_is_no_other_day() -> None:
    names = [f"c{number}" for number in range(1_200)]
    rows = [["2020-01-01"] * 1_200, ["infinity"] * 1_200]
    data = "\n".join(map(",".join, [names, *rows]))

    done = run("query", data, sql="SELECT c0, c1199 FROM input")

    assert [row["c1199"] for row in done.rows] == ["2020-01-01", "infinity"]


def test_a_time_behind_a_late_day_is_kept() -> None:
    data = "d\n" + "2020-01-01\n" * 25_000 + "2020-01-02 10:30:00\n"

    done = run("query", data, sql="SELECT max(d)::VARCHAR AS last FROM input")

    assert done.rows[0]["last"].startswith("2020-01-02 10:30:00")


@pytest.mark.parametrize("first", [3, 25_000])
def test_names_in_a_field_that_differ_in_case_only_keep_their_values(first: int) -> None:
    objects = ['{"a":{"x":1},"n":{"m":[1]},"s":"t"}'] * first + ['{"a":{"X":2},"n":{"m":[]}}']

    done = run("convert", "\n".join(objects), filename="a.ndjson", output_format="ndjson")

    assert done.error is None
    assert json.loads(done.first.splitlines()[0]) == json.loads(objects[0])
    assert json.loads(done.first.splitlines()[-1])["a"] == {"X": 2}
    sums = run(
        "query", "\n".join(objects), filename="a.ndjson", sql="SELECT sum(n.m[1]) FROM input"
    )
    assert list(sums.rows[0].values()) == [first]


def test_names_that_differ_in_case_only_keep_their_values_on_both_levels() -> None:
    data = '{"id":1,"a":{"x":1}}\n{"ID":2,"a":{"X":2}}\n'

    rows = run("query", data, filename="a.ndjson", sql="FROM input").rows

    assert [[value for value in row.values() if value is not None] for row in rows] == [
        [1, {"x": 1}],
        [{"X": 2}, 2],
    ]


def test_thousands_of_fields_that_differ_in_case_only_keep_their_values() -> None:
    names = [f"Name{number}" for number in range(1_100)]
    objects = [dict.fromkeys(names, 1), {"name5": 2, "NAME1099": 3}, {"name5": 4}]
    data = "\n".join(map(json.dumps, objects))

    rows = run("query", data, filename="a.ndjson", sql="SELECT name5_1, NAME1099_1 FROM input").rows
    done = run("dedupe", data, filename="a.ndjson", keys=["name5_1"])

    assert [list(row.values()) for row in rows] == [[None, None], [2, 3], [4, None]]
    assert done.result["row_count"] == 3


def test_advice_for_users_of_duckdb_is_not_told() -> None:
    words = 'Not implemented Error: Duplicate name "X", try ignore_errors=true\n\nLINE 1: FROM x'

    assert describe_source(words) == 'Duplicate name "X"'
    words = "Invalid Input Error: JSON transform error, in line 3: no key\nTry increasing it"
    assert describe_source(words) == "JSON transform error, in line 3: no key"


@pytest.mark.parametrize("operation", ["query", "validate"])
def test_a_program_is_not_called_text_of_utf_16(operation: str) -> None:
    params: dict[str, Any] = {"sql": "FROM input"} if operation == "query" else {"schema": {}}
    program = b"\x7fELF\2\1\1" + bytes(9) + b",\0\n\0" + b"\0\xd8\0\0" * 100

    done = run(operation, program, filename="table.csv", **params)

    assert (done.code, str(done.error)) == ("bad_source", "the file is no text, and no Parquet")


def kept(operation: str, data: str, **params: Any) -> list[list[str]]:
    """The rows as the job has them, each cell as text; validate's are its rejects."""
    if operation == "query":
        done = run("query", data, sql="SELECT * FROM input", **params)
        assert done.error is None
        return [["" if cell is None else str(cell) for cell in row.values()] for row in done.rows]
    done = run("validate", data, schema={"not": {}}, **params)
    assert done.error is None
    found = csv.DictReader(io.StringIO(done.artifacts["rejects.csv"].decode(), newline=""))
    return [list(json.loads(row["row"]).values()) for row in found]


JUDGES = pytest.mark.parametrize("operation", ["query", "validate"])
RAGGED = pytest.mark.parametrize("ragged", [None, "pad"])


@JUDGES
@RAGGED
@pytest.mark.parametrize(
    ("above", "last"),
    [
        ("comment\n" + "ok\n" * 50, ["x\ty"]),
        ("text\n" + "hello\n" * 20, ["well, yes"]),
        ("a;b\n" + "k;2\n" * 50, ["x, y, z, u", "5"]),
    ],
    ids=["tab", "comma", "semicolons"],
)
def test_last_row_with_other_delimiters_makes_no_title_of_all_above(
    operation: str, ragged: str | None, above: str, last: list[str]
) -> None:
    found = kept(operation, above + ";".join(last) + "\n", ragged=ragged)

    assert len(found) == above.count("\n")
    assert found[-1] == last


@JUDGES
@pytest.mark.parametrize("above", ["# made by hand\n", "Report A\nby me; in May\n\n"])
def test_title_above_padded_rows_is_no_header(operation: str, above: str) -> None:
    data = above + "a|b|c\n" + '"1"|2|"x"\n' * 7

    assert kept(operation, data, ragged="pad") == [["1", "2", "x"]] * 7
    assert kept(operation, data + "3\n", ragged="pad")[-1] == ["3", "", ""]


@JUDGES
@pytest.mark.parametrize(
    "above",
    [
        "Report A\nDate: 2024\nAuthor: x\nUnits: y\n",
        "# c\n" * 11,
        "# 1\n# 2\n# 3\n# 4\n",
        "".join(f"Line {number}\n" for number in range(12)) + "\n",
        ("t" * 400_000 + "\n") * 4,
    ],
    ids=["title", "comments", "few comments", "apart", "long"],
)
def test_titles_and_comments_above_a_table_are_none_of_it(operation: str, above: str) -> None:
    assert kept(operation, above + "a,b,c\n1,2,3\n4,5,6\n") == [["1", "2", "3"], ["4", "5", "6"]]


def test_title_above_rows_of_several_lengths_is_named() -> None:
    data = "Report A\nby me, in May\n\na,b,c\n1,2,3\n4,5,6,7\n"

    done = run("query", data, sql="SELECT * FROM input")

    assert str(done.error) == "line 2: 2 cells, 1 were expected"


def test_nor_do_rows_that_are_longer_than_the_first_ones() -> None:
    done = run("query", "a,b\n" + "k,2\n" * 50 + "1,2,3\n" * 60, sql="SELECT * FROM input")

    assert str(done.error) == "line 52: 3 cells, 2 were expected"


@JUDGES
@RAGGED
@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("# made by hand\nid,color\n1,#ff0000\n2,#00ff00\n", [["1", "#ff0000"], ["2", "#00ff00"]]),
        (
            "issue,text\n12,see #3\n#14,none\n15,x\n",
            [["12", "see #3"], ["#14", "none"], ["15", "x"]],
        ),
        ("a,b\n1,2\n#4,5\n7,8\n", [["1", "2"], ["#4", "5"], ["7", "8"]]),
        ('a;b\n#1;x\n#2;"y; z"\n3;w\n', [["#1", "x"], ["#2", "y; z"], ["3", "w"]]),
        ("#a\tb\n1\t2\n3\t4\n", [["1", "2"], ["3", "4"]]),
        ("# all\na,b\n1,2\n# half\n3,4\n", [["1", "2"], ["3", "4"]]),
        ('a,b\n# half\n1,"no #3"\n2,x\n', [["1", "no #3"], ["2", "x"]]),
        ("# list #2\na,b\n1,x\n# as in #5\n3,y\n", [["1", "x"], ["3", "y"]]),
        ("## a\na,b\n1,x\n## c\n3,y\n", [["1", "x"], ["3", "y"]]),
        ("sep=;\n# x\na;b\n1;#2\n3;4\n", [["1", "#2"], ["3", "4"]]),
    ],
    ids=[
        "colors",
        "within",
        "like rows",
        "in quotes",
        "header",
        "comments",
        "quoted",
        "own",
        "two",
        "sep",
    ],
)
def test_what_is_no_comment_is_kept(
    operation: str, ragged: str | None, data: str, rows: list[list[str]]
) -> None:
    assert kept(operation, data, ragged=ragged) == rows


def test_comments_are_none_where_their_mark_stands_in_a_row_far_behind() -> None:
    data = "# all\na,b\n1,x\n# half\n" + "1,x\n" * 300_000 + "2,see #7\n"

    done = run("query", data, sql="SELECT * FROM input")

    assert str(done.error) == "line 4: 1 cells, 2 were expected"


@JUDGES
@RAGGED
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_that_ends_otherwise_than_the_others_is_one(
    operation: str, ragged: str | None, end: str
) -> None:
    data = f"id,note{end}" + f"1,x{end}" * 5 + f"2,a\r12345,b{end}"

    assert kept(operation, data, ragged=ragged)[-2:] == [["2", "a"], ["12345", "b"]]


@JUDGES
@RAGGED
def test_title_of_several_lines_takes_no_row_with_it(operation: str, ragged: str | None) -> None:
    data = '"Report\nof May"\n\na,b,c\n1,2,3\n4,5,6\n'

    assert kept(operation, data, ragged=ragged) == [["1", "2", "3"], ["4", "5", "6"]]


@JUDGES
def test_backslash_is_no_escape_outside_quotes(operation: str) -> None:
    data = 'h,i\n1,"say \\"q\\""\n2,C:\\new\\\n3,x\n'

    assert kept(operation, data) == [["1", 'say "q"'], ["2", "C:\\new\\"], ["3", "x"]]
    done = run(
        operation,
        data,
        ragged="pad",
        **{"query": {"sql": "FROM input"}}.get(operation, {"schema": {}}),
    )
    assert str(done.error).startswith("line 3: \\ outside quotes")


@JUDGES
@RAGGED
def test_quotes_that_are_doubled_are_one_in_a_single_column_too(
    operation: str, ragged: str | None
) -> None:
    data = 'text\nNULL\n"x, ""y"""\n""""\n"b"\n'

    assert kept(operation, data, ragged=ragged) == [["NULL"], ['x, "y"'], ['"'], ["b"]]


@JUDGES
def test_header_with_a_line_break_in_its_first_name_has_all_its_columns(operation: str) -> None:
    assert kept(operation, '"a\nb,c",d,e\n1,2,3\n4,5,6\n') == [["1", "2", "3"], ["4", "5", "6"]]


@JUDGES
def test_delimiters_at_the_end_of_lines_begin_no_cell(operation: str) -> None:
    assert kept(operation, "a,b\n1,2,\n3,4,,\n") == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("a,b\n" + '1,"x\n"\n\n' * 30_000 + "2,3,4\n", 90_002),
        ('a,b\n1,"x\ny"\n' + '2,"u"\n' * 30_000 + "3,4,5\n", 30_004),
        ('a,b\n"1\n2",2\n\n3,4,5\n', 5),
    ],
)
def test_line_is_named_below_cells_of_several_lines(data: str, line: int) -> None:
    done = run("query", data, sql="SELECT * FROM input")

    assert str(done.error) == f"line {line}: 3 cells, 2 were expected"


def test_row_below_cells_of_several_lines_that_is_not_in_the_told_encoding_is_named() -> None:
    data = b'a,b\n1,"x\ny"\n' + b'2,"u"\n' * 30 + b"3,\xff\xfe\n"

    done = run("query", data, sql="SELECT * FROM input", encoding="utf-8")

    assert done.code == "bad_source"
    assert str(done.error) == "line 34: the file is not UTF-8; tell its `encoding`"
