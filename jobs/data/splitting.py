"""A file of more columns than there is memory for as a Parquet file, some columns at a time."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import duckdb

from jobs.data import (
    beginning,
    cells,
    columnar,
    days,
    faults,
    lines,
    objects,
    reading,
    sniffing,
    sql,
    writing,
)
from jobs.data.faults import UnreadableError
from jobs.data.params import SourceParams
from jobs.data.reading import Manner
from jobs.data.source import SAMPLE_BYTES, Source, bounded
from jobs.data.wide import groups_of
from jobs.errors import PermanentError

if TYPE_CHECKING:
    from jobs.data.engine import Engine

# Each group of columns has an open file while the source is split.
MOST_COLUMNS = 100_000
# Rows that are looked at for whether the first one names the columns.
HEADER_ROWS = 100
# Between two looks at the clock.
ROWS_AT_ONCE = 100
# Of pages that are held at once, unpacked; each may be as long as its writer liked.
PAGES_BYTES = 48 * 1024 * 1024


class Layout(NamedTuple):
    """How a wide file is written, and the names of its columns; `types` of those that are told."""

    dialect: dict[str, Any]
    has_header: bool
    names: list[str]
    types: dict[str, str]

    @property
    def options(self) -> dict[str, Any]:
        """The same as options of `read_csv`."""
        quote = self.dialect["quotechar"] or ""
        return {
            "delim": self.dialect["delimiter"],
            "quote": quote,
            "escape": quote,
            "header": self.has_header,
            "columns": dict.fromkeys(self.names, "VARCHAR"),
        }


def as_parquet(engine: Engine, source: Source, params: SourceParams) -> Source:
    """The same rows, each column of the type that it has by itself. Raises what reading does."""
    try:
        layout = layout_of(source, params)
        files = []
        for number, names in enumerate(_split(engine, source, params, layout)):
            part = _part(engine, number, "csv")
            files.append(_typed(engine, replace(source, path=part), params, layout, names))
            part.unlink()
    except UnicodeError as error:
        raise UnreadableError(
            PermanentError(f"the file is not {source.encoding}: {error}", code="bad_source"),
            encoding=True,
            types=False,
        ) from None
    return _merged(engine, source, files)


def dialect_of(source: Source, params: SourceParams) -> dict[str, Any]:
    """For Python's csv, by the first row and what the params tell."""
    between = "\t" if source.kind == "tsv" else beginning.most_frequent(source) or ","
    return {
        "delimiter": params.delimiter or between,
        "quotechar": '"' if params.quote is None else params.quote or None,
        "quoting": csv.QUOTE_NONE if params.quote == "" else csv.QUOTE_MINIMAL,
    }


def layout_of(source: Source, params: SourceParams) -> Layout:
    """By its first rows and what the params tell. Raises PermanentError for too many columns."""
    dialect = dialect_of(source, params)
    with source.text() as text:
        sound = (row for row in lines.rows(text, dialect) if row.broken is None)
        filled = (row.cells for row in sound if row.cells)
        rows = itertools.islice(filled, HEADER_ROWS)
        first = next(rows, [])
        if len(first) > MOST_COLUMNS:
            raise PermanentError(
                f"{len(first)} columns need more memory than a job has", code="memory"
            )
        has_header = params.header
        if has_header is None:
            has_header = _is_header(first, list(rows))
    digits = len(str(len(first) - 1))
    names = [
        name if name and has_header else f"column{number:0{digits}}"
        for number, name in enumerate(first)
    ]
    unlike = sniffing.unlike([(name.lstrip("\ufeff"), "VARCHAR") for name in names])
    return Layout(dialect, has_header, list(unlike), reading.told_types(unlike, params))


