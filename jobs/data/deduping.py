"""`data.dedupe`: one row of those with the same keys, the first or the last in the source."""

from __future__ import annotations

from functools import partial
from typing import Any

from jobs.context import JobContext
from jobs.data import reading, sql, wide, writing
from jobs.data.engine import Engine, with_input
from jobs.data.params import DedupeParams
from jobs.errors import PermanentError

# A column that the source has not, for the order of its rows.
_PLACE = "recado place"
# What DuckDB makes bits of (2.0): 125 MB of them.
MOST_ROWS = 1_000_000_000


def run(params: DedupeParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.dedupe`."""
    target = writing.new_artifact(context, "deduplicated", params.output_format)

    def dedupe(engine: Engine) -> dict[str, Any]:
        columns = reading.columns_of(engine.connection, f"FROM {engine.input}")
        names = [name for name, _ in columns]
        keys = ", ".join(sql.name(reading.known_column(key, names)) for key in params.keys)
        engine.rows(f"CREATE TEMP TABLE kept AS {_places(engine.input, keys, params.keep)}")
        row_count, kept = engine.rows("SELECT coalesce(sum(alike), 0)::BIGINT, count(*) FROM kept")[
            0
        ]
        if row_count > MOST_ROWS:
            raise PermanentError(f"{row_count} rows need more memory than a job has", code="memory")
        bits = f"bitstring_agg(place, 1, {max(row_count, 1)})"
        engine.rows(f"SET VARIABLE kept = (SELECT {bits} FROM kept)")
        engine.rows("DROP TABLE kept")
        kept_rows = partial(_kept, engine.input)
        wide.write(engine, kept_rows, columns, target, params.output_format)
        return {"row_count": row_count, "kept": kept, "removed": row_count - kept}

    return with_input(params, context, dedupe, target)


def _numbered(source: str, names: str) -> str:
    return f"SELECT {names}, row_number() OVER () AS {sql.name(_PLACE)} FROM {source}"


def _places(source: str, keys: str, keep: str) -> str:
    """Where the rows stand that stay: the keys and a number a row are all that this holds."""
    chosen = "min" if keep == "first" else "max"
    place = sql.name(_PLACE)
    return (
        f"SELECT {chosen}({place}) AS place, count(*) AS alike FROM ({_numbered(source, keys)})"
        f" GROUP BY {keys}"
    )


def _kept(source: str, columns: writing.Columns) -> str:
    """A bit a row says whether it stays: neither a join nor a sort, so that all rows pass through
    in their order and none is held."""
    names = sql.names(columns)
    place = sql.name(_PLACE)
    is_kept = f"get_bit(getvariable('kept'), ({place} - 1)::INT) = 1"
    return f"SELECT {names} FROM ({_numbered(source, names)}) WHERE {is_kept}"
