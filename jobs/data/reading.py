"""How a file is read: the call of a table function that gives its rows, all told beforehand.

What a file is like is found out once and written into the call, so that two looks at it see the
same table, and a look costs no more than the reading.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import duckdb

from jobs.data import beginning, days, faults, lines, quotes, sniffing, sql
from jobs.data.deadline import Deadline
from jobs.data.faults import UnreadableError
from jobs.data.params import SourceParams
from jobs.data.source import Source
from jobs.errors import PermanentError

SNIFFED_ROWS = 20_480  # DuckDB's own
# Of those that a file has, where another was asked for.
SHOWN_COLUMNS = 20
SHOWN_CHARACTERS = 300
# Of a file, in place of 32 MB: under the limit of a child's memory DuckDB gives pages of those back
# and asks for them anew. Told with it: the longest row. If not, that is 2 MB, or as much as a told
# buffer, and DuckDB (2.0) leaves out the rest of some files behind a longer one, and says nothing.
# 20 million rows to Parquet took 7.0 s with these two, 8.4 with 12 MiB for both, 11.9 with 32 MB.
BUFFER_BYTES = 12 * 1024 * 1024
MAX_ROW_BYTES = 4 * 1024 * 1024
_TYPES = {"text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN",
          "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP"}  # fmt: skip
_COMMA_DECIMAL = r"[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d+)?"
_THOUSANDS = r"[+-]?([1-9]\d{0,2}(\.\d{3})*|0)"
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manner:
    """What earlier attempts have taught. `whole`: types fit all rows, not just the first 20,000;
    `narrow`: one thread and small buffers, which need less memory than several; `streams`: all
    rows are only passed on; `serial`: by one reader from the first row to the last; `texts`:
    columns of a CSV file that are of no other type; `literal`: its quotes are text, for as quotes
    they are broken, and how."""

    whole: bool = False
    narrow: bool = False
    streams: bool = False
    serial: bool = False
    literal: UnreadableError | None = None
    texts: frozenset[str] = frozenset()


class Table(NamedTuple):
    """The call that reads a file, and for CSV its options."""

    call: str
    options: Options


def table(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    params: SourceParams,
    manner: Manner,
    deadline: Deadline,
) -> Table:
    """A CSV or Parquet file as a table. Raises PermanentError for one without columns, and what
    DuckDB raises for one that it cannot read."""
    path = str(source.path)
    if source.kind == "parquet":
        return Table(sql.call("read_parquet", path, {}), {})
    options = csv_options(connection, source, params, manner, deadline)
    if options.get("parallel") is False and not source.is_uneven:
        _check_ends(source, options, deadline)
    told = told_types(options["columns"], params)
    options["columns"] |= days.as_text(connection, source, options, told, deadline)
    return Table(sql.call("read_csv", path, options), options)


def _check_ends(source: Source, options: Options, deadline: Deadline) -> None:
    """Raises UnreadableError for a file with CRLF and CR: one reader (DuckDB 2.0) takes what
    follows a CR for its LF."""
    if b"\r\n" not in source.sample:
        return
    if {b"\r\n", b"\r"} <= lines.ends_of(source, options["quote"].encode(), deadline):
        error = PermanentError("its lines end in several ways", code="bad_source")
        raise UnreadableError(error, ends=True)


def csv_options(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    params: SourceParams,
    manner: Manner,
    deadline: Deadline,
) -> Options:
    """All options of `read_csv` for this file, `columns` among them. Raises PermanentError for one
    that has a line that is too long, and UnreadableError for one that has a quote that is not
    closed where nobody would notice."""
    told = _told(source, params) | _buffer(source, manner)
    if manner.literal is not None:
        told |= {"quote": "", "escape": ""}
    lines.check_lengths(source, told["max_line_size"], deadline)
    if manner.serial:
        told["parallel"] = False
    sampled: Options = {"sample_size": -1 if manner.whole else SNIFFED_ROWS}
    try:
        found = sniffing.dialect(connection, source, told | sampled, deadline)
    except duckdb.Error as error:
        if faults.is_too_long(error):
            # It does not say where.
            quotes.check(source, sniffing.by_first_line(source, told) | told, deadline)
        raise
    if params.ragged == "pad" and found["header"]:
        told, found = _below_titles(
            connection, source, told, found, sampled=sampled, deadline=deadline
        )
    texts = {name: "VARCHAR" for name in manner.texts if name in found["columns"]}
    found["columns"] |= texts
    if beginning.says_delimiter(source) is not None:
        # Comments may follow that line.
        told["skip"] = max(told["skip"], found.get("skip", 0))
    options: Options = {"auto_detect": False} | found | told
    if params.decimal != "." and options["delim"] not in {",", beginning.NOTHING}:
        options |= _comma_decimals(connection, source, options, manner)
    options["columns"] |= told_types(options["columns"], params)
    if options.get("parallel") is False:
        quotes.check(source, options, deadline)
    return options


def _below_titles(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    told: Options,
    found: Options,
    *,
    sampled: Options,
    deadline: Deadline,
) -> tuple[Options, Options]:
    """What to tell, and what is found, of a file whose short rows are padded: then a title or a
    remark looks like a header that is short."""
    rows = _cell_counts(source, found)
    if rows and rows[0].cells == 1 and not _are_longer(rows) and "delim" not in told:
        # What stands between cells in some rows only, and in no header, is text.
        told = told | {"delim": beginning.likely_delimiter(source)}
        found = sniffing.dialect(connection, source, told | sampled, deadline)
        rows = _cell_counts(source, found)
    if _are_longer(rows) and rows[0].cells == 1:
        usual = Counter(row.cells for row in rows if row.cells > 1).most_common(1)[0][0]
        above = [row for row in rows if row.cells > 1]
        place = next(place for place, row in enumerate(above) if row.cells >= usual)
        # A header may be shorter than its rows, but stands right above them.
        while place and above[place - 1].number == above[place].number - 1:
            place -= 1
        first = above[place]
        below = told | {"skip": first.number, "delim": found["delim"]}
        below["comment"] = found.get("comment", "")
        again = sniffing.dialect(connection, source, _without(below, "header") | sampled, deadline)
        # A title of several lines is a row to who reads, and not always to who sniffs.
        is_below = first.line == first.number or len(again["columns"]) == first.cells
        if again["header"] and is_below:
            told, found, rows = below, again, _cell_counts(source, again | below)
    if rows and not _are_longer(rows):
        # Else rows that are longer than the header make columns, or not, by where they stand.
        columns = dict(islice(found["columns"].items(), rows[0].cells))
        found = found | {"columns": columns}
    return told, found


def _buffer(source: Source, manner: Manner) -> Options:
    """Small when memory is short; of one size for a packed file, where a row that is longer than
    told, and shorter than the buffer, is left out as well."""
    buffer_bytes = MAX_ROW_BYTES if manner.narrow else BUFFER_BYTES
    is_packed = source.compression != "none"
    return {
        "buffer_size": buffer_bytes,
        "max_line_size": buffer_bytes if is_packed else MAX_ROW_BYTES,
    }


def told_types(columns: Iterable[str], params: SourceParams) -> dict[str, str]:
    """DuckDB's types of columns that the params tell. Raises PermanentError for one that is not
    there."""
    names = list(columns)
    return {known_column(name, names): _TYPES[kind] for name, kind in (params.types or {}).items()}


def known_column(name: str, columns: Sequence[str]) -> str:
    """The column of that name; in another case too, as SQL has it, where that is plain. Raises
    PermanentError."""
    if name in columns:
        return name
    alike = [each for each in columns if each.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    # In quotes: all files that lack it have one cause.
    shown = ", ".join(columns[:SHOWN_COLUMNS])[:SHOWN_CHARACTERS]
    raise PermanentError(f"there is no column {name!r} among {shown!r}", code="unknown_column")


def _told(source: Source, params: SourceParams) -> Options:
    told: Options = {}
    if params.delimiter is not None:
        told["delim"] = params.delimiter
    elif source.kind == "tsv":
        told["delim"] = "\t"
    if (above := beginning.says_delimiter(source)) is not None:
        told = {"delim": above[1], "skip": 1} | told
    if params.quote is not None:
        told |= {"quote": params.quote, "escape": params.quote}
    if params.header is not None:
        told["header"] = params.header
    if params.decimal is not None:
        told["decimal_separator"] = params.decimal
    if params.date_format is not None:
        told["dateformat"] = params.date_format
    if params.ragged == "pad":
        # Several threads do not pad where cells have line breaks (DuckDB 2.0).
        told |= {"null_padding": True, "strict_mode": False, "parallel": False}
    if source.compression != "none":
        told["compression"] = source.compression
    return told


class _Row(NamedTuple):
    """How many rows are above a row, blank ones and titles too, but no comments; how many lines;
    and how many cells it has."""

    number: int
    line: int
    cells: int


def _cell_counts(source: Source, found: Options) -> list[_Row]:
    """Of the header and the first rows, but for blank ones, up to one that cannot be read."""
    text = io.StringIO(beginning.text_of(source), newline="")
    rows = lines.rows(text, lines.dialect(found), found.get("comment", ""))
    counts = []
    with contextlib.suppress(PermanentError):
        uncommented = (row for row in rows if not row.is_comment)
        for number, row in enumerate(islice(uncommented, beginning.SAMPLE_ROWS)):
            if row.cells and number >= found.get("skip", 0):
                counts.append(_Row(number, row.line - 1, len(row.cells)))
    return counts


def _are_longer(rows: Sequence[_Row]) -> bool:
    """Whether most rows have more cells than the first: it does not name them all."""
    longer = sum(row.cells > rows[0].cells for row in rows)
    return bool(rows) and 2 * longer > len(rows) - 1


def _without(options: Options, name: str) -> Options:
    return {key: value for key, value in options.items() if key != name}


def _comma_decimals(
    connection: duckdb.DuckDBPyConnection, source: Source, options: Options, manner: Manner
) -> Options:
    """What to change where columns of text are numbers with a decimal comma, as in 1.234,50."""
    columns: dict[str, str] = options["columns"]
    kinds = {name: kind for name, kind in columns.items() if kind in {"VARCHAR", "DOUBLE"}}
    names = [name for name in kinds if name not in manner.texts]
    if not any(kinds[name] == "VARCHAR" for name in names):
        return {}
    call = sql.call(
        "read_csv",
        str(source.path),
        options | {"columns": dict.fromkeys(columns, "VARCHAR"), "ignore_errors": True},
    )
    limit = "" if manner.whole else f" LIMIT {beginning.SAMPLE_ROWS}"
    while True:
        shown = ", ".join(map(sql.name, names))
        looks = ", ".join(map(_look_at, map(sql.name, names)))
        try:
            row = connection.execute(f"SELECT {looks} FROM (SELECT {shown} FROM {call}{limit})")
            found = row.fetchone()
        except duckdb.InvalidInputException:  # a row that cannot be read: it is named later
            return {}
        assert found is not None
        numbers, wholes, is_grouped = [], [], False
        for name, at in zip(names, range(0, len(found), 4), strict=True):
            is_number, has_comma, has_point, is_whole = found[at : at + 4]
            if kinds[name] == "VARCHAR" and is_number and has_comma:
                numbers.append(name)
                is_grouped |= has_point
            elif kinds[name] == "DOUBLE" and "decimal_separator" not in options:
                if is_whole is False:
                    return {}  # a decimal point
                wholes.append(name)
                is_grouped |= bool(has_point)
        if not (limit and numbers and is_grouped):
            break
        # Told of thousands, DuckDB (2.0) passes over a point wherever it stands: of these columns
        # all cells are looked at, for half as much time again as a query of them takes.
        limit, names = "", numbers + wholes
    if not numbers:
        return {}
    changed: Options = {
        "columns": columns | dict.fromkeys(numbers, "DOUBLE"),
        "decimal_separator": ",",
    }
    return changed | ({"thousands": "."} if is_grouped else {})


def _look_at(cell: str) -> str:
    """Whether a column's cells are all numbers with decimal commas, whether there is a comma, or a
    point, and whether all are whole numbers."""
    return (
        f"bool_and(regexp_full_match(trim({cell}), {sql.text(_COMMA_DECIMAL)})),"
        f" bool_or(contains({cell}, ',')), bool_or(contains({cell}, '.')),"
        f" bool_and(regexp_full_match(trim({cell}), {sql.text(_THOUSANDS)}))"
    )


def columns_of(connection: duckdb.DuckDBPyConnection, select: str) -> list[tuple[str, str]]:
    """Names and types of what a SELECT gives."""
    rows = connection.execute(f"DESCRIBE {select}").fetchall()
    return [(row[0], row[1]) for row in rows]
