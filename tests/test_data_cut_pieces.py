"""CSV that DuckDB reads in pieces, by several threads: what a piece may be cut in, and lose."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import zstandard

from tests.data_scene import run

_TEXT = "the order was late, and nobody answered; please call back about invoice 12, thanks"
_WORDS = _TEXT.split(" ")


def _tickets(seed: int, *, have_rows: bool) -> tuple[str, int, int]:
    """45 MB of rows whose texts have several lines, some just like rows; how many rows, and
    characters of text, they are."""
    dice = random.Random(seed)
    rows, size, characters = ["id,name,body,day"], 0, 0
    while size < 45_000_000:
        lines = [
            " ".join(dice.choice(_WORDS) for _ in range(dice.randrange(14)))
            for _ in range(dice.randrange(1, 30))
        ]
        if have_rows:
            lines = ["On day 5, Ann wrote:", "> 1,a,b,c", *lines, "2,x,y,2024-01-01", ""]
        text = "\n".join(lines)
        rows.append(f'{len(rows) - 1},Ann,"{text}",2024-01-02')
        size += len(rows[-1]) + 1
        characters += len(text)
    return "\n".join(rows) + "\n", len(rows) - 1, characters


@pytest.mark.parametrize(("seed", "have_rows"), [(1, False), (2, True)])
def test_cells_of_several_lines_are_read_wherever_pieces_end(seed: int, have_rows: bool) -> None:
    data, rows, characters = _tickets(seed, have_rows=have_rows)

    asked = run("query", data, sql="SELECT count(*) AS rows, sum(length(body)) AS size FROM input")
    made = run("convert", data, output_format="parquet")

    assert (asked.error, made.error) == (None, None)
    assert asked.rows == [{"rows": rows, "size": characters}]
    assert made.result["row_count"] == rows


@pytest.mark.parametrize("rows_behind", [0, 30_000])
@pytest.mark.parametrize("size_bytes", [2_000_100, 13_000_000])
@pytest.mark.parametrize(
    ("operation", "params"),
    [("convert", {"output_format": "parquet"}), ("query", {"sql": "SELECT count(*) FROM input"})],
    ids=["convert", "query"],
)
def test_rows_behind_a_line_that_is_too_long_are_not_lost(
    operation: str, params: dict[str, Any], size_bytes: int, rows_behind: int
) -> None:
    before = 1_000_000
    data = "a,b\n" + "12345,x\n" * before + "1," + "y" * size_bytes + "\n"

    done = run(operation, data + "12345,x\n" * rows_behind, **params)

    assert done.code == "bad_source"
    assert str(done.error) == f"line {before + 2}: it has more than 2000000 bytes"


@pytest.mark.parametrize("size_bytes", [13_000_000, 33_000_000])
@pytest.mark.parametrize("pack", [partial(gzip.compress, compresslevel=1), zstandard.compress])
def test_nor_is_such_a_line_at_the_end_of_a_packed_file(
    pack: Callable[[bytes], bytes], size_bytes: int
) -> None:
    data = "a,b\n" + "12345,x\n" * 1_000 + "1," + "y" * size_bytes + "\n"

    done = run("query", pack(data.encode()), sql="SELECT count(*) FROM input")

    assert done.code == "bad_source"
    assert str(done.error) == "line 1002: it has more than 12582912 bytes"


@pytest.mark.parametrize("rows_behind", [10, 700_000])
def test_rows_behind_a_quote_that_is_not_closed_are_not_lost(rows_behind: int) -> None:
    data = "a,b\n" + "12345,x\n" * 1_000_000 + '1,"y\n' + "12345,x\n" * rows_behind

    done = run("convert", data, output_format="parquet")

    assert done.code == "bad_source"
    assert "a quote is not closed" in str(done.error)
