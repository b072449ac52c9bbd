"""The lines of a text file, and the rows of one that is CSV, each with its number from 1."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple, TextIO

from jobs.data.deadline import Deadline
from jobs.data.faults import UNCLOSED
from jobs.data.packed import named_faults
from jobs.data.quoting import Grammar
from jobs.data.source import Source
from jobs.errors import PermanentError

# As large as an object of JSON may be to DuckDB (2.0): a line is held as a whole.
MAX_CHARACTERS = 16 * 1024 * 1024

# DuckDB's own limit, which it keeps by leaving out the rest of some files (2.0).
MAX_BYTES = 2_000_000
_LOOK_BYTES = 64 * 1024
# Shorter than the longest line: none is longer within a piece.
_PIECE_BYTES = 1024 * 1024


def check_lengths(source: Source, packed_bytes: int, deadline: Deadline) -> None:
    """Raises PermanentError for a line that is too long: with more than `packed_bytes` in a file
    that is packed.

    In one that is not, such a line fills a block of half its length, wherever it stands, so a few
    bytes of each block say that there is none.
    """
    most_bytes = packed_bytes if source.compression != "none" else MAX_BYTES
    if source.compression == "none":
        with source.path.open("rb") as file:
            blocks = range(0, file.seek(0, os.SEEK_END) - MAX_BYTES // 2 + 1, MAX_BYTES // 2)
            if all(_has_end(file, start) for start in blocks):
                return
    number = _first_longer(source, most_bytes, deadline)
    if number is not None:
        raise PermanentError(
            f"line {number}: it has more than {most_bytes} bytes", code="bad_source"
        )


def _first_longer(source: Source, most_bytes: int, deadline: Deadline) -> int | None:
    """The number of the first line that has more bytes."""
    number, size_bytes = 1, 0
    with named_faults(source.compression), source.open() as file:
        while piece := file.read(_PIECE_BYTES):
            deadline.keep()
            ends = [at for at in map(piece.find, (b"\n", b"\r")) if at >= 0]
            if size_bytes + min(ends, default=len(piece)) > most_bytes:
                return number
            number += max(map(piece.count, (b"\n", b"\r")))
            behind = len(piece) - 1 - max(map(piece.rfind, (b"\n", b"\r")))
            size_bytes = behind if ends else size_bytes + len(piece)
    return None


def _has_end(file: BinaryIO, start: int) -> bool:
    """Whether a line ends in this block."""
    end = start + MAX_BYTES // 2
    for at in range(start, end, _LOOK_BYTES):
        piece = os.pread(file.fileno(), min(_LOOK_BYTES, end - at), at)
        if b"\n" in piece or b"\r" in piece:
            return True
    return False


def evened(source: Source, quote: str | None) -> Source:
    """The same, to be read with lines that all end alike where those of its beginning do not:
    DuckDB (2.0) takes the end of the first, which may stand above the table, for that of all."""
    if source.kind not in {"csv", "tsv"}:
        return source
    # Behind the last line may be the half of an end.
    sample = source.sample.decode(source.encoding, "ignore").encode().rstrip(b"\r\n")
    ends = _ends([sample], (quote if quote is not None else '"').encode())
    # Behind a mark of UTF-8 it sees no comment in the first line.
    is_hidden = source.encoding == "utf-8-sig" and sample.startswith(b"#")
    return replace(source, is_uneven=is_hidden or len(ends) > 1)


def ends_of(source: Source, quote: bytes, deadline: Deadline) -> set[bytes]:
    """In which ways its lines end, outside quotes."""

    def pieces() -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            deadline.keep()
            yield piece

    with named_faults(source.compression), source.open() as file:
        return _ends(pieces(), quote)


def _ends(pieces: Iterable[bytes], quote: bytes) -> set[bytes]:
    kinds: set[bytes] = set()
    held, is_open = b"", False
    for each in pieces:
        piece = held + each
        held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece.removesuffix(b"\r")
        parts = piece.split(quote) if quote else [piece]
        outside = b" ".join(parts[int(is_open) :: 2])
        both = outside.count(b"\r\n")
        counts = {b"\r\n": both, b"\r": outside.count(b"\r") - both}
        counts[b"\n"] = outside.count(b"\n") - both
        kinds |= {kind for kind, count in counts.items() if count}
        is_open ^= len(parts) % 2 == 0
    return kinds | {held} - {b""}


def numbered(text: TextIO) -> Iterator[tuple[int, str]]:
    """Raises PermanentError for a line that is too long."""
    number = 1
    while line := text.readline(MAX_CHARACTERS + 1):
        if len(line) > MAX_CHARACTERS:
            raise PermanentError(
                f"line {number}: it has more than {MAX_CHARACTERS} characters", code="bad_source"
            )
        yield number, line
        number += 1


class Row(NamedTuple):
    """A row of CSV and the line that it begins in; no cells for a blank line. `broken`: its last
    line, if its quotes are broken."""

    line: int
    cells: list[str]
    broken: str | None = None
    is_comment: bool = False


def dialect(options: dict[str, Any]) -> dict[str, Any]:
    """For Python's csv, what options of `read_csv` say."""
    quote, escape = options["quote"], options["escape"]
    return {
        "delimiter": options["delim"],
        "quotechar": quote or None,
        "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        "doublequote": escape in {quote, ""},
        "escapechar": escape if escape not in {quote, ""} else None,
    }


