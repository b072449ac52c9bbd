"""Files as people send them: cut off, packed, of another kind, too long, to be read otherwise."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import pytest
import zstandard

from jobs.errors import RetryLater
from tests.data_scene import run, table
from tests.file_doubles import files_end_at

MIB = 1024 * 1024
PRICED: dict[str, Any] = {"properties": {"price": {"type": "number"}}, "required": ["price"]}
# What a query and a validation are given where it is all the same.
ANY: dict[str, dict[str, Any]] = {"query": {"sql": "FROM input"}, "validate": {"schema": {}}}
# More than is looked at in the beginning, and hard to pack.
ROWS = "n,text\n" + "".join(
    f"{n},{random.Random(n).getrandbits(400):x}\n" for n in range(20_000)
)  # fmt: skip


def packed(data: str, kind: str) -> bytes:
    if kind == "gz":
        return gzip.compress(data.encode(), 1)
    # Two frames with one between them that is passed over.
    half, packer = len(data) // 2, zstandard.ZstdCompressor(write_checksum=True)
    first, second = (packer.compress(part.encode()) for part in (data[:half], data[half:]))
    return first + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + second


class TestPacked:
    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_a_whole_file_is_read(self, kind: str) -> None:
        done = run("convert", packed(ROWS, kind), output_format="csv")

        assert done.error is None
        assert done.first.decode() == ROWS

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    @pytest.mark.parametrize("operation", ["query", "validate"])
    @pytest.mark.parametrize("end", [-1, -9, -200_000, 100_000, 10])
    def test_a_file_that_is_cut_off_is_no_shorter_table(
        self, kind: str, operation: str, end: int
    ) -> None:
        done = run(operation, packed(ROWS, kind)[:end], **ANY[operation])

        assert done.code == "bad_source"
        assert "is cut off" in str(done.error)

    @pytest.mark.parametrize("kind", ["gz", "zst"])
    def test_a_damaged_file_is_named(self, kind: str) -> None:
        data = bytearray(packed(ROWS, kind))
        data[900_000:900_100] = bytes(100)

        done = run("convert", bytes(data), output_format="csv")

        assert done.code == "bad_source"


@pytest.mark.parametrize(
    ("begins", "word"),
    [(b"PK\x03\x04\x14\0\x06\0", "ZIP"), (b"%PDF-1.7\n", "PDF"), (b"\xd0\xcf\x11\xe0\xa1", "Excel"),
     (b"SQLite format 3\0", "SQLite")],
)  # fmt: skip
def test_a_file_of_another_kind_is_called_what_it_is(begins: bytes, word: str) -> None:
    done = run("profile", begins + bytes(range(256)) * 20, filename="table.csv")

    assert done.code == "bad_source"
    assert word in str(done.error)


def test_commas_in_a_file_called_tsv() -> None:
    done = run("query", "a,b\n1,2\n", filename="a.tsv", sql="FROM input")

    assert done.rows == [{"a": 1, "b": 2}]


def test_ndjson_with_a_mark_in_front() -> None:
    done = run("query", '{"a": 1}\n{"a": 2}\n'.encode("utf-8-sig"), sql="FROM input")

    assert done.rows == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_that_is_told_is_read_either_way(encoding: str) -> None:
    done = run("query", "a,b\né,2\n".encode(encoding), encoding="utf-16", sql="FROM input")

    assert done.rows == [{"a": "é", "b": 2}]


class TestLongLines:
    @pytest.mark.parametrize("operation", ["query", "validate"])
    @pytest.mark.parametrize(
        ("data", "place"),
        [
            ("x" * 3 * MIB, "line"),
            ('"' + "x" * 3 * MIB + '"\n1\n', "line"),
            ("a,b\n1,2\n3," + "x" * 3 * MIB + "\n", "line"),
            ('{"a": "' + "x" * 17 * MIB + '"}\n{"a": "y"}\n', ""),
        ],
        ids=["one", "quoted", "third", "ndjson"],
    )
    def test_a_line_that_is_too_long_is_named(self, operation: str, data: str, place: str) -> None:
        done = run(operation, data, **ANY[operation])

        assert done.code == "bad_source", done.error
        assert place in str(done.error)

    def test_a_line_of_many_cells_is_read(self) -> None:
        line = ",".join(["x" * 3_000] * 500)

        done = run("convert", f"{line}\n{line}\n", header=False, output_format="parquet")

        assert [len(row) for row in table(done.first, "parquet")] == [500, 500]


class TestBroken:
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("broken", ['3,"4', '3,"4"z'])
    @pytest.mark.parametrize("first", ["\n", "\r\n"])
    def test_a_broken_quote_is_named(self, first: str, end: str, broken: str) -> None:
        data = f'a,b{first}1,"x"{first}{broken}{end}5,6{end}'

        done = run("convert", data, output_format="csv")

        assert done.code == "bad_source", done.artifacts
        assert str(done.error).startswith("line 3: ")

    @pytest.mark.parametrize("rows", [1, 8])
    def test_rows_before_a_longer_one_are_no_title(self, rows: int) -> None:
        data = "a,b\n" + "1,2\n" * rows + "3,4\n4,5,6\n"

        done = run("convert", data, output_format="csv")

        assert done.code == "bad_source"
        assert str(done.error).startswith(f"line {rows + 3}: 3 cells, 2 ")

    def test_a_title_is_passed_over(self) -> None:
        done = run("query", "Sales of May\n\na,b,c\n1,2,3\n4,5,6\n", sql="FROM input")

        assert done.rows == [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}]

    @pytest.mark.parametrize("around", ["{}", "[{}]"])
    def test_json_that_is_too_deep_is_named(self, around: str) -> None:
        data = around.replace("{}", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}")

        asked = run("query", data, sql="FROM input")
        held = run("validate", data, schema={})

        assert asked.code == "bad_source"
        assert held.error is None
        assert held.result["invalid"] == 1


class TestWhatIsNoObject:
    @pytest.mark.parametrize("value", ["5", '"x"', "[1]", "true"])
    @pytest.mark.parametrize("place", [2, 3])
    def test_a_line_of_ndjson_is_named(self, value: str, place: int) -> None:
        lines = ['{"a": 1}'] * 4
        lines[place - 1] = value

        done = run("query", "\n".join(lines), filename="a.ndjson", sql="FROM input")

        assert done.code == "bad_source"
        assert f"line {place}: it is no object" in str(done.error)

    def test_a_line_far_behind_is_named(self) -> None:
        done = run("query", '{"a": 1}\n' * 30_000 + "5\n", sql="SELECT sum(a) AS n FROM input")

        assert done.code == "bad_source"
        assert "line 30001: it is no object" in str(done.error)

    def test_a_row_of_an_array_is_named(self) -> None:
        done = run("query", '[{"a": 1}, {"a": 2}, 5]', sql="FROM input")

        assert done.code == "bad_source"
        assert "row 3: it is no object" in str(done.error)

    @pytest.mark.parametrize("data", ['{"a": 1}\n5\nnull\n', '[{"a": 1}, 5, null]'])
    def test_it_fits_no_schema(self, data: str) -> None:
        done = run("validate", data, schema={})

        assert (done.result["valid"], done.result["invalid"]) == (1, 2)
        assert [(each["line"], each["message"]) for each in done.result["errors"]] == [
            (2, "it is no object"), (3, "it is no object"),
        ]  # fmt: skip


class TestTold:
    DATA = "zip,day,amount\n00501,03/04/2025,1\n10115,05/06/2025,2\n"

    def test_types_and_days_are_as_told(self) -> None:
        done = run(
            "convert", self.DATA, output_format="ndjson",
            types={"ZIP": "text", "amount": "number"}, date_format="%d/%m/%Y",
        )  # fmt: skip

        assert [json.loads(line) for line in done.first.splitlines()] == [
            {"zip": "00501", "day": "2025-04-03", "amount": 1.0},
            {"zip": "10115", "day": "2025-06-05", "amount": 2.0},
        ]

    def test_days_the_other_way_round(self) -> None:
        done = run("query", self.DATA, date_format="%m/%d/%Y", sql="SELECT day FROM input")

        assert done.rows == [{"day": "2025-03-04"}, {"day": "2025-05-06"}]

    def test_a_cell_that_is_not_what_was_told_is_named(self) -> None:
        done = run("query", "a,b\n1,2\n1,x\n", types={"b": "integer"}, sql="FROM input")

        assert done.code == "bad_source"
        assert str(done.error).startswith("line 3, column b: ")

    def test_a_column_that_is_not_there(self) -> None:
        done = run("query", self.DATA, types={"nobody": "text"}, sql="FROM input")

        assert done.code == "unknown_column"
        assert "nobody" in str(done.error)

    def test_days_that_cannot_be_so(self) -> None:
        done = run("query", self.DATA, date_format="%d/%q", sql="FROM input")

        assert done.code == "bad_source"
        assert "%q" in str(done.error)


class TestResults:
    def test_what_has_no_room_is_told(self) -> None:
        rows = [{"a": "x" * 300_000}] * 9

        done = run("query", rows=rows, sql="FROM input")
        small = run("query", rows=rows, sql="SELECT length(a) AS n FROM input")

        assert done.result["truncated"] == ["rows"]
        assert len(done.rows) == 2
        assert "truncated" not in small.result

    def test_columns_come_before_rows(self) -> None:
        rows = [{f"{number:04}{'x' * 800}": 1 for number in range(900)}]

        done = run("query", rows=rows, sql="FROM input")

        assert done.result["truncated"] == ["columns", "rows"]
        assert 600 < len(done.result["columns"]) < 900
        assert done.rows == []

    def test_a_profile_of_many_columns(self) -> None:
        rows = [
            {f"c{number}{'x' * 150}": "ä" * 200 + str(n) for number in range(250)}
            for n in range(10)
        ]

        done = run("profile", rows=rows)

        assert done.result["truncated"] == ["columns"]
        assert 20 < len(done.result["columns"]) < 250


class TestValidate:
    def test_it_has_its_time(self) -> None:
        done = run("validate", "price\n1\n", schema=PRICED, timeout_seconds=0.001)

        assert done.code == "timeout"

    def test_its_progress_is_told_in_rows(self) -> None:
        done = run("validate", "price\n" + "1\n" * 12_000, schema=PRICED)

        told = [(5_000, None, "rows"), (10_000, None, "rows"), (12_000, 12_000, "rows")]
        assert done.progress == told

    def test_decimal_commas_are_found_out(self) -> None:
        data = "what;price\na;1.234,50\nb;0,5\nc;\n"

        done = run("validate", data, schema=PRICED)

        assert [each["line"] for each in done.result["errors"]] == [4]

    def test_lines_can_be_padded(self) -> None:
        data = "price,b\n" + "1,2\n" * 8 + "3\n4,5,6\n"

        padded = run("validate", data, schema=PRICED, ragged="pad")
        strict = run("validate", data, schema=PRICED)

        assert padded.result["valid"] == 10
        assert [each["line"] for each in strict.result["errors"]] == [10, 11]

    def test_it_sees_the_rows_that_a_query_sees(self) -> None:
        data = "# made by hand\nprice,b\n1,2\n# a note\n3,4\n"

        done = run("validate", data, schema=PRICED)
        asked = run("query", data, sql="SELECT count(*) AS n FROM input")

        assert done.result["row_count"] == asked.rows[0]["n"] == 2


@pytest.mark.parametrize(
    ("operation", "params"),
    [("convert", {"output_format": "csv"}), ("validate", {"schema": {"required": ["z"]}})],
)
def test_a_disk_that_is_full_is_worth_another_attempt(
    operation: str, params: dict[str, Any]
) -> None:
    data = packed(ROWS, "gz")
    with files_end_at(3 * MIB // 2):
        done = run(operation, data, **params)

    assert isinstance(done.error, RetryLater)
    assert done.code == "temp_disk"


def test_a_text_that_speaks_of_files_is_no_fault_of_the_file() -> None:
    done = run("query", rows=[{"a": "parquet"}], sql="SELECT a::INTEGER FROM input")

    assert done.code == "sql_error"
