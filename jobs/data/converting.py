"""`data.convert`: the same rows in another format, streamed through."""

from __future__ import annotations

from typing import Any

from jobs.context import JobContext
from jobs.data import reading, writing
from jobs.data.engine import Engine, with_input
from jobs.data.params import ConvertParams

_ALL = "SELECT * FROM input"


def run(params: ConvertParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.convert`."""
    target = writing.new_artifact(context, "converted", params.output_format)

    def convert(engine: Engine) -> int:
        columns = reading.columns_of(engine.connection, _ALL)
        select = writing.safe(_ALL, columns, params.output_format)
        return engine.write(select, target, writing.options(params.output_format, len(columns)))

    return {"row_count": with_input(params, context, convert, target)}
