"""The lines of a text file, and the rows of one that is CSV, each with its number from 1."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from jobs.data.packed import named_faults
from jobs.data.source import Source
from jobs.errors import PermanentError

# As large as an object of JSON may be to DuckDB (2.0): a line is held as a whole.
MAX_CHARACTERS = 16 * 1024 * 1024

# DuckDB's own limit, which it keeps by leaving out the rest of some files (2.0).
MAX_BYTES = 2_000_000
_LOOK_BYTES = 64 * 1024
# Shorter than the longest line: none is longer within a piece.
_PIECE_BYTES = 1024 * 1024


def check_lengths(source: Source, packed_bytes: int) -> None:
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
    number = _first_longer(source, most_bytes)
    if number is not None:
        raise PermanentError(
            f"line {number}: it has more than {most_bytes} bytes", code="bad_source"
        )


def _first_longer(source: Source, most_bytes: int) -> int | None:
    """The number of the first line that has more bytes."""
    number, size_bytes = 1, 0
    with named_faults(source.compression), source.open() as file:
        while piece := file.read(_PIECE_BYTES):
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


def rows(
    text: TextIO, dialect: dict[str, Any], comment: str = ""
) -> Iterator[tuple[int, list[str]]]:
    """Each with the line that it begins in; empty for a blank line, and the mark alone for a
    comment. Raises PermanentError naming the line of a row that cannot be read."""
    csv.field_size_limit(MAX_CHARACTERS)
    is_over, is_within = False, False

    def lines_and_one_more() -> Iterator[str]:
        nonlocal is_over, is_within
        line = ""
        for _, line in numbered(text):
            is_comment = bool(comment) and not is_within and line.startswith(comment)
            is_within = True
            yield f"{comment}\n" if is_comment else line
        is_over = not _ends_with_escape(line, dialect.get("escapechar"))
        if is_over:
            # A row of its own, unless it is within quotes.
            yield "\n"

    reader = csv.reader(lines_and_one_more(), **dialect)
    begins = 1
    try:
        for row in reader:
            if not is_over:
                yield begins, row
            elif begins < reader.line_num:
                raise PermanentError(f"line {begins}: a quote is not closed", code="bad_source")
            begins, is_within = reader.line_num + 1, False
    except csv.Error as error:
        why = f"a cell has more than {MAX_CHARACTERS} characters"
        if "field limit" not in str(error):
            why = str(error)
        raise PermanentError(f"line {begins}: {why}", code="bad_source") from None


def _ends_with_escape(line: str, escape: str | None) -> bool:
    if escape is None:
        return False
    cells = line.rstrip("\r\n")
    return (len(cells) - len(cells.rstrip(escape))) % 2 == 1
