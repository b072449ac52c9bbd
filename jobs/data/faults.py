"""What DuckDB and the file complain of, as errors of ours: for good, with a code, and without
what is not the client's to know."""

from __future__ import annotations

import re
from typing import Any

import duckdb

from jobs.errors import JobError, PermanentError, RetryLater

MAX_MESSAGE = 1_000
_ENCODING = re.compile(r"not utf-8 encoded|invalid unicode|Invalid UTF-?8|Malformed JSON.*invalid")
_MISFIT = re.compile(r"Error when converting column|JSON transform error")
_OF_SOURCE = re.compile(
    r"CSV Error|Malformed JSON|JSON transform error|magic bytes|[Pp]arquet|Thrift|TProtocol"
    r"|Data corruption|JSON exceeds maximum recursion depth"
    r"|not utf-8 encoded|[Ss]nappy|ZSTD|zstd|[Gg]zip|GZIP|maximum_object_size|sniff|Invalid Input"
    r" Error: Error when|Maximum line size"
)
_TOO_LONG = re.compile(r"Maximum line size of (\d+) bytes exceeded")
_UNTERMINATED = "Value with unterminated quote found"
UNCLOSED = "a quote is not closed, or more follows it"
_NO_OBJECT = re.compile(r"in (line|record/value) (\d+): Expected OBJECT, but got")
_STATE = "CSV Parser state machine reached an invalid state"
# It looks for the first row of each piece, and then finds that the pieces do not fit together.
_APART = "The Parallel CSV Reader currently does not support"
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_NO_PARQUET = re.compile(
    r"magic bytes|too small to be a Parquet|Footer length error|Prefetch registered for bytes"
)
_JSON_PLACE = re.compile(r"(?<=\d )in (line|record/value) (\d+)")
_COLUMN = re.compile(r'converting column "((?:[^"\\]|\\.)*)"')
_CELLS = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_QUOTED_PATH = re.compile(r"[\"']?(?<![\w.])/[^\s\"',;)]+[\"']?")
# How its users would have it read on.
_ADVICE = re.compile(r"\n+Try [^\n]*|[,.;]? +[Tt]ry [^\n]*ignore_errors[^\n]*")
_FULL_DISK = re.compile(r"No space left on device|File too large|Disk quota exceeded")
_DISK = re.compile(r"max_temp_directory_size|temp(orary)? (directory|file|storage)|offload")


class UnreadableError(Exception):
    """The file cannot be read so; it may be in another way.

    `encoding`: it is not in UTF-8. `types`: what comes later does not fit the types of what came
    first; `column` is where, if that is known. `ends`: its lines may end in several ways. `rows`:
    one of CSV could not be read; `quotes`: those of one are broken; `follows`: something follows a
    cell in quotes, if they are quotes. `row` is its number, where `error`, which the job fails
    with, has that for its line.
    """

    def __init__(
        self,
        error: JobError,
        *,
        encoding: bool = False,
        types: bool = False,
        column: str | None = None,
        ends: bool = False,
        rows: bool = False,
        quotes: bool = False,
        follows: bool = False,
        row: int | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.encoding = encoding
        self.types = types
        self.column = column
        self.ends = ends
        self.rows = rows
        self.quotes = quotes
        self.follows = follows
        self.row = row
        # Those of `read_csv` it was read with, as far as they are known.
        self.options: dict[str, Any] = {}


class LimitError(Exception):
    """A run was cut short by its watch; `error` says which limit it met."""

    def __init__(self, error: JobError) -> None:
        super().__init__(str(error))
        self.error = error


def of_duckdb(error: BaseException, *, is_sql: bool = False) -> JobError | UnreadableError:
    """What an error of DuckDB's means for the job; `is_sql`: the client's SQL was running, which
    what it does not tell apart may come from. Else it comes from the file."""
    meant = _of_message(error)
    if not is_sql and isinstance(meant, PermanentError) and meant.code == "sql_error":
        return PermanentError(describe_source(str(error)), code="bad_source")
    return meant


def _of_message(error: BaseException) -> JobError | UnreadableError:
    message = str(error)
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError):
        if _DISK.search(message) is not None and "max_temp_directory_size" in message:
            return PermanentError("it needs more temporary disk than a job has", code="temp_disk")
        return PermanentError("it needs more memory than a job has", code="memory")
    if "bad_alloc" in message or "failed to allocate" in message.lower():
        return PermanentError("it needs more memory than a job has", code="memory")
    if isinstance(error, duckdb.IOException) and _FULL_DISK.search(message) is not None:
        return RetryLater("the disk of the worker is full", code="temp_disk")
    if isinstance(error, duckdb.PermissionException):
        return PermanentError(
            "the SQL may not reach files, the network or settings", code="sql_forbidden"
        )
    if message.startswith("Conversion Error: Could not convert"):
        return PermanentError(tidy(message), code="sql_error")
    if _STATE in message or _APART in message:
        return UnreadableError(
            PermanentError("its quotes or line ends are not those of CSV", code="bad_source"),
            ends=True,
            rows=True,
        )
    if _OF_SOURCE.search(message) is not None:
        column, line = _COLUMN.search(message), _LINE.search(message)
        return UnreadableError(
            PermanentError(describe_source(message), code="bad_source"),
            encoding=_ENCODING.search(message) is not None,
            types=_MISFIT.search(message) is not None and "duplicate key" not in message,
            column=column[1] if column is not None else None,
            ends=_UNTERMINATED in message,
            rows="CSV Error" in message,
            quotes=_UNTERMINATED in message,
            row=int(line[1]) if line is not None else None,
        )
    return PermanentError(tidy(message), code="sql_error")


