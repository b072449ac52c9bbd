"""The rows of a source one by one, as they stand in it, each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import dropwhile, islice
from typing import Any, NamedTuple

import duckdb

from jobs.context import JobContext
from jobs.data import arrays, beginning, faults, lines, objects, quotes, reading
from jobs.data.deadline import Deadline
from jobs.data.engine import Engine, scratch
from jobs.data.faults import LimitError, UnreadableError
from jobs.data.packed import named_faults
from jobs.data.params import SourceParams
from jobs.data.reading import Manner
from jobs.data.source import Source, find, guess_single_byte
from jobs.data.splitting import has_long_pages, layout_of, regrouped
from jobs.data.wide import MOST_COLUMNS
from jobs.errors import PermanentError

FETCHED_AT_ONCE = 1_000
SHOWN_CHARACTERS = 10_000
NO_OBJECT = "it is no object"
TOO_DEEP = "it cannot be read: too deep"


class Row(NamedTuple):
    """A row. `line` counts from 1; in formats without lines it is the row's number. `is_text`:
    its values are the texts of a CSV file. `fault`: why it is none that could be looked at."""

    line: int
    value: Any
    is_text: bool = False
    fault: str | None = None


class Records(NamedTuple):
    """All rows, read as they are asked for. In front of decimals stands `decimal`, and between
    thousands `thousands`, where that is known."""

    rows: Iterator[Row]
    decimal: str | None = None
    thousands: str | None = None


@contextmanager
def of(params: SourceParams, context: JobContext, deadline: Deadline) -> Iterator[Records]:
    """Those of a file. Raises PermanentError for one that is broken."""
    with scratch(context) as folder:
        source = lines.evened(find(params, context, folder), params.quote)
        is_guess = params.encoding is None and source.encoding == "utf-8"
        with named_faults(source.compression):
            if is_guess and not source.is_decodable(deadline):
                source = guess_single_byte(source)
        with (
            closing(Engine(context, folder, deadline)) as engine,
            _our_faults(),
            named_faults(source.compression),
        ):
            file = arrays.readable(source, folder, deadline)
            if source.kind in {"csv", "tsv"}:
                if beginning.likely_columns(file) > MOST_COLUMNS:
                    options = layout_of(file, params).options
                else:
                    with engine.watched():
                        options = _csv_options(engine.connection, file, params, deadline)
                found = _of_csv(file, options, is_padded=params.ragged == "pad")
                decimal = options.get("decimal_separator", params.decimal)
                yield Records(found, decimal, options.get("thousands"))
            elif source.kind == "ndjson":
                yield Records(_of_lines(file))
            elif source.kind == "json":
                yield Records(_of_json(engine.connection, objects.texts(file)))
            else:
                if has_long_pages(engine, file):
                    engine.narrow()
                    file = regrouped(engine, file)
                table = reading.table(engine.connection, file, params, Manner(), deadline)
                yield Records(_of_table(engine.connection, table.call))


@contextmanager
def _our_faults() -> Iterator[None]:
    try:
        yield
    except (UnreadableError, LimitError) as error:
        raise error.error from None
    except (duckdb.Error, MemoryError) as error:
        meant = faults.of_duckdb(error)
        raise (meant.error if isinstance(meant, UnreadableError) else meant) from None
    except UnicodeError as error:
        raise PermanentError(f"the file cannot be read: {error}", code="bad_source") from None


def _csv_options(
    connection: duckdb.DuckDBPyConnection,
    file: Source,
    params: SourceParams,
    deadline: Deadline,
) -> dict[str, Any]:
    """Those that the other jobs would read it with in the end."""
    options = reading.csv_options(connection, file, params, Manner(), deadline)
    if options.get("decimal_separator") == ",":
        # So it is to the other jobs as soon as there is one.
        options.setdefault("thousands", ".")
    if (
        params.quote is None
        and params.ragged != "pad"
        and not beginning.shows_quotes(file, params.delimiter)
    ):
        # That quotes are quotes is a guess.
        try:
            quotes.check(file, options, deadline)
        except UnreadableError as error:
            if error.follows:
                literal = Manner(literal=error)
                return reading.csv_options(connection, file, params, literal, deadline)
    return options


def _of_csv(source: Source, options: dict[str, Any], *, is_padded: bool) -> Iterator[Row]:
    names, comment = list(options["columns"]), options.get("comment", "")
    with source.text() as text:
        found = lines.rows(text, lines.dialect(options), comment)
        # DuckDB (2.0) does not count comments there.
        uncommented = (row for row in found if not row.is_comment)
        rows: Iterator[lines.Row] = islice(uncommented, options.get("skip", 0), None)
        if len(names) == 1:
            # A row like others there, to DuckDB (2.0) as well; not so above the header.
            below = dropwhile(_is_blank, rows) if options["header"] else rows
            rows = (each if each.cells else each._replace(cells=[""]) for each in below)
        told = (row for row in rows if not _is_blank(row))
        for row in islice(told, int(options["header"]), None):
            yield _row(row, names, is_padded=is_padded)


def _is_blank(row: lines.Row) -> bool:
    return not row.cells and row.broken is None


def _row(row: lines.Row, names: list[str], *, is_padded: bool) -> Row:
    if row.broken is not None:
        return Row(row.line, row.broken.rstrip("\r\n")[:SHOWN_CHARACTERS], fault=faults.UNCLOSED)
    found = row.cells
    if is_padded:
        found = (found + [""] * (len(names) - len(found)))[: len(names)]
    while len(found) > len(names) and not found[-1]:
        # None to DuckDB either: lines that end with a delimiter.
        found.pop()
    if len(found) != len(names):
        return Row(row.line, found, fault=f"{len(found)} cells, {len(names)} were expected")
    return Row(row.line, dict(zip(names, found, strict=True)), is_text=True)


def _of_lines(source: Source) -> Iterator[Row]:
    with source.text() as text:
        for line, found in lines.numbered(text):
            if not found.strip():
                continue
            try:
                value = json.loads(found, parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                why = TOO_DEEP if isinstance(error, RecursionError) else "it is not JSON"
                yield Row(line, found.rstrip("\r\n")[:SHOWN_CHARACTERS], fault=why)
            else:
                yield _of_value(line, value)


def _of_value(line: int, value: Any) -> Row:
    return Row(line, value, fault=None if isinstance(value, dict) else NO_OBJECT)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _of_json(connection: duckdb.DuckDBPyConnection, call: str) -> Iterator[Row]:
    """Each object as it is written: an absent field is no null. Numbered: an array has no lines."""
    texts = _fetched(connection, f"SELECT json::VARCHAR FROM {call}")
    for number, text in enumerate(texts, 1):
        try:
            yield _of_value(number, json.loads(text))
        except (ValueError, RecursionError):
            yield Row(number, text[:SHOWN_CHARACTERS], fault=TOO_DEEP)


def _of_table(connection: duckdb.DuckDBPyConnection, call: str) -> Iterator[Row]:
    """Of a format that has a column for each row: null is absent there."""
    texts = _fetched(connection, f"SELECT to_json(row)::VARCHAR FROM {call} row")
    for number, text in enumerate(texts, 1):
        row = json.loads(text, parse_constant=lambda _: None)
        yield Row(number, {name: value for name, value in row.items() if value is not None})


def _fetched(connection: duckdb.DuckDBPyConnection, select: str) -> Iterator[str]:
    found = connection.execute(select)
    while several := found.fetchmany(FETCHED_AT_ONCE):
        for (text,) in several:
            yield text
