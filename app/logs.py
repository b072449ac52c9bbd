"""One line an event: text for people in development, JSON for machines in production."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import PydanticSerializationError, to_json

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

# What would begin a line of its own, or tell a terminal what to do.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LEVELS = {number: name.lower() for name, number in logging.getLevelNamesMapping().items()}


def event(logger: logging.Logger, name: str, /, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event name and its fields. None is left out; no body, address, key or secret."""
    if not logger.isEnabledFor(level):
        return
    kept = {key: value for key, value in fields.items() if value is not None}
    outputs = logging.root.handlers
    output = outputs[0] if len(outputs) == 1 else None
    if isinstance(output, JsonLines) and output.takes(logger, kept):
        output.put((time.time(), level, logger.name, name, kept))
    else:
        logger.log(level, name, extra={"fields": kept})


def configure(style: Literal["text", "json"], level: str) -> None:
    """Send all logging of this process to stderr in one style. `level` is a name, any case."""
    # A line is a good part of what a submission costs: leave out what no format shows
    # (docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    output = (JsonLines if style == "json" else logging.StreamHandler)(sys.stderr)
    output.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level.upper())
    for chatty in ("asyncio", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


@contextmanager
def gathered(loop: AbstractEventLoop) -> Iterator[None]:
    """While the loop runs, in this thread: lines of one turn of it are written in one go."""
    outputs = [each for each in logging.root.handlers if isinstance(each, JsonLines)]
    for each in outputs:
        each.gather_in(loop)
    try:
        yield
    finally:
        for each in outputs:
            each.gather_in(None)


# Time, level, logger, event and fields.
_Line = tuple[float, int, str, str, dict[str, Any]]


class JsonLines(logging.StreamHandler[Any]):
    """Writes lines, those of our own events without a LogRecord: a quarter of the cost.

    What is logged in one turn of the loop that `gathered` names is written at the end of that
    turn, in one go: a call of the kernel for each line costs more than making it. A process that is
    killed loses the lines of one turn; one that ends in any other way loses none.
    """

    _loop: AbstractEventLoop | None = None

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._lines: list[_Line] = []
        self._thread = get_ident()

    def gather_in(self, loop: AbstractEventLoop | None) -> None:
        """From now on, in the thread that calls this; None: no more."""
        self._write_gathered()
        self._loop, self._thread = loop, get_ident()

    def takes(self, logger: logging.Logger, fields: dict[str, Any]) -> bool:
        """Whether a line may be written at once: nobody else hears it, and no filter adds to it.

        The only filter is the one that adds a missing request id.
        """
        return not logger.handlers and (not self.filters or "request_id" in fields)

    def put(self, line: _Line) -> None:
        if self._loop is None or get_ident() != self._thread:
            self._write([line])
            return
        if not self._lines:
            self._loop.call_soon(self._write_gathered)
        self._lines.append(line)

    def emit(self, record: logging.LogRecord) -> None:
        self._write_gathered()
        super().emit(record)

    def flush(self) -> None:
        """Also called when the interpreter ends (logging.shutdown)."""
        self._write_gathered()
        super().flush()

    def _write_gathered(self) -> None:
        if self._lines and get_ident() == self._thread:
            lines, self._lines = self._lines, []
            self._write(lines)

    def _write(self, lines: list[_Line]) -> None:
        text = "".join([_json_line(*line) + "\n" for line in lines])
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            # As a StreamHandler: a log that cannot be written must not stop the work.
            self.handleError(logging.makeLogRecord({"msg": text}))


class TextFormatter(logging.Formatter):
    """`12:34:56.789 INFO worker job_finished job_id=… attempt=2`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={_word(value)}" for key, value in _fields(record).items())
        line = f"{at} {record.levelname:<7} {record.name} {record.getMessage()}{fields}"
        line = _one_line(line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        if record.exc_info:
            fields = fields | {"traceback": self.formatException(record.exc_info)}
        name = record.getMessage()
        return _json_line(record.created, record.levelno, record.name, name, fields)


def _json_line(at: float, level: int, logger: str, name: str, fields: dict[str, Any]) -> str:
    line = {
        "at": f"{_to_the_second(int(at))}.{int(at % 1 * 1000):03d}Z",
        "level": _LEVELS.get(level, "info"),
        "logger": logger,
        "event": name,
    }
    # What the line itself says stands, whatever a field of the same name would.
    whole = line | fields if line.keys().isdisjoint(fields) else line | fields | line
    try:
        return to_json(whole, fallback=str).decode()
    except PydanticSerializationError:
        # Half a surrogate pair, which UTF-8 cannot carry but an escape can.
        return json.dumps(whole, default=str)


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _one_line(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ' "=\r\n') else text
