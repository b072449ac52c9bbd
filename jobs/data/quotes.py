"""Quotes of a CSV file that one reader reads, from the first row to the last.

Behind one that is not closed, DuckDB (2.0) then leaves out all rows, or takes them for one cell;
where lines of any length are allowed, it leaves out what follows one that is closed. Of all that
it says nothing. Several readers notice it, as each begins with a row of its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

from jobs.data import lines
from jobs.data.source import Source
from jobs.errors import PermanentError

_PIECE_BYTES = 1024 * 1024
_BROKEN = "a quote is not closed, or more follows it"


class _Fault(NamedTuple):
    line: int
    why: str


def have_lines(file: BinaryIO, quote: bytes) -> bool:
    """Whether some lines end within quotes."""
    is_open = False
    while piece := file.read(_PIECE_BYTES):
        parts = piece.split(quote)
        inside = parts[0 if is_open else 1 :: 2]
        if any(b"\n" in each or b"\r" in each for each in inside):
            return True
        is_open ^= len(parts) % 2 == 0
    return False


def are_broken(text: str, options: dict[str, Any]) -> bool:
    """Whether that is plain by the beginning of a file."""
    fault, _ = _look(enumerate(io.StringIO(text, newline=""), 1), options)
    return fault is not None


def check(source: Source, options: dict[str, Any]) -> None:
    """Of a file read with these options of `read_csv`. Raises PermanentError naming the line of a
    row whose quotes are broken, or that is too long."""
    if not options["quote"] or not _has(source, options["quote"].encode()):
        return
    # What is no UTF-8 is named by who reads the cells.
    with io.TextIOWrapper(source.open(), source.encoding, "surrogateescape", newline="") as text:
        fault, begins = _look(lines.numbered(text), options)
    if begins and fault is None:
        fault = _Fault(begins, _BROKEN)
    if fault is not None:
        raise PermanentError(f"line {fault.line}: {fault.why}", code="bad_source")


def _look(
    numbered: Iterable[tuple[int, str]], options: dict[str, Any]
) -> tuple[_Fault | None, int]:
    """The first fault, and the line of a row that has not ended with the last one, or 0."""
    quote, most_bytes = options["quote"], options["max_line_size"]
    comment, skipped = options.get("comment") or None, options.get("skip", 0)
    grammar = _Grammar(options)
    begins, row_bytes = 0, 0
    for number, line in numbered:
        if begins:
            row_bytes += _size_bytes(line)
            if row_bytes > most_bytes:
                why = f"a quote is not closed, or the row has more than {most_bytes} bytes"
                return _Fault(begins, why), begins
        if quote not in line or number <= skipped:
            continue
        if not begins and comment is not None and line.startswith(comment):
            continue
        is_open = grammar.leaves_open(line, is_open=bool(begins))
        if is_open is None:
            return _Fault(begins or number, _BROKEN), begins
        if not is_open:
            begins = 0
        elif not begins:
            begins, row_bytes = number, _size_bytes(line)
    return None, begins


class _Grammar:
    """Where a cell in quotes ends, as DuckDB (2.0) has it where lines are of one length: the same
    was found for 70,000 small files made by chance, with a quote or a backslash as escape."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._quote, escape = options["quote"], options["escape"]
        delimiter, quote = re.escape(options["delim"]), re.escape(self._quote)
        space = "" if options["delim"] == " " else " "
        if escape in {"", self._quote}:
            inside, cut = rf"(?:[^{quote}]|{quote}(?:{space})*+{quote})*+", ""
        else:
            escape = re.escape(escape)
            inside, cut = rf"(?:[^{quote}{escape}]|{escape}.)*+", f"{escape}?"
        # One space in front is passed over, two are not.
        begin = f"(?:{space})?{quote}"
        cell = rf"(?>{begin}{inside}{quote}(?:{space})*+|(?!{begin})[^{delimiter}\r\n]*+)"
        self._closed = re.compile(rf"{cell}(?:{delimiter}{cell})*+[\r\n]*\Z", re.DOTALL)
        self._open = re.compile(rf"(?:{cell}{delimiter})*+{begin}{inside}{cut}\Z", re.DOTALL)

    def leaves_open(self, line: str, *, is_open: bool) -> bool | None:
        """Whether the line ends within quotes, where it began so or not; None: it is broken."""
        if is_open:
            line = self._quote + line
        if self._closed.match(line) is not None:
            return False
        return None if self._open.match(line) is None else True


def _size_bytes(line: str) -> int:
    return len(line.encode(errors="surrogateescape"))


def _has(source: Source, quote: bytes) -> bool:
    with source.open() as file:
        return any(quote in piece for piece in iter(lambda: file.read(_PIECE_BYTES), b""))