def _is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Where it is of another kind than what stands below; else where it has no number."""
    for name, *below in zip(first, *others, strict=False):
        found = [cell for cell in below if cell]
        if name and not _is_number(name) and found and all(map(_is_number, found)):
            return True
    return not any(map(_is_number, first))


def _is_number(cell: str) -> bool:
    return cells.is_number(cell.replace(",", "."))


def _split(
    engine: Engine, source: Source, params: SourceParams, layout: Layout
) -> list[Sequence[str]]:
    """Write the cells of each group of columns into a file of its own; the names of each."""
    groups = list(groups_of(layout.names))
    ends = [0, *itertools.accumulate(map(len, groups))]
    slices = [slice(*both) for both in itertools.pairwise(ends)]
    with ExitStack() as stack:
        text = stack.enter_context(source.text())
        files = [
            stack.enter_context(
                _part(engine, number, "csv").open("w", encoding="utf-8", newline="")
            )
            for number in range(len(groups))
        ]
        delimiter = layout.dialect["delimiter"]
        writers = [csv.writer(file, delimiter=delimiter, lineterminator="\n") for file in files]
        rows = _even(text, len(layout.names), params, layout)
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            for writer, columns in zip(writers, slices, strict=True):
                writer.writerows([row[columns] for row in some])
            bounded(sum(file.tell() for file in files))
            engine.keep_time()
    return groups


def _even(text: TextIO, count: int, params: SourceParams, layout: Layout) -> Iterator[list[str]]:
    """The rows below the header. Raises PermanentError for one of another length."""
    filled = (row for row in lines.whole_rows(text, layout.dialect) if row.cells)
    for row in itertools.islice(filled, int(layout.has_header), None):
        found = row.cells
        if len(found) == count:
            yield found
        elif params.ragged == "pad":
            yield (found + [""] * (count - len(found)))[:count]
        else:
            raise PermanentError(
                f"line {row.line}: {len(found)} cells, {count} were expected", code="bad_source"
            )


def _typed(
    engine: Engine, part: Source, params: SourceParams, layout: Layout, names: Sequence[str]
) -> Path:
    """A group of columns as a Parquet file; of types that fit its beginning, else all of it, but
    for those that are told."""
    target = part.path.with_suffix(".parquet")
    with part.path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    part = replace(part, kind="csv", compression="none", encoding="utf-8", sample=sample)
    told: dict[str, Any] = {"header": False, "ragged": None, "encoding": None, "types": None}
    told |= {"delimiter": layout.dialect["delimiter"], "quote": '"'}
    own = params.model_copy(update=told)
    types = {name: layout.types[name] for name in names if name in layout.types}
    for is_whole in (False, True):
        manner = Manner(whole=is_whole, narrow=True, serial=True)
        try:
            options = reading.csv_options(engine.connection, part, own, manner, engine.deadline)
            kinds = options["columns"].values()
            options["columns"] = dict(zip(names, kinds, strict=True)) | types
            options["columns"] |= days.as_text(
                engine.connection, part, options, types, engine.deadline
            )
            _write(engine, sql.call("read_csv", str(part.path), options), target, layout.names)
            break
        except duckdb.Error as error:
            meant = faults.of_duckdb(error)
            if not isinstance(meant, UnreadableError) or not meant.types:
                raise
            if meant.column in types:
                # Its line is one of the part.
                why = re.sub(r"^line \d+, ", "", str(meant.error))
                raise PermanentError(why, code="bad_source") from None
            if is_whole:
                raise
    return target


def objects_as_parquet(engine: Engine, source: Source, options: reading.Options) -> Source:
    """The same rows of a JSON file whose objects have thousands of fields. Raises what reading
    does."""
    columns: dict[str, str] = options["columns"]
    # By names that it has given itself it finds nothing.
    whole = objects.table(source, options)
    files = []
    for number, names in enumerate(groups_of(list(columns))):
        if objects.are_alike(columns):
            call = f"(SELECT {sql.names([(name, '') for name in names])} FROM {whole})"
        else:
            group = {name: columns[name] for name in names}
            call = sql.call("read_json", str(source.path), options | {"columns": group})
        files.append(_part(engine, number, "parquet"))
        _write(engine, call, files[-1], columns)
    return _merged(engine, source, files)


def has_long_pages(engine: Engine, source: Source) -> bool:
    """Whether all columns of a Parquet file at once may need more memory than there is."""
    columns = reading.columns_of(
        engine.connection, f"FROM {sql.call('read_parquet', str(source.path), {})}"
    )
    longest, _ = _extents(engine, source.path, len(columns))
    return sum(longest) > PAGES_BYTES


def regrouped(engine: Engine, source: Source) -> Source:
    """The same rows of a Parquet file in groups that need less memory. A few columns at a time:
    of each that it reads DuckDB holds a page, which can be all that a group has of it."""
    call = sql.call("read_parquet", str(source.path), {})
    columns = reading.columns_of(engine.connection, f"FROM {call}")
    longest, row_bytes = _extents(engine, source.path, len(columns))
    engine.row_bytes = max(engine.row_bytes, row_bytes)
    options = writing.options("parquet", len(columns), engine.row_bytes)
    files: list[Path] = []
    for group in _within(columns, longest):
        files.append(_part(engine, len(files), "parquet"))
        select = f"SELECT {sql.names(group)} FROM {call}"
        engine.rows(f"COPY ({select}) TO {sql.text(str(files[-1]))} ({options})")
        bounded(sum(file.stat().st_size for file in files))
    return _merged(engine, source, files)


def _extents(engine: Engine, path: Path, count: int) -> tuple[list[int], int]:
    """The most that each column has of a group of rows, and what a row has: bytes, unpacked, as
    the footer has them."""
    meta = sql.call("parquet_metadata", str(path), {})
    groups = "SELECT sum(total_uncompressed_size) AS size, any_value(row_group_num_rows) AS n FROM"
    size_bytes, rows = engine.rows(
        f"SELECT sum(size), sum(n) FROM ({groups} {meta} GROUP BY row_group_id)"
    )[0]
    leaves = engine.rows(
        f"SELECT max(total_uncompressed_size) FROM {meta} GROUP BY column_id ORDER BY column_id"
    )
    schema = sql.call("parquet_schema", str(path), {})
    children = [row[0] or 0 for row in engine.rows(f"SELECT num_children FROM {schema}")]
    elements, stored = iter(children[1:]), (row[0] or 0 for row in leaves)
    longest = [_with_all_below(elements, stored) for _ in range(count)]
    return longest, int(size_bytes or 0) // max(int(rows or 0), 1)


def _with_all_below(elements: Iterator[int], stored: Iterator[int]) -> int:
    """Of the next column, whose element comes before those below it: how many elements each has.
    What has none is stored."""
    size_bytes, awaited = 0, 1
    for own in elements:
        awaited += own - 1
        size_bytes += 0 if own else next(stored, 0)
        if not awaited:
            break
    return size_bytes


def _within(columns: writing.Columns, longest: Sequence[int]) -> Iterator[writing.Columns]:
    """Some of the columns at a time, of which a group of rows has up to PAGES_BYTES; or one."""
    some: list[tuple[str, str]] = []
    size_bytes = 0
    for column, own_bytes in zip(columns, longest, strict=True):
        if some and size_bytes + own_bytes > PAGES_BYTES:
            yield some
            some, size_bytes = [], 0
        some.append(column)
        size_bytes += own_bytes
    yield some


def _write(engine: Engine, call: str, target: Path, columns: Collection[str]) -> None:
    """Some of the columns, in groups of rows as all of them need it."""
    options = writing.options("parquet", len(columns))
    engine.rows(f"COPY (FROM {call}) TO {sql.text(str(target))} ({options})")


def _merged(engine: Engine, source: Source, files: Sequence[Path]) -> Source:
    target = engine.parts / "input.parquet"
    try:
        columnar.merge(files, target)
    except columnar.UnlikeError as error:
        # DuckDB ends a group sooner, too, when its memory is full.
        raise PermanentError(
            "its columns need more memory than a job has", code="memory"
        ) from error
    return replace(source, path=target, kind="parquet", compression="none", encoding="utf-8")


def _part(engine: Engine, number: int, suffix: str) -> Path:
    return engine.parts / f"source-{number}.{suffix}"
