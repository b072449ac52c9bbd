"""`data.*`: a file goes in, and a profile, an answer or another file comes out.

What works on the data is imported when a job runs, or by the nursery of its worker: the web
process, which needs the params only, does without DuckDB.
"""

from __future__ import annotations

import errno
import importlib
import os
from typing import TYPE_CHECKING, Any

from jobs.catalog import job
from jobs.context import JobContext
from jobs.errors import RetryLater

if TYPE_CHECKING:
    from jobs.data.params import (
        ConvertParams,
        DedupeParams,
        ProfileParams,
        QueryParams,
        SourceParams,
        ValidateParams,
    )

# DuckDB's allocator keeps the addresses of what it has freed, and RLIMIT_AS counts them: a file
# of 1 GB met a limit of 512 MiB with 230 MiB in use (DuckDB 2.0, jemalloc 5). It looks here when
# the library is loaded, which no module of this package does before this line.
os.putenv("DUCKDB_JE_MALLOC_CONF", "retain:false")
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 600.0
# EFBIG: a limit on the size of files, set for the process or by the file system.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _module(name: str, params: str) -> dict[str, Any]:
    """How each of these types is declared."""
    return {
        "queue": "data",
        "max_attempts": _ATTEMPTS,
        "timeout": _TIMEOUT_SECONDS,
        "preload": (f"jobs.data.{name}",),
        "params": f"jobs.data.params:{params}",
        # Where memory is at its end DuckDB does not always get to say so.
        "crash_code": "memory",
    }


def _run(name: str, params: SourceParams, context: JobContext) -> dict[str, Any]:
    try:
        result: dict[str, Any] = importlib.import_module(f"jobs.data.{name}").run(params, context)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RetryLater("the disk of the worker is full", code="temp_disk") from None
    if name == "validating":
        context.progress(result["row_count"], result["row_count"], "rows")
    else:
        # DuckDB was last asked some time before its end.
        context.progress(100, 100, "percent")
    return result


@job("data.profile", **_module("profiling", "ProfileParams"))
def profile(params: ProfileParams, context: JobContext) -> dict[str, Any]:
    """What is in each column: type, nulls, distinct and extreme values, mean, quartiles, the
    most frequent. `estimated` names the figures that are no exact ones, `truncated` has `columns`
    where a result has no room for all. The artifact is a report with plots, a page of HTML."""
    return _run("profiling", params, context)


@job("data.query", **_module("querying", "QueryParams"))
def query(params: QueryParams, context: JobContext) -> dict[str, Any]:
    """Answer one SELECT over the table `input`. The result has the first 100 rows, the artifact
    all of them; `truncated` names `columns` and `rows` where a result has no room for these."""
    return _run("querying", params, context)


@job("data.convert", **_module("converting", "ConvertParams"))
def convert(params: ConvertParams, context: JobContext) -> dict[str, Any]:
    """Write the rows in another format, as the artifact."""
    return _run("converting", params, context)


@job("data.validate", **_module("validating", "ValidateParams"))
def validate(params: ValidateParams, context: JobContext) -> dict[str, Any]:
    """Hold each row against a JSON Schema. The result has the first 100 errors, or fewer where it
    has no room for them (`truncated`), the artifact all rows that do not fit, with line and
    reason."""
    return _run("validating", params, context)


@job("data.dedupe", **_module("deduping", "DedupeParams"))
def dedupe(params: DedupeParams, context: JobContext) -> dict[str, Any]:
    """Keep one row, the first or the last, of those with the same keys. The artifact has what is
    kept."""
    return _run("deduping", params, context)
