"""Cells that pass for a day in any form of days, and are read as another (DuckDB 2.0).

`infinity` and `epoch` become 1900-01-01 where the form of days is told, as it is to keep what
does not have it, a time behind the day above all, from being cut to a day.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import duckdb

from jobs.data import sql
from jobs.data.deadline import Deadline
from jobs.data.source import PIECE_BYTES, Source
from jobs.errors import PermanentError

_WORDS = (b"infinity", b"epoch")
_CELL = r"\s*-?(infinity|epoch)\s*"


def as_text(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    options: dict[str, Any],
    told: Collection[str],
    deadline: Deadline,
) -> dict[str, str]:
    """Columns of a CSV file that have such a cell, as text. `options` are those of `read_csv`;
    raises PermanentError for a column among the `told`, whose type is not ours to change."""
    days = [name for name, kind in options["columns"].items() if _has_form(kind, options)]
    if not days or not _may_have(source, deadline):
        return {}
    texts = dict.fromkeys(options["columns"], "VARCHAR")
    call = sql.call(
        "read_csv", str(source.path), options | {"columns": texts, "ignore_errors": True}
    )
    found = ", ".join(
        f"bool_or(regexp_full_match({sql.name(name)}, {sql.text(_CELL)}, 'i'))" for name in days
    )
    row = connection.execute(f"SELECT {found} FROM {call}").fetchone()
    assert row is not None
    undated = [name for name, has_one in zip(days, row, strict=True) if has_one]
    for name in undated:
        if name in told:
            raise PermanentError(
                f"column {name}: infinity or epoch is no day of the form that the others have",
                code="bad_source",
            )
    return dict.fromkeys(undated, "VARCHAR")


def _has_form(kind: str, options: dict[str, Any]) -> bool:
    form = {"DATE": "dateformat", "TIMESTAMP": "timestampformat"}.get(kind.partition(" ")[0])
    return form in options


def _may_have(source: Source, deadline: Deadline) -> bool:
    """Whether such a word stands anywhere: to look at the bytes is faster than to parse them."""
    overlap = max(map(len, _WORDS)) - 1
    held = b""
    with source.open() as file:
        while piece := file.read(PIECE_BYTES):
            deadline.keep()
            held += piece.lower()
            if any(word in held for word in _WORDS):
                return True
            held = held[-overlap:]
    return False
