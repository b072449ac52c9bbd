"""What stands above a table, and what its first rows are like: all jobs see the table below."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.data_scene import run

A_B = [["1", "2"], ["3", "4"]]
REPORT = "Vendas\n\nid;nome;total\n1;Ann;3\n2;Bob;4\nTotal;7\n"
DECIMALS = "valor;preco\n1,50;2,50\n3,25;4,75\n"


def validated(data: bytes, **params: Any) -> list[tuple[int, list[str]]]:
    """Each row with its line, as none fits this schema."""
    done = run("validate", data, schema={"not": {}}, **params)
    assert done.error is None
    rejects = csv.DictReader(io.StringIO(done.artifacts["rejects.csv"].decode(), newline=""))
    return [(int(each["line"]), list(json.loads(each["row"]).values())) for each in rejects]


def queried(data: bytes, **params: Any) -> tuple[list[str], list[list[Any]]]:
    done = run("query", data, sql="SELECT * FROM input", **params)
    assert done.error is None
    return [each["name"] for each in done.result["columns"]], [
        list(row.values()) for row in done.rows
    ]


def of_query(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(
    ("data", "names", "rows", "first_line", "params"),
    [
        # Lines above that end otherwise than those of the table.
        ("\na,b\r\n1,2\r\n3,4\r\n", "ab", A_B, 3, {}),
        ("\r\na,b\n1,2\n3,4\n", "ab", A_B, 3, {}),
        ("\na,b\r\n1,2\r\n3,4\r\n", "ab", A_B, 3, {"ragged": "pad"}),
        ("Report\n\r\na;b\n1;2\n3;4\n", "ab", A_B, 4, {"ragged": "pad"}),
        ("Report\n\na,b\r\n1,2\r\n3,4\r\n", "ab", A_B, 4, {}),
        ("# c\na;b\r\n1;2\r\n3;4\r\n", "ab", A_B, 3, {}),
        # Comments, and cells that begin like one.
        ('a,b\nC,1\n"# no",3\n# half\nE,2\n', "ab", [["C", "1"], ["# no", "3"], ["E", "2"]], 2, {}),
        (
            '# c\n# d\n"a","b"\n"C","1"\n"# no","3"\n# half\n"# no","2"\n',
            "ab", [["C", "1"], ["# no", "3"], ["# no", "2"]], 4, {"ragged": "pad"},
        ),
        ("# c\na,b\nC,1\n# half, or so\nE,2\nF,3\n", "ab",
         [["C", "1"], ["E", "2"], ["F", "3"]], 3, {}),
        # Names that the sniffer passes over.
        ("\n\na\n1\n2\n", "a", [["1"], ["2"]], 4, {"ragged": "pad"}),
        ("sep=;\r\na\r\nAnn\r\nBob\r\n", "a", [["Ann"], ["Bob"]], 3, {}),
        ("sep=;\ra\r-4\r", "a", [["-4"]], 3, {}),
        ("sep=;\n\na;b\nx;y\n", "ab", [["x", "y"]], 4, {}),
        ("a|b|\nx|y|\nu|v|\n", ["a", "b", "column2"], [["x", "y", ""], ["u", "v", ""]], 2, {}),
        ("\n\na\tb\n2023-12-31\tx\n\n2024-12-31\ty\n", "ab",
         [["2023-12-31", "x"], ["2024-12-31", "y"]], 4, {"ragged": "pad"}),
        # A title of several lines, of which one has a delimiter.
        ("Report A\nby me; in May\n\na;b;c\n1;2;3\n4;5;6\n", "abc",
         [["1", "2", "3"], ["4", "5", "6"]], 5, {"ragged": "pad"}),
        ("Report A\nby me; in May\n\na;b;c\n1;2;3\n4;5;6\n", "abc",
         [["1", "2", "3"], ["4", "5", "6"]], 5, {}),
        ("Report A\n\na|b|c\n1|x|u|\n2|y|v|\n", "abc",
         [["1", "x", "u"], ["2", "y", "v"]], 4, {"ragged": "pad"}),
        # Comments above and within, and delimiters in cells in quotes.
        ('# c\na,b\n1,"2,5"\n# within\n', "ab", [["1", "2,5"]], 3, {}),
        ('# one\n# two\na,b\n1,"9,9"\n# within\n', "ab", [["1", "9,9"]], 4, {"header": True}),
        ("# one\n# two\n1,x\n2,y\n", ["column0", "column1"], [["1", "x"], ["2", "y"]], 3, {}),
        ("\ufeff# one\n# two\na,b\n1,2\n3,4\n# within\n", "ab", A_B, 4, {}),
        # No names.
        ("a@x.com\tblue\t\nb@x.com\tred\t\n", ["column0", "column1", "column2"],
         [["a@x.com", "blue", ""], ["b@x.com", "red", ""]], 1, {}),
        # Quotes that are text, and that are not.
        ("a|b\nx|# no\ny|'q'\n", "ab", [["x", "# no"], ["y", "'q'"]], 2, {}),
        ("a|b\nx|'y|z'\nw|q\n", "ab", [["x", "y|z"], ["w", "q"]], 2, {}),
        ("a|b\n'x'|'y'\n'z'|'q'\n", "ab", [["x", "y"], ["z", "q"]], 2, {}),
    ],
)  # fmt: skip
def test_table_is_found(
    data: str,
    names: str | list[str],
    rows: list[list[str]],
    first_line: int,
    params: dict[str, Any],
) -> None:
    checked = validated(data.encode(), **params)
    found, values = queried(data.encode(), **params)

    assert [row for _, row in checked] == rows
    assert checked[0][0] == first_line
    assert found == list(names)
    assert [[of_query(value) for value in row] for row in values] == rows


@pytest.mark.parametrize(
    "params", [{}, {"header": True}, {"decimal": ","}, {"types": {"valor": "number"}}]
)
def test_decimal_commas_cut_no_row(params: dict[str, Any]) -> None:
    """The sniffer takes them for delimiters where each cell has one."""
    assert queried(DECIMALS.encode(), **params) == (["valor", "preco"], [[1.5, 2.5], [3.25, 4.75]])
    assert validated(DECIMALS.encode(), **params) == [(2, ["1,50", "2,50"]), (3, ["3,25", "4,75"])]


def test_types_are_found_below_comments() -> None:
    assert queried(b'# c\na,b\n1,"2,5"\n# within\n3,"4,5"\n')[1] == [[1, "2,5"], [3, "4,5"]]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ('a,b\nx,"1,5"\ny,"2,5"\n', [["x", 1.5], ["y", 2.5]]),
        ("a,b\nx,2\ny,3\n", [["x", 2], ["y", 3]]),
        ('"a","b"\n"1,5","2,5"\n', [[1.5, 2.5]]),
        ('a,b\n"Smith; John","1,5"\n"Doe; J","2,5"\n', [["Smith; John", 1.5], ["Doe; J", 2.5]]),
        ('Report; x\n\na,b\nx,"1,5"\ny,"2,5"\n', [["x", 1.5], ["y", 2.5]]),
    ],
)
def test_told_decimal_comma_may_stand_beside_commas(data: str, rows: list[list[Any]]) -> None:
    assert queried(data.encode(), decimal=",") == (["a", "b"], rows)


def test_told_decimal_comma_is_no_delimiter() -> None:
    assert queried(b"valor\n1,50\n3,25\n", decimal=",") == (["valor"], [[1.5], [3.25]])


@pytest.mark.parametrize(
    ("text", "row"),
    [
        (REPORT, 6),
        ("Vendas\n\na;b;c\n1,5;2,5;x\n1,0;2,0;y\n3,5;1,5\n4,5;1,5;z\n", 6),
        ('Report\na;b\n1;"x\ny"\n2;y;z\n3;w\n', 5),
        ("# c\na;b\n1;x\n2\n3;w\n", 4),
    ],
)
def test_row_of_another_length_below_a_title_is_named(text: str, row: int) -> None:
    """And makes no column of text of all."""
    done = run("query", text, sql="SELECT * FROM input")

    assert done.code == "bad_source"
    assert f"line {row}:" in str(done.error)
    checked = run("validate", text, schema={})
    assert checked.result["errors"][0]["line"] == row


@pytest.mark.parametrize(
    ("last", "value"), [("1.234,50", 1234.5), ("n/a", "n/a"), ("1.000.000", 1_000_000.0)]
)
def test_decimal_commas_behind_the_sample(last: str, value: Any) -> None:
    """The first amount with thousands, or of another kind, is no fault of the SQL."""
    text = "nome;valor\n" + "Ann;1,50\n" * 3000 + f"Bob;{last}\n"
    first = 1.5 if isinstance(value, float) else "1,50"
    sql = "SELECT valor FROM input WHERE nome = 'Bob' UNION ALL (SELECT valor FROM input LIMIT 1)"

    for done in (run("query", text, sql=sql), run("convert", text, output_format="parquet")):
        assert done.error is None
    assert [row["valor"] for row in run("query", text, sql=sql).rows] == [value, first]
    schema = {"properties": {"valor": {"type": "number"}}}
    assert run("validate", text, schema=schema).result["invalid"] == int(value == "n/a")


def test_thousands_beside_decimal_commas() -> None:
    found = queried(b"nome;v;w\nAnn;1,5;1.234\nBob;2,5;2.500\n")

    assert found == (["nome", "v", "w"], [["Ann", 1.5, 1234.0], ["Bob", 2.5, 2500.0]])
    # A point that is in front of decimals leaves all as it stands, wherever it comes.
    assert queried(b"a;b\n0.125;1,5\n0.375;2,5\n")[1] == [[0.125, "1,5"], [0.375, "2,5"]]
    late = b"a;b\n" + b"1.234;1,5\n" * 3000 + b"2.5;2,5\n"
    assert run("query", late, sql="SELECT max(a) AS a FROM input").rows == [{"a": 2.5}]
    assert queried(b"a;b\n1.500;1,5\n2.25;2,5\n")[1] == [[1.5, "1,5"], [2.25, "2,5"]]


@pytest.mark.parametrize("above", ["", "# c\n", "# c\n# d\n\n", "Report A\n\n", "\n\n", "sep=;\n"])
@pytest.mark.parametrize("rows", [3, 20_000])
def test_line_of_a_fault_below_cells_of_several_lines(above: str, rows: int) -> None:
    text = above + "a;b\n" + '1;"x\ny"\n' * rows
    line = text.count("\n") + 1

    done = run("query", text + 'zz;"u"\n', sql="SELECT sum(a) FROM input", types={"a": "integer"})

    assert str(done.error).startswith(f"line {line}, column a:")


def test_line_of_a_byte_of_another_encoding() -> None:
    data = b"# c\r\na,b\r\n1,x\r\n2,y\r\n3,\xff\r\n"

    done = run("query", data, sql="SELECT * FROM input", encoding="utf-8")

    assert str(done.error) == "line 5: the file is not UTF-8; tell its `encoding`"
