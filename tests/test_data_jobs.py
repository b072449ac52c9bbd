"""Data jobs: files of every kind go in, and what a client asked for comes out."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import zstandard

from tests.data_scene import run, table

PEOPLE = "name,age,born\nAnn,41,1984-05-01\nBob,7,2018-12-31\n"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "price": {"$ref": "#/$defs/price"},
        "ok": {"type": "boolean"},
        "tags": {"type": "array"},
    },
    "required": ["id"],
    "$defs": {"price": {"type": ["number", "null"]}},
}
OBJECTS = [{"name": "Ann", "age": 41}, {"name": "Bob", "age": 7}]


class TestSources:
    @pytest.mark.parametrize(
        ("data", "filename"),
        [
            (PEOPLE, "people.csv"),
            (PEOPLE, None),
            (PEOPLE.replace(",", ";"), "people.csv"),
            (PEOPLE.replace(",", "|"), "people.txt"),
            (PEOPLE.replace(",", "\t"), "people.tsv"),
            (PEOPLE.replace(",", "\t"), None),
            (PEOPLE.replace("\n", "\r\n"), None),
            (json.dumps(OBJECTS), "people.json"),
            (json.dumps(OBJECTS, indent=2), None),
            ("".join(json.dumps(each) + "\n" for each in OBJECTS), "people.ndjson"),
            ("".join(json.dumps(each) + "\n" for each in OBJECTS), None),
            ("".join(json.dumps(each, indent=1) for each in OBJECTS), "people.json"),
        ],
        ids=["csv", "csv-guessed", "semicolons", "bars", "tsv", "tabs", "crlf", "json",
             "json-guessed", "ndjson", "ndjson-guessed", "objects"],
    )  # fmt: skip
    def test_formats_are_told_by_name_and_content(self, data: str, filename: str | None) -> None:
        done = run("query", data, filename=filename, sql="SELECT name, age FROM input ORDER BY age")

        assert done.rows == [{"name": "Bob", "age": 7}, {"name": "Ann", "age": 41}]

    @pytest.mark.parametrize("source", ["csv", "json", "ndjson", "parquet"])
    @pytest.mark.parametrize("compression", ["gz", "zst"])
    def test_compressed_files(self, source: str, compression: str) -> None:
        plain = run("convert", PEOPLE, output_format=source).first
        packed = (
            gzip.compress(plain)
            if compression == "gz"
            else zstandard.ZstdCompressor().compress(plain)
        )

        told = run("convert", packed, format=f"{source}.{compression}", output_format="csv")
        named = run("convert", packed, filename=f"x.{source}.{compression}", output_format="csv")

        assert told.first.decode() == named.first.decode() == PEOPLE

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le"])
    def test_encodings_are_found_out(self, encoding: str) -> None:
        text = "name;preço\nJosé;1\n"

        done = run("query", text.encode(encoding), sql="FROM input")

        assert done.rows == [{"name": "José", "preço": 1}]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
    def test_encodings_of_json(self, encoding: str) -> None:
        done = run("query", '[{"preço": "é"}]'.encode(encoding), sql="FROM input")

        assert done.rows == [{"preço": "é"}]

    def test_what_is_told_counts(self) -> None:
        data = "1!'a!b'!2,50\n".encode("utf-16-le")

        done = run(
            "query", data, sql="FROM input",
            delimiter="!", quote="'", decimal=",", header=False, encoding="utf-16", format="csv",
        )  # fmt: skip

        assert done.rows == [{"column0": 1, "column1": "a!b", "column2": 2.5}]

    def test_lines_that_end_in_two_ways(self) -> None:
        done = run("query", "a,b\r\n1,2\n3,4\r\n", sql="FROM input")

        assert done.rows == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]

    def test_days_in_two_forms_stay_text(self) -> None:
        done = run("query", "d,n\n2025-12-31,1\n31/12/2025,2\n", sql="FROM input")

        assert done.rows == [{"d": "2025-12-31", "n": 1}, {"d": "31/12/2025", "n": 2}]

    def test_objects_of_hundreds_of_fields_have_a_column_for_each(self) -> None:
        fields = {f"f{number}": number for number in range(300)}

        done = run("query", json.dumps([fields]), sql="FROM input")

        assert done.rows == [fields]

    def test_json_that_is_called_csv(self) -> None:
        done = run("query", '[{"a": 1}]', filename="a.csv", content_type="text/csv",
                   sql="FROM input")  # fmt: skip

        assert done.rows == [{"a": 1}]

    def test_a_field_that_stands_twice_in_an_object(self) -> None:
        done = run("query", '[{"a": 1, "a": 2}]', sql="FROM input")

        assert done.code == "bad_source"
        assert "duplicate key" in str(done.error)

    @pytest.mark.parametrize("broken", [1, 2, 4])
    def test_a_line_that_is_no_json_is_named(self, broken: int) -> None:
        lines = ['{"a": 1}'] * 5
        lines[broken - 1] = '{"a": oh}'

        done = run("query", "\n".join(lines), filename="a.ndjson", sql="FROM input")

        assert done.code == "bad_source"
        assert f" in line {broken}:" in str(done.error)

    def test_a_stray_zero_byte_makes_no_utf_16(self) -> None:
        done = run("query", b"a,b\n1,x\0y\n", sql="SELECT a FROM input")

        assert done.rows == [{"a": 1}]

    def test_bytes_of_another_encoding_far_behind(self) -> None:
        data = ("a,b\n" + "1,e\n" * 300_000 + "1,é\n").encode("latin-1")

        done = run("query", data, sql="SELECT count(*) AS n FROM input WHERE b = 'é'")

        assert done.rows == [{"n": 1}]

    def test_another_type_far_behind(self) -> None:
        done = run("query", "a\n" + "1\n" * 30_000 + "x\n", sql="SELECT max(a) AS a FROM input")

        assert done.rows == [{"a": "x"}]

    def test_quotes_far_behind(self) -> None:
        data = "a,b\n" + "1,2\n" * 300_000 + '1,"x\n""y"\n'

        done = run("query", data, sql="SELECT max(b) AS b FROM input")

        assert done.rows == [{"b": 'x\n"y'}]

    def test_decimal_commas_are_found_out(self) -> None:
        data = "what;price\na;1.234,50\nb;0,5\n"

        done = run("query", data, sql="SELECT sum(price) AS price FROM input")

        assert done.rows == [{"price": 1235.0}]

    def test_names_that_repeat_or_are_empty(self) -> None:
        done = run("query", "a,a,A,\n1,2,3,4\n", sql="FROM input")

        assert done.rows == [{"a": 1, "a_1": 2, "A_2": 3, "column3": 4}]

    def test_ragged_rows_can_be_padded(self) -> None:
        done = run("query", "a,b\n1,2\n3\n", sql="FROM input", ragged="pad")

        assert done.rows == [{"a": 1, "b": 2}, {"a": 3, "b": None}]

    @pytest.mark.parametrize(
        ("data", "params", "code", "word"),
        [
            ("", {}, "empty_source", "nothing"),
            (" \n\n", {}, "empty_source", "nothing"),
            ("[]", {}, "empty_source", "array"),
            ("[1]", {}, "bad_source", "line 1"),
            ("a,b,c\n1,2,3\n4,5\n1,2,3\n", {}, "bad_source", "line 3: 2 cells, 3"),
            ('{"a":1}\n{"a":\n{"a":3}\n', {}, "bad_source", "in line "),
            ('[{"a":1},{"a":]', {}, "bad_source", "Malformed"),
            ("PAR1 and no more", {}, "bad_source", "arquet"),
            (gzip.compress(PEOPLE.encode())[:-9], {}, "bad_source", "gzip"),
            ("é".encode("latin-1"), {"encoding": "utf-8"}, "bad_source", "UTF-8"),
            ("a,b\n1,2\n", {"format": "parquet"}, "bad_source", "arquet"),
        ],
        ids=["empty", "blank", "array", "no-objects", "ragged", "ndjson", "json", "parquet", "gzip",
             "encoding", "format"],
    )  # fmt: skip
    def test_broken_files_are_named(
        self, data: str | bytes, params: dict[str, Any], code: str, word: str
    ) -> None:
        done = run("query", data, sql="SELECT count(*) FROM (FROM input)", **params)
        converted = run("convert", data, output_format="csv", **params)

        assert converted.code == code
        assert word in str(converted.error)
        assert done.code in {code, None}
        assert not done.left + converted.left

    def test_a_header_alone_is_a_table_without_rows(self) -> None:
        done = run("query", "a,b\n", sql="FROM input")

        assert done.result["row_count"] == 0
        assert [each["name"] for each in done.result["columns"]] == ["a", "b"]


class TestQuery:
    def test_all_rows_are_in_the_artifact_and_the_first_hundred_in_the_result(self) -> None:
        data = "n\n" + "".join(f"{n}\n" for n in range(1000))

        done = run("query", data, sql="SELECT n * 2 AS m FROM input ORDER BY n DESC;")

        assert done.result["row_count"] == 1000
        assert done.result["columns"] == [{"name": "m", "type": "BIGINT"}]
        assert done.rows == [{"m": 2 * n} for n in range(999, 899, -1)]
        assert done.cells == [["m"], *([str(2 * n)] for n in range(999, -1, -1))]
        assert done.content_types == {"result.csv": "text/csv; charset=utf-8"}

    @pytest.mark.parametrize(
        "end", [";", "; -- é;", ";; /* ; */ -- ;\n;", " -- ;", "/* a /* nested; */ one */;\n"]
    )
    def test_what_follows_the_statement_is_left_out(self, end: str) -> None:
        done = run(
            "query", PEOPLE, sql=f"-- é\nSELECT 'é; --' AS text, $$;/*$$ AS other FROM input{end}"
        )

        assert done.rows == [{"text": "é; --", "other": ";/*"}] * 2

    @pytest.mark.parametrize("output_format", ["csv", "json", "ndjson", "parquet"])
    def test_values_that_json_has_not(self, output_format: str) -> None:
        sql = """SELECT 'nan'::DOUBLE AS nan, [1.5, 'inf'::DOUBLE] AS list, 9007199254740993 AS big,
            1.50::DECIMAL(9,2) AS price, DATE '2024-02-29' AS day, '\\xFF'::BLOB AS blob,
            TIMESTAMPTZ '2024-01-01 12:00:00+02' AS at, {'a': NULL, 'b': 'é'} AS nested,
            123456789012345678901234567890.12::DECIMAL(38,2) AS long, NULL AS nothing"""

        done = run("query", rows=[{"a": 1}], sql=sql, output_format=output_format)

        assert done.rows == [
            {
                "nan": None, "list": [1.5, None], "big": "9007199254740993", "price": 1.5,
                "day": "2024-02-29", "blob": "\\xFF", "at": "2024-01-01 10:00:00+00",
                "nested": {"a": None, "b": "é"}, "long": "123456789012345678901234567890.12",
                "nothing": None,
            }
        ]  # fmt: skip
        if output_format == "json":
            assert json.loads(done.first, parse_constant=pytest.fail)[0]["list"] == [1.5, None]

    def test_columns_of_the_same_name(self) -> None:
        done = run("query", rows=[{"a": 1}], sql="SELECT 1 AS x, 2 AS x", output_format="json")

        assert [list(row.values()) for row in done.rows] == [[1, 2]]
        assert json.loads(done.first) == done.rows

    @pytest.mark.parametrize(
        ("sql", "word"),
        [
            ("SELEC 1", "SELEC"),
            ("SELECT nobody\nFROM input", "nobody"),
            ("SELECT name::INT FROM input", "Ann"),
            ("SELECT 1 WHERE error('so it is')", "so it is"),
            ("SELECT ?", "parameters"),
        ],
    )
    def test_faults_of_the_sql_are_told(self, sql: str, word: str) -> None:
        done = run("query", PEOPLE, sql=sql)

        assert done.code == "sql_error"
        assert word in str(done.error)
        assert "/tmp" not in str(done.error)

    def test_the_line_of_a_fault_is_the_clients(self) -> None:
        done = run("query", PEOPLE, sql="SELECT name\nFROM input\nWHERE nobody")

        assert "LINE 3: WHERE nobody" in str(done.error)

    def test_an_answer_larger_than_an_artifact_may_be(self) -> None:
        done = run(
            "query", rows=[{"a": 1}], sql="SELECT range AS n FROM range(1000000)",
            max_artifact_bytes=100_000,
        )  # fmt: skip

        assert done.code == "result_too_large"

    def test_long_cells_do_not_fill_the_result(self) -> None:
        done = run("query", rows=[{"a": "x" * 300_000}] * 9, sql="FROM input")

        assert done.result["row_count"] == 9
        assert 1 <= len(done.rows) < 9

    def test_a_query_without_end_ends(self) -> None:
        sql = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) SELECT count(*) FROM t"

        done = run("query", rows=[{"a": 1}], sql=sql, timeout_seconds=1.0)

        assert done.code == "timeout"


class TestConvert:
    @pytest.mark.parametrize("output_format", ["csv", "json", "ndjson", "parquet"])
    def test_every_format_has_the_same_rows(self, output_format: str) -> None:
        done = run("convert", PEOPLE, output_format=output_format)

        assert done.result == {"row_count": 2}
        suffix = {"ndjson": "ndjson"}.get(output_format, output_format)
        assert list(done.artifacts) == [f"converted.{suffix}"]
        assert table(done.first, suffix) == table(PEOPLE.encode(), "csv")

    def test_formulas_are_made_text_and_numbers_stay(self) -> None:
        cells = [
            "=cmd()",
            "+cmd",
            "-x",
            "@x",
            "\tx",
            "\rx",
            "\nx",
            "\0x",
            "'=x",
            "-5",
            "+49 1",
            "plain",
            "",
        ]

        done = run("convert", rows=[{"=a": cell, "n": -1.5} for cell in cells], output_format="csv")

        assert done.cells[0] == ["'=a", "n"]
        assert [row[0] for row in done.cells[1:]] == [
            "'=cmd()", "'+cmd", "'-x", "'@x", "'\tx", "'\rx", "'\nx", "'\0x", "''=x", "-5",
            "'+49 1", "plain", "",
        ]  # fmt: skip
        assert {row[1] for row in done.cells[1:]} == {"-1.5"}

    def test_empty_text_and_null_stay_apart(self) -> None:
        done = run("convert", rows=[{"a": "", "b": 1}, {"a": None, "b": 2}], output_format="csv")

        assert done.first == b'a,b\n"",1\n,2\n'


class TestDedupe:
    DATA = "k,v\n1,a\n2,b\n1,c\n,d\n,e\n"

    @pytest.mark.parametrize(("keep", "kept"), [("first", "abd"), ("last", "bce")])
    def test_one_row_of_those_with_the_same_keys_stays(self, keep: str, kept: str) -> None:
        done = run("dedupe", self.DATA, keys=["k"], keep=keep)

        assert done.result == {"row_count": 5, "kept": 3, "removed": 2}
        assert [row[1] for row in done.cells[1:]] == list(kept)

    def test_the_order_of_a_long_source_is_kept(self) -> None:
        data = "n,k\n" + "".join(f"{n},{n % 70_000}\n" for n in range(200_000))

        done = run("dedupe", data, keys=["k"], keep="last", output_format="csv")

        assert [int(row[0]) for row in done.cells[1:]] == list(range(130_000, 200_000))

    def test_a_column_that_is_not_there(self) -> None:
        done = run("dedupe", self.DATA, keys=["nobody"])

        assert done.code == "unknown_column"
        assert "nobody" in str(done.error)


class TestValidate:
    def test_rows_that_do_not_fit_come_with_line_and_reason(self) -> None:
        data = (
            'id,price,ok,tags\n1,1.5,true,"[""a"",\n""b""]"\n0,x,no,\n,,,\n4\n\n5,,FALSE,[]\n'
            "'=1,,,\n"
        )

        done = run("validate", data, schema=SCHEMA)

        counts = {name: done.result[name] for name in ("row_count", "valid", "invalid")}
        assert counts == {"row_count": 6, "valid": 2, "invalid": 4}
        places = [(each["line"], each["pointer"]) for each in done.result["errors"]]
        assert places == [(4, "/id"), (4, "/price"), (4, "/ok"), (5, ""), (6, ""), (9, "/id")]
        assert done.cells[0] == ["line", "reason", "row"]
        assert [row[0] for row in done.cells[1:]] == ["4", "5", "6", "9"]
        assert json.loads(done.cells[1][2]) == {"id": "0", "price": "x", "ok": "no", "tags": ""}
        assert all(not row[1].startswith(("=", "-", "+", "@")) for row in done.cells)
        assert list(done.artifacts) == ["rejects.csv"]

    def test_objects_are_held_against_it_as_they_are(self) -> None:
        lines = '{"id":1}\n\n{"id":"1"}\n{"id":2,"price":null}\n{broken\n{"id":NaN}\n'

        done = run("validate", lines, schema=SCHEMA)
        inline = run("validate", rows=[{"id": 2.0}, {"id": 3, "ok": None}], schema=SCHEMA)

        assert [each["line"] for each in done.result["errors"]] == [3, 5, 6]
        assert [each["line"] for each in inline.result["errors"]] == [2]

    def test_parquet(self) -> None:
        parquet = run("convert", "id,price\n1,\n0,2\n", output_format="parquet").first

        done = run("validate", parquet, schema=SCHEMA)

        assert [each["pointer"] for each in done.result["errors"]] == ["/id"]

    @pytest.mark.parametrize(
        "schema",
        [{"type": "nope"}, {"$ref": "http://192.0.2.1/x"}, {"$ref": "file:///etc/passwd"},
         {"properties": {"a": {"pattern": "("}}}],
        ids=["type", "http", "file", "pattern"],
    )  # fmt: skip
    def test_schemas_that_cannot_be_used(self, schema: dict[str, Any]) -> None:
        done = run("validate", "a\n1\n", schema=schema)

        assert done.code == "bad_schema"

    def test_only_the_first_hundred_errors_are_in_the_result(self) -> None:
        done = run("validate", "id\n" + "0\n" * 250, schema=SCHEMA)

        assert len(done.result["errors"]) == 100
        assert len(done.cells) == 251
