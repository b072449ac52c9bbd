"""`data.convert`: the same rows in another format, streamed through."""

from __future__ import annotations

from typing import Any

from jobs.context import JobContext
from jobs.data import reading, sql, wide, writing
from jobs.data.engine import Engine, with_input
from jobs.data.params import ConvertParams


def run(params: ConvertParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.convert`."""
    target = writing.new_artifact(context, "converted", params.output_format)

    def convert(engine: Engine) -> int:
        columns = reading.columns_of(engine.connection, f"FROM {engine.input}")

        def select(some: writing.Columns) -> str:
            return f"SELECT {sql.names(some)} FROM {engine.input}"

        return wide.write(engine, select, columns, target, params.output_format)

    row_count = with_input(params, context, convert, target, streams=True)
    return {"row_count": row_count}