def is_too_long(error: BaseException) -> bool:
    """Whether a row of CSV has more bytes than it may: which one, DuckDB (2.0) says wrongly."""
    return _TOO_LONG.search(str(error)) is not None


def describe_source(message: str) -> str:
    """Line and column first, where they are known; nothing of how it was read."""
    message = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", message)
    message = _ADVICE.sub("", message.partition("\n\nLINE ")[0])
    if "Unexpected end of GZIP" in message:
        return "the gzip file is cut off"
    too_long = _TOO_LONG.search(message)
    if too_long is not None:
        return f"a line has more than {too_long[1]} bytes"
    no_object = _NO_OBJECT.search(message)
    if no_object is not None:
        return f"{'line' if no_object[1] == 'line' else 'row'} {no_object[2]}: it is no object"
    line = _LINE.search(message)
    place = f"line {line[1]}" if line is not None else ""
    column = _COLUMN.search(message)
    if column is not None:
        place += f", column {column[1]}"
    cells = _CELLS.search(message)
    if cells is not None:
        return f"{place}: {cells[2]} cells, {cells[1]} were expected"
    if "not utf-8 encoded" in message:
        return f"{place}: the file is not UTF-8; tell its `encoding`"
    if line is not None and _UNTERMINATED in message:
        return f"{place}: {UNCLOSED}"
    if line is not None:
        lines = [
            each for each in message.splitlines() if not each.startswith(("CSV Error", "Orig"))
        ]
        reason = (lines[0] if lines else message).strip()
        reason = re.sub(r'^Error when converting column "[^"]*"\. ', "", reason)
        return tidy(f"{place}: {reason}")
    if _NO_PARQUET.search(message) is not None:
        return "the file is no Parquet file, or cut short"
    if "encryption_config" in message:
        return "the Parquet file is encrypted"
    if "TProtocolException" in message or "don't know what type" in message:
        return "the footer of the Parquet file is damaged"
    # It counts lines and objects of broken JSON from 2 (DuckDB 2.0).
    message = _JSON_PLACE.sub(lambda found: f"in {found[1]} {int(found[2]) - 1}", message)
    return tidy(message).replace(" in file the file,", "").replace("file the file", "the file")


def tidy(message: str) -> str:
    """Without paths of this machine and where in DuckDB it was, and of a bounded length."""
    message = _QUOTED_PATH.sub("the file", message.partition("\n\nStack Trace")[0]).strip()
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"
