"""Quotes of a CSV file that one reader reads, from the first row to the last.

Behind one that is not closed, DuckDB (2.0) then leaves out all rows, or takes them for one cell;
where lines of any length are allowed, it leaves out what follows one that is closed. Of all that
it says nothing. Several readers notice it, as each begins with a row of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from jobs.data import lines
from jobs.data.deadline import Deadline
from jobs.data.faults import UNCLOSED, UnreadableError
from jobs.data.quoting import Grammar
from jobs.data.source import Source
from jobs.errors import PermanentError

_PIECE_BYTES = 1024 * 1024
# Between two looks at the clock.
_LINES_AT_ONCE = 4096
# DuckDB (2.0) leaves it out there, and joins rows, where lines may be of any length.
_BARE = "{0} outside quotes, which is an escape within them, cannot be read where rows are padded"


class _Fault(NamedTuple):
    """`follows`: the row is one line, and something follows a cell in quotes."""

    line: int
    why: str
    follows: bool = False


def have_lines(file: BinaryIO, quote: bytes, deadline: Deadline) -> bool:
    """Whether some lines end within quotes."""
    is_open = False
    while piece := file.read(_PIECE_BYTES):
        deadline.keep()
        parts = piece.split(quote)
        inside = parts[0 if is_open else 1 :: 2]
        if any(b"\n" in each or b"\r" in each for each in inside):
            return True
        is_open ^= len(parts) % 2 == 0
    return False


def are_broken(text: str, options: dict[str, Any], deadline: Deadline) -> bool:
    """Whether that is plain by the beginning of a file."""
    numbered = enumerate(io.StringIO(text, newline=""), 1)
    fault, _ = _look(_in_time(numbered, deadline), options)
    return fault is not None


def check(source: Source, options: dict[str, Any], deadline: Deadline) -> None:
    """Of a file read with these options of `read_csv`. Raises UnreadableError naming the line of a
    row whose quotes are broken, or that is too long; PermanentError when the time is over."""
    if not options["quote"] or not _has(source, options["quote"].encode(), deadline):
        return
    # What is no UTF-8 is named by who reads the cells.
    with io.TextIOWrapper(source.open(), source.encoding, "surrogateescape", newline="") as text:
        fault, begins = _look(_in_time(lines.numbered(text), deadline), options)
    if begins and fault is None:
        fault = _Fault(begins, UNCLOSED)
    if fault is not None:
        error = PermanentError(f"line {fault.line}: {fault.why}", code="bad_source")
        follows = fault.follows and not _are_needed(source, options, deadline)
        raise UnreadableError(error, follows=follows)


def _in_time(numbered: Iterable[tuple[int, str]], deadline: Deadline) -> Iterator[tuple[int, str]]:
    for number, line in numbered:
        if number % _LINES_AT_ONCE == 0:
            deadline.keep()
        yield number, line


def _are_needed(source: Source, options: dict[str, Any], deadline: Deadline) -> bool:
    """Whether some cell could not be read without them: as text they would cut it, or change it."""
    quote, delimiter = options["quote"], options["delim"]
    grammar = Grammar(delimiter, quote, options["escape"])
    with io.TextIOWrapper(source.open(), source.encoding, "surrogateescape", newline="") as text:
        for _, line in _in_time(lines.numbered(text), deadline):
            is_open = grammar.leaves_open(line, is_open=False) if quote in line else False
            if is_open:
                return True
            if is_open is None or quote not in line:
                continue
            if any(delimiter in cell or quote in cell for cell in grammar.quoted(line)):
                return True
    return False


def _look(
    numbered: Iterable[tuple[int, str]], options: dict[str, Any]
) -> tuple[_Fault | None, int]:
    """The first fault, and the line of a row that has not ended with the last one, or 0."""
    quote, most_bytes = options["quote"], options["max_line_size"]
    comment, skipped = options.get("comment") or None, options.get("skip", 0)
    is_loose = options.get("strict_mode") is False
    grammar = Grammar(options["delim"], quote, options["escape"])
    begins, row_bytes, passed = 0, 0, 0
    for number, line in numbered:
        if begins:
            row_bytes += _size_bytes(line)
            if row_bytes > most_bytes:
                why = f"a quote is not closed, or the row has more than {most_bytes} bytes"
                return _Fault(begins, why), begins
        if not begins and comment is not None and line.startswith(comment):
            continue
        if passed < skipped:
            passed += 1
            continue
        if is_loose and grammar.has_bare_escape(line, is_open=bool(begins)):
            return _Fault(number, _BARE.format(options["escape"])), begins
        if quote not in line:
            continue
        is_open = grammar.leaves_open(line, is_open=bool(begins))
        if is_open is None:
            return _Fault(begins or number, UNCLOSED, follows=not begins), begins
        if not is_open:
            begins = 0
        elif not begins:
            begins, row_bytes = number, _size_bytes(line)
    return None, begins


def _size_bytes(line: str) -> int:
    return len(line.encode(errors="surrogateescape"))


def _has(source: Source, quote: bytes, deadline: Deadline) -> bool:
    with source.open() as file:
        while piece := file.read(_PIECE_BYTES):
            deadline.keep()
            if quote in piece:
                return True
    return False