def rows(text: TextIO, dialect: dict[str, Any], comment: str = "") -> Iterator[Row]:
    """As DuckDB has them. Raises PermanentError naming the line of one that cannot be read, or is
    not closed."""
    csv.field_size_limit(MAX_CHARACTERS)
    fed = _Fed(text, dialect, comment)
    reader = csv.reader(fed, **dialect)
    begins = 1
    try:
        for row in reader:
            if not fed.is_over:
                yield Row(begins, row, fed.broken, fed.is_comment)
            elif begins < reader.line_num:
                raise PermanentError(f"line {begins}: a quote is not closed", code="bad_source")
            begins = reader.line_num + 1
            fed.begin()
    except csv.Error as error:
        why = f"a cell has more than {MAX_CHARACTERS} characters"
        if "field limit" not in str(error):
            why = str(error)
        raise PermanentError(f"line {begins}: {why}", code="bad_source") from None


def whole_rows(text: TextIO, dialect: dict[str, Any]) -> Iterator[Row]:
    """The same. Raises PermanentError for one whose quotes are broken, too."""
    for row in rows(text, dialect):
        if row.broken is not None:
            raise PermanentError(f"line {row.line}: {UNCLOSED}", code="bad_source")
        yield row


class _Fed:
    """Lines for Python's csv, and one more to notice a quote that is not closed."""

    def __init__(self, text: TextIO, dialect: dict[str, Any], comment: str) -> None:
        self._lines = (line for _, line in numbered(text))
        self._comment = comment
        self._escape = dialect.get("escapechar")
        self._grammar = None
        if dialect.get("quoting") != csv.QUOTE_NONE:
            quote = dialect["quotechar"]
            self._grammar = Grammar(dialect["delimiter"], quote, self._escape or quote)
        self._last = ""
        self._is_within = False
        self._is_open = False
        self.is_over = False
        self.is_comment = False
        self.broken: str | None = None

    def begin(self) -> None:
        """A row is complete: what comes now is another's."""
        self._is_within = self._is_open = self.is_comment = False
        self.broken = None

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if self._comment and not self._is_within and line.startswith(self._comment):
                self._is_within = self.is_comment = True
                yield f"{self._comment}\n"
                continue
            self._is_within = True
            self._last = self._judged(line)
            yield self._last
        self.is_over = not _ends_with_escape(self._last, self._escape)
        if self.is_over:
            # A row of its own, unless it is within quotes.
            yield "\n"

    def _judged(self, line: str) -> str:
        """What csv is to read in its place."""
        grammar, was_open = self._grammar, self._is_open
        if grammar is None:
            return line
        if grammar.quote in line:
            is_open = grammar.leaves_open(line, is_open=was_open)
            if is_open is None:
                self.broken = line
                return f"{grammar.quote if was_open else ''}\n"
            self._is_open = is_open
        return grammar.for_csv(line, is_open=was_open)


def _ends_with_escape(line: str, escape: str | None) -> bool:
    if escape is None:
        return False
    cells = line.rstrip("\r\n")
    return (len(cells) - len(cells.rstrip(escape))) % 2 == 1
