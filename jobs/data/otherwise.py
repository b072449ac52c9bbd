"""What to do with a file that could not be read: another way to read it, or the error."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace

from jobs.data import beginning, lines, packed, quotes, source
from jobs.data.deadline import Deadline
from jobs.data.faults import UnreadableError
from jobs.data.params import QueryParams, SourceParams
from jobs.data.reading import Manner
from jobs.data.source import Source
from jobs.errors import JobError, PermanentError

# Between two looks at the clock.
_ROWS_AT_ONCE = 4096
# A byte that could not be decoded.
_SURROGATE = re.compile("[\udc80-\udcff]")


def otherwise(
    error: UnreadableError, found: Source, manner: Manner, params: SourceParams, deadline: Deadline
) -> tuple[Source, Manner]:
    """Another way to read the file. Raises the error of the job where there is none left."""
    if error.encoding and found.encoding == "utf-8" and params.encoding is None:
        return source.guess_single_byte(found), manner
    is_guess = params.quote is None and not beginning.shows_quotes(found, params.delimiter)
    is_blamed = error.rows and not manner.serial
    if is_blamed and ((is_guess and error.quotes) or _has_lines_in_quotes(found, params, deadline)):
        # Its pieces may have been cut within a cell: all that it is blamed for may be of that.
        return found, replace(manner, serial=True)
    if is_guess and error.follows and params.ragged != "pad":
        # As text they cut no cell, or the rows are of different lengths.
        return found, replace(manner, serial=False, literal=error)
    if error.rows and not error.types and manner.literal is not None:
        raise manner.literal.error from None
    if error.ends and not found.is_uneven and _ends_vary(found, params, deadline):
        return replace(found, is_uneven=True), manner
    if not error.types or error.column in (params.types or {}):
        raise _placed(error, found, manner, deadline) from None
    if not manner.whole:
        return found, replace(manner, whole=True)
    if error.column not in {None, *manner.texts}:
        # Days in two forms, say, pass for days.
        return found, replace(manner, texts=manner.texts | {str(error.column)})
    if not isinstance(params, QueryParams):
        raise _placed(error, found, manner, deadline) from None
    # Its types fit each row by now: it is the SQL that wants others.
    raise PermanentError(str(error), code="sql_error") from None


def _placed(error: UnreadableError, file: Source, manner: Manner, deadline: Deadline) -> JobError:
    """What the job fails with: one reader (DuckDB 2.0) counts rows, where others count lines."""
    if error.encoding:
        return _undecodable(error, file, deadline)
    is_row = error.row is not None and manner.serial and manner.literal is None
    if not is_row or not error.options:
        return error.error
    dialect, comment = lines.dialect(error.options), error.options.get("comment", "")
    # What cannot be read, or not in time, keeps the number that it has.
    opened = io.TextIOWrapper(file.open(), file.encoding, "surrogateescape", newline="")
    with contextlib.suppress(PermanentError, UnicodeError), opened as text:
        for number, row in enumerate(lines.rows(text, dialect, comment), 1):
            if number % _ROWS_AT_ONCE == 0:
                deadline.keep()
            if number == error.row:
                message = str(error.error).replace(f"line {number}", f"line {row.line}", 1)
                return PermanentError(message, code=error.error.code)
    return error.error


def _undecodable(error: UnreadableError, file: Source, deadline: Deadline) -> JobError:
    """The same with the line of its first byte that is of another encoding: below lines that it
    passes over DuckDB (2.0) miscounts those that end in CRLF."""
    opened = io.TextIOWrapper(file.open(), file.encoding, "surrogateescape", newline="")
    with contextlib.suppress(PermanentError, UnicodeError), opened as text:
        for number, line in lines.numbered(text):
            if number % _ROWS_AT_ONCE == 0:
                deadline.keep()
            if _SURROGATE.search(line) is not None:
                message = re.sub(r"^line \d+", f"line {number}", str(error.error))
                return PermanentError(message, code=error.error.code)
    return error.error


def _ends_vary(file: Source, params: SourceParams, deadline: Deadline) -> bool:
    quote = '"' if params.quote is None else params.quote
    return b"\r\n" in file.sample or len(lines.ends_of(file, quote.encode(), deadline)) > 1


def _has_lines_in_quotes(file: Source, params: SourceParams, deadline: Deadline) -> bool:
    quote = '"' if params.quote is None else params.quote
    if file.kind not in {"csv", "tsv"} or not quote:
        return False
    with packed.named_faults(file.compression), file.open() as unpacked:
        return quotes.have_lines(unpacked, quote.encode(), deadline)
