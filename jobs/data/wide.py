"""Tables of thousands of columns, a few hundred of them at a time.

DuckDB has room for 2,048 cells of each column that it works on, a few times over: 10,000 columns
of text are 320 MB before the first row, and no setting changes that (2.0). Of a Parquet file it
reads some columns without having room for all. So a wide file of text is made one (splitting.py),
and a wide answer is written as several files of some columns each, which become one in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jobs.data import columnar, sql, values, writing
from jobs.data.params import OutputFormat
from jobs.errors import PermanentError

if TYPE_CHECKING:
    from jobs.data.engine import Engine

T = TypeVar("T")

# More are wide. A child of 512 MiB takes some more, of text, at once.
MOST_COLUMNS = 1_000
COLUMNS_AT_ONCE = 400
# As text they take four times the room.
SHOWN_COLUMNS_AT_ONCE = 100
# A row of an answer is known again among other columns by the first ones.
CHECKED_COLUMNS = 50
_CHECK = "recado check"
# Between two looks at the clock.
ROWS_AT_ONCE = 100
SHOWN_ROWS = 100


# The SELECT of some columns of an answer.
Select = Callable[[writing.Columns], str]


class Written(NamedTuple):
    """How many rows an answer has, and some of the first."""

    row_count: int
    shown: list[Any]


def groups_of(columns: Sequence[T], most: int = COLUMNS_AT_ONCE) -> Iterator[Sequence[T]]:
    """Groups of about the same size."""
    count = max(1, -(-len(columns) // most))
    ends = [len(columns) * number // count for number in range(count + 1)]
    for start, end in itertools.pairwise(ends):
        yield columns[start:end]


def write(
    engine: Engine, select: Select, columns: writing.Columns, target: Path,
    output_format: OutputFormat,
) -> int:  # fmt: skip
    """Write what a SELECT gives, at once or as below, and say how many rows that were."""
    if len(columns) > MOST_COLUMNS:
        return write_parts(engine, select, columns, target, output_format, shows=False).row_count
    safe = writing.safe(select(columns), columns, output_format)
    options = writing.options(output_format, len(columns), engine.row_bytes)
    return engine.write(safe, target, options)


def write_parts(
    engine: Engine, select: Select, columns: writing.Columns, target: Path,
    output_format: OutputFormat, *, shows: bool = True,
) -> Written:  # fmt: skip
    """Write what a SELECT gives, which is run again for each group of columns, and show some of
    it, if asked. Raises PermanentError should it give other rows then."""
    groups = list(groups_of(columns))
    parts = [engine.parts / f"answer-{number}.parquet" for number in range(len(groups))]
    options = writing.options("parquet", len(columns))
    engine.connection.begin()  # now() stands still
    counts = [
        engine.write(_with_check(select, group, columns), part, options)
        for part, group in zip(parts, groups, strict=True)
    ]
    engine.connection.commit()
    if len({_check_of(engine, part) for part in parts}) > 1:
        raise PermanentError(
            f"{len(columns)} columns need more memory than a job has, and a few hundred at a time"
            " need SQL that gives the same rows each time",
            code="memory",
        )
    shown = _shown(engine, parts, groups) if shows else []
    plain = [
        _plain(engine, part, group, output_format, options)
        for part, group in zip(parts, groups, strict=True)
    ]
    if output_format == "parquet":
        columnar.merge(plain, target)
    else:
        _join(engine, plain, target, output_format)
    engine.keep_size(target)
    return Written(counts[0], shown)


def _with_check(select: Select, group: writing.Columns, columns: writing.Columns) -> str:
    checked = columns[:CHECKED_COLUMNS]
    selected = [*group, *(each for each in checked if each not in group)]
    check = f"hash({sql.names(checked)}) AS {sql.name(_CHECK)}"
    return f"SELECT {sql.names(group)}, {check} FROM (\n{select(selected)}\n)"


def _check_of(engine: Engine, part: Path) -> Any:
    """Of all rows, in their order."""
    source = sql.call("read_parquet", str(part), {})
    numbered = f"SELECT {sql.name(_CHECK)} AS found, row_number() OVER () AS place FROM {source}"
    return engine.rows(f"SELECT bit_xor(hash(found, place)), count(*) FROM ({numbered})")[0]


def _shown(engine: Engine, parts: Sequence[Path], groups: Sequence[writing.Columns]) -> list[Any]:
    """One more of the first rows than a result can have room for, or all that it shows."""
    names_bytes = sum(len(name) for each in groups for name, _ in each)
    limit = 1 + values.MAX_LIST_BYTES // names_bytes
    rows: list[dict[str, Any]] = []
    for part, group in zip(parts, groups, strict=True):
        source = sql.call("read_parquet", str(part), {})
        for few in groups_of(group, SHOWN_COLUMNS_AT_ONCE):
            some = f"(SELECT {sql.names(few)} FROM {source} LIMIT {min(limit, SHOWN_ROWS)}) shown"
            found = engine.rows(f"SELECT to_json(shown)::VARCHAR FROM {some}")
            rows = rows or [{} for _ in found]
            for row, (text,) in zip(rows, found, strict=True):
                row.update(values.parse(text))
    return rows


def _plain(
    engine: Engine,
    part: Path,
    group: writing.Columns,
    output_format: OutputFormat,
    parquet_options: str,
) -> Path:
    """A part without the check: a Parquet file, or one that has a line, or more, for each row."""
    written: OutputFormat = "ndjson" if output_format == "json" else output_format
    options = parquet_options if written == "parquet" else writing.options(written, len(group))
    select = f"SELECT {sql.names(group)} FROM {sql.call('read_parquet', str(part), {})}"
    target = part.with_suffix(".plain")
    engine.write(writing.safe(select, group, written), target, options)
    part.unlink()
    return target


def _join(engine: Engine, parts: Sequence[Path], target: Path, output_format: OutputFormat) -> None:
    """The rows of all parts side by side."""
    quoted = output_format == "csv"
    joined = _cells if quoted else _fields
    lead, between, end = (
        (b"[\n\t", b",\n\t", b"\n]\n") if output_format == "json" else (b"", b"\n", b"\n")
    )
    with ExitStack() as stack:
        files = [_records(stack.enter_context(part.open("rb")), quoted=quoted) for part in parts]
        file = stack.enter_context(target.open("wb"))
        file.write(lead)
        rows = map(joined, zip(*files, strict=True))
        for number, row in enumerate(rows):
            file.write(between + row if number else row)
            if number % ROWS_AT_ONCE == 0:
                engine.keep_time()
                engine.keep_size(target)
        file.write(end)
    for part in parts:
        part.unlink()


def _records(lines: Iterator[bytes], *, quoted: bool) -> Iterator[bytes]:
    """Lines, or several of them where a cell in quotes has line breaks."""
    for line in lines:
        record = line
        while quoted and record.count(b'"') % 2:
            record += next(lines)
        yield record.removesuffix(b"\n")


def _cells(parts: Sequence[bytes]) -> bytes:
    return b",".join(parts)


def _fields(parts: Sequence[bytes]) -> bytes:
    return b"{" + b",".join(part[1:-1] for part in parts) + b"}"
