"""Long JSON arrays are made lines, value by value."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import arrays
from jobs.data.deadline import Deadline
from jobs.data.source import Source
from jobs.errors import PermanentError
from tests.data_scene import run

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
LONG = b"[" + b" " * arrays.LONG_BYTES


def lines_of(folder: Path, data: bytes, piece_bytes: int = 7) -> list[bytes]:
    """What a file with these contents becomes when it is read in so small pieces."""
    path = folder / "file.json"
    path.write_bytes(data)
    found = Source(path, "json", "none", "utf-8", data[:100])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PIECE_BYTES", piece_bytes)
        made = arrays.as_lines(found, folder / "lines", Deadline(time.monotonic() + 60, 60))
    return made.path.read_bytes().splitlines()


@given(
    values=st.lists(VALUES, min_size=1, max_size=6), piece_bytes=st.integers(1, 200),
    indent=st.sampled_from([None, 0, 3, "\t"]), ascii_only=st.booleans(),
)  # fmt: skip
def test_each_value_is_a_line_and_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[object], piece_bytes: int, indent: int | str | None, ascii_only: bool,
) -> None:  # fmt: skip
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")

    found = lines_of(tmp_path_factory.mktemp("array"), b" \r\n" + data + b"\n", piece_bytes)

    assert [json.loads(line) for line in found] == json.loads(data)


def test_deep_values_too(tmp_path: Path) -> None:
    deep = b'{"a":' * 30 + b'["x,]"]' + b"}" * 30

    assert lines_of(tmp_path, b"[" + deep + b",\n" + deep + b"]") == [deep, deep]


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b'[{"a":1},{"a":2}', 2), (b'[{"a":1},', 2), (b'[{"a":1},]', 2), (b'[{"a":1}{"a":2}]', 1),
        (b'[{"a":1},,{"a":2}]', 2), (b'[{"a":"x}]', 1), (b'[{"a":"\n"}]', 1), (b"[", 1),
        (b'[{"a":"' + b"x" * 34_000_000 + b'"}]', 1),
    ],
)  # fmt: skip
def test_broken_ones_name_the_row(tmp_path: Path, data: bytes, row: int) -> None:
    with pytest.raises(PermanentError, match=f"^row {row}: ") as broken:
        lines_of(tmp_path, data, 1 << 20)

    assert broken.value.code == "bad_source"


@pytest.mark.parametrize("after", [b"]", b'{"a":2}', b"x" + b" " * 100])
def test_nothing_follows_the_end(tmp_path: Path, after: bytes) -> None:
    with pytest.raises(PermanentError, match="row 1: something follows"):
        lines_of(tmp_path, b'[{"a":1}] \n' + after)


@pytest.mark.parametrize("packed", [False, True])
def test_a_long_one_is_read(packed: bool) -> None:
    data = LONG + b'{"a":"\xc3\xa9","n":[1,\n2]},\n{"a":null,"n":null}\n]\n'

    done = run("query", gzip.compress(data) if packed else data, filename="a.json",
               sql="FROM input")  # fmt: skip

    assert done.rows == [{"a": "é", "n": [1, 2]}, {"a": None, "n": None}]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (b'{"a":1}, 2]', "row 2: it is no object"),
        (b'{"a":1},\n{"a":]', "row 2: the JSON is broken"),
    ],
)
def test_what_is_wrong_in_a_long_one_is_named(rest: bytes, message: str) -> None:
    done = run("profile", LONG + rest, filename="a.json")

    assert done.code == "bad_source"
    assert str(done.error).startswith(message)
