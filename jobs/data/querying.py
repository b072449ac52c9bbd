"""`data.query`: one SELECT over the table `input`, answered in one pass over the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb

from jobs.context import JobContext
from jobs.data import faults, guard, reading, sql, values, wide, writing
from jobs.data.engine import Engine, with_input
from jobs.data.params import QueryParams
from jobs.errors import PermanentError

SHOWN_ROWS = 100
MAX_COLUMNS = 10_000
_LINE = re.compile(r"\bLINE (\d+):")
# A file of text gives these back as they were.
_PLAIN = re.compile(
    r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|BOOLEAN|DATE|TIMESTAMP|VARCHAR"
)


def run(params: QueryParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.query`."""
    target = writing.new_artifact(context, "result", params.output_format)

    def answer(engine: Engine) -> dict[str, Any]:
        select = guard.check(engine.connection, params.sql)
        columns = _columns(engine.connection, select)
        # Through a subquery columns of the same name get different ones.
        select = f"SELECT * FROM (\n{select}\n)"

        def some(columns: writing.Columns) -> str:
            return f"SELECT {sql.names(columns)} FROM (\n{select}\n)"

        if len(columns) > wide.MOST_COLUMNS:
            row_count, rows = wide.write_parts(engine, some, columns, target, params.output_format)
        else:
            row_count = wide.write(engine, some, columns, target, params.output_format)
            rows = _shown(engine, select, columns, params.output_format, target)
        named = [{"name": name, "type": kind} for name, kind in columns]
        found = {"row_count": row_count, "columns": named, "rows": rows}
        return values.that_fit(found, "columns", "rows")

    return with_input(params, context, answer, target)


def _columns(connection: duckdb.DuckDBPyConnection, select: str) -> writing.Columns:
    """Of the answer. Raises PermanentError naming the place in the client's own SQL."""
    try:
        reading.columns_of(connection, f"\n{select}")
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        message = _LINE.sub(lambda found: f"LINE {int(found[1]) - 1}:", str(error))
        raise PermanentError(faults.tidy(message), code="sql_error") from None
    columns = reading.columns_of(connection, f"SELECT * FROM (\n{select}\n)")
    if len(columns) > MAX_COLUMNS:
        raise PermanentError(
            f"the answer has {len(columns)} columns; at most {MAX_COLUMNS}", code="result_too_large"
        )
    return columns


def _shown(
    engine: Engine, select: str, columns: writing.Columns, output_format: str, target: Path
) -> list[Any]:
    """The first rows, from what was written, so that the SQL runs once.

    Types that a text does not bring back are asked for again.
    """
    if output_format == "parquet":
        return _first(engine, sql.call("read_parquet", str(target), {}))
    if output_format != "csv" or not all(_PLAIN.fullmatch(kind) for _, kind in columns):
        return _first(engine, f"(\n{select}\n)")
    rows = _first(engine, sql.call("read_csv", str(target), _read_back(columns)))
    texts = [name for name, kind in columns if kind == "VARCHAR"]
    for row in rows:
        row |= {name: writing.plain_again(row[name]) for name in texts if row[name] is not None}
    return rows


def _first(engine: Engine, source: str) -> list[Any]:
    shown = f"(SELECT * FROM {source} LIMIT {SHOWN_ROWS}) shown"
    return [
        values.parse(row[0]) for row in engine.rows(f"SELECT to_json(shown)::VARCHAR FROM {shown}")
    ]


def _read_back(columns: writing.Columns) -> dict[str, Any]:
    return {
        "auto_detect": False,
        "header": True,
        "delim": ",",
        "quote": '"',
        "escape": '"',
        "allow_quoted_nulls": False,
        "columns": dict(columns),
    }
