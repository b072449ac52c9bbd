"""`log.write`: one line in the structured log. Small, and good for a first try."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from jobs.catalog import job
from jobs.context import JobContext


class LogWriteParams(BaseModel):
    """The line: what to say, how loudly, and with which fields."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[str, Field(min_length=1, max_length=10_000)]
    level: Literal["debug", "info", "warning", "error"] = "info"
    fields: Annotated[dict[str, JsonValue], Field(max_length=50)] = {}


@job("log.write")
def write(params: LogWriteParams, context: JobContext) -> dict[str, Any]:
    """Write one line to the worker's log and return it."""
    if not context.dry_run:
        level = logging.getLevelNamesMapping()[params.level.upper()]
        context.log.log(
            level, params.message, extra={"fields": {**params.fields, "job_id": context.job_id}}
        )
    return params.model_dump() | {"dry_run": context.dry_run}
