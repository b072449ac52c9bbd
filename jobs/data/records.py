"""The rows of a source one by one, as they stand in it, each with its line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import duckdb

from jobs.context import JobContext
from jobs.data import faults, reading
from jobs.data.engine import Engine, scratch
from jobs.data.faults import UnreadableError
from jobs.data.params import SourceParams
from jobs.data.reading import Manner
from jobs.data.source import Source, find, guess_single_byte, readable
from jobs.data.splitting import layout_of
from jobs.data.wide import MOST_COLUMNS
from jobs.errors import PermanentError

FETCHED_AT_ONCE = 1_000
SHOWN_CHARACTERS = 10_000
MAX_CELL_CHARACTERS = 16 * 1024 * 1024


class Row(NamedTuple):
    """A row. `line` counts from 1; in formats without lines it is the row's number. `is_text`:
    its values are the texts of a CSV file. `fault`: why it is none that could be looked at."""

    line: int
    value: Any
    is_text: bool = False
    fault: str | None = None


@contextmanager
def of(params: SourceParams, context: JobContext) -> Iterator[Iterator[Row]]:
    """All of them, read as they are asked for. Raises PermanentError for a file that is broken."""
    with scratch(context) as folder:
        source = find(params, context, folder)
        if params.encoding is None and source.encoding == "utf-8" and not source.is_decodable():
            source = guess_single_byte(source)
        with closing(Engine(context, folder, math.inf)) as engine, _our_faults():
            file = readable(source, folder)
            if source.kind in {"csv", "tsv"}:
                if reading.likely_columns(file) > MOST_COLUMNS:
                    options = layout_of(file, params).options
                else:
                    options = reading.csv_options(engine.connection, file, params, Manner())
                yield _of_csv(file, options)
            elif source.kind == "ndjson":
                yield _of_lines(file)
            elif source.kind == "json":
                yield _of_json(engine.connection, reading.objects(file))
            else:
                call = reading.table(engine.connection, file, params, Manner())
                yield _of_table(engine.connection, call)


@contextmanager
def _our_faults() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        meant = faults.of_duckdb(error)
        raise (meant.error if isinstance(meant, UnreadableError) else meant) from None
    except (csv.Error, UnicodeError) as error:
        raise PermanentError(f"the file cannot be read: {error}", code="bad_source") from None


def _of_csv(source: Source, options: dict[str, Any]) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    names = list(options["columns"])
    with source.text() as text:
        reader = csv.reader(text, **_dialect(options))
        for _ in range(options.get("skip", 0) + bool(options["header"])):
            next(reader, None)
        line = reader.line_num + 1
        for found in reader:
            if found:
                yield _row(line, names, found)
            line = reader.line_num + 1


def _row(line: int, names: list[str], found: list[str]) -> Row:
    if len(found) != len(names):
        return Row(line, found, fault=f"{len(found)} cells, {len(names)} were expected")
    return Row(line, dict(zip(names, found, strict=True)), is_text=True)


def _dialect(options: dict[str, Any]) -> dict[str, Any]:
    quote, escape = options["quote"], options["escape"]
    return {
        "delimiter": options["delim"],
        "quotechar": quote or None,
        "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        "doublequote": escape in {quote, ""},
        "escapechar": escape if escape not in {quote, ""} else None,
    }


def _of_lines(source: Source) -> Iterator[Row]:
    with source.text() as text:
        for line, found in enumerate(text, 1):
            if not found.strip():
                continue
            try:
                yield Row(line, json.loads(found, parse_constant=_no_constant))
            except (ValueError, RecursionError):
                yield Row(line, found.rstrip("\r\n")[:SHOWN_CHARACTERS], fault="it is not JSON")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _of_json(connection: duckdb.DuckDBPyConnection, call: str) -> Iterator[Row]:
    """Each object as it is written: an absent field is no null. Numbered: an array has no lines."""
    texts = _fetched(connection, f"SELECT json::VARCHAR FROM {call}")
    for number, text in enumerate(texts, 1):
        yield Row(number, json.loads(text))


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
