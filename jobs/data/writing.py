"""Files that data jobs leave: how each format is written, and what is made safe in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jobs.context import JobContext
from jobs.data import sql
from jobs.data.params import OutputFormat

Columns = Sequence[tuple[str, str]]
# First characters that make a spreadsheet take a cell for a formula: + - = @, and what some pass
# over in front of one: zero, tab, LF, CR. All are below 65 (owasp.org: CSV injection; ASVS 5.0,
# 1.2.10).
_STARTS = r"'*[\x00\t\n\r+\-=@]"
_FORMULA = f"^{_STARTS}"
_FORMULA_NAME = re.compile(_STARTS)
# Values of these types are never a formula: a number may begin with a sign.
_HARMLESS = re.compile(
    r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|BOOLEAN|DATE|TIME.*"
    r"|INTERVAL|UUID|BIT|STRUCT\(.*\)|MAP\(.*\)|.*\[\d*\]"
)
_FLOATS = {"FLOAT", "DOUBLE"}
# Cells in a group of rows, of which a thread holds one: 2 MB to a few tens.
_GROUP_CELLS = 2_000_000
_GROUP_ROWS = 122_880  # DuckDB's own
_LEAST_GROUP_ROWS = 2048
# Of the text of a group, which a thread holds before it is packed.
_GROUP_BYTES = 32 * 1024 * 1024


class Format(NamedTuple):
    """A format of artifacts."""

    suffix: str
    content_type: str
    options: str


_FORMATS: dict[OutputFormat, Format] = {
    "csv": Format("csv", "text/csv; charset=utf-8", "FORMAT csv, HEADER true"),
    "json": Format("json", "application/json", "FORMAT json, ARRAY true"),
    "ndjson": Format("ndjson", "application/x-ndjson", "FORMAT json, ARRAY false"),
    "parquet": Format("parquet", "application/vnd.apache.parquet", "FORMAT parquet"),
}


def new_artifact(context: JobContext, stem: str, output_format: OutputFormat) -> Path:
    """Where to write it; `result.csv`, say."""
    found = _FORMATS[output_format]
    return context.new_artifact(f"{stem}.{found.suffix}", found.content_type)


def options(output_format: OutputFormat, columns: int, row_bytes: int = 0) -> str:
    """What COPY needs to know; `row_bytes` of a row, about, or 0. Straight into the file:
    nobody sees it before the job has ended."""
    written = f"{_FORMATS[output_format].options}, USE_TMP_FILE false"
    if output_format == "parquet":
        rows = min(_GROUP_ROWS, _GROUP_CELLS // max(columns, 1), _GROUP_BYTES // max(row_bytes, 1))
        rows = max(rows // _LEAST_GROUP_ROWS, 1) * _LEAST_GROUP_ROWS
        written += f", ROW_GROUP_SIZE {rows}"
    return written


def safe(select: str, columns: Columns, output_format: OutputFormat) -> str:
    """The same rows, such that the format can carry them and nobody is harmed by opening them."""
    if output_format == "csv":
        changes = [_without_formula(name, kind) for name, kind in columns]
    elif output_format in {"json", "ndjson"}:
        changes = [_with_json_numbers(name, kind) for name, kind in columns]
    else:
        return select
    if all(change is None for change in changes):
        return select
    named = (
        change if change is not None else sql.name(name)
        for change, (name, _) in zip(changes, columns, strict=True)
    )
    return f"SELECT {', '.join(named)} FROM (\n{select}\n)"


def _without_formula(name: str, kind: str) -> str | None:
    """With an apostrophe in front of what a spreadsheet would run. What has one already gets
    another, so that the first can be taken away again; see `plain_again`."""
    alias = f"'{name}" if _FORMULA_NAME.match(name) else name
    column = sql.name(name)
    if _HARMLESS.fullmatch(kind) is not None:
        return None if alias == name else f"{column} AS {sql.name(alias)}"
    if kind != "VARCHAR":
        column = f"CAST({column} AS VARCHAR)"
    # No list of codes: of an IN with five values DuckDB makes a join, for each column (2.0).
    return (
        f"CASE WHEN ascii({column}) < 65 AND regexp_matches({column}, {sql.text(_FORMULA)})"
        f" AND TRY_CAST({column} AS DOUBLE) IS NULL"
        f" THEN '''' || {column} ELSE {column} END AS {sql.name(alias)}"
    )


def plain_again(text: str) -> str:
    """A cell of such a file as it was."""
    return text[1:] if text.startswith("'") and _FORMULA_NAME.match(text) else text


def _with_json_numbers(name: str, kind: str) -> str | None:
    """JSON has neither NaN nor infinity: null."""
    column = sql.name(name)
    if kind in _FLOATS:
        return f"CASE WHEN isfinite({column}) THEN {column} END AS {column}"
    if kind.removesuffix("[]") in _FLOATS:
        finite = f"list_transform({column}, lambda x: CASE WHEN isfinite(x) THEN x END)"
        return f"{finite} AS {column}"
    return None
