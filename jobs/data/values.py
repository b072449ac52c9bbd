"""Rows as JSON that every client reads alike."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

# What a double holds exactly: JSON numbers beyond it lose digits in many a client.
MAX_EXACT = 2**53 - 1
EXACT_DIGITS = 15
# Of all rows of a result together; a result is part of the job's record.
MAX_ROWS_BYTES = 600 * 1024


def parse(text: str) -> Any:
    """JSON of DuckDB's as Python's values: numbers that a double does not hold are strings, those
    that are none are None."""
    return json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=lambda _: None)


def _integer(text: str) -> int | str:
    if len(text) > EXACT_DIGITS and abs(int(text)) > MAX_EXACT:
        return text
    return int(text)


def _number(text: str) -> float | str | None:
    if len(text) > EXACT_DIGITS:
        exact, near = Decimal(text), float(text)
        # A double is written with the digits that it needs; what has others is no double.
        if Decimal(repr(near)) != exact:
            return text
    number = float(text)
    return number if math.isfinite(number) else None


def that_fit(rows: list[Any], beside: list[Any] | None = None) -> list[Any]:
    """The first of them, as many as a result has room for, with what stands beside them."""
    size_bytes, fitting = sum(map(_size_bytes, beside or [])), []
    for row in rows:
        size_bytes += _size_bytes(row)
        if size_bytes > MAX_ROWS_BYTES:
            break
        fitting.append(row)
    return fitting


def _size_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode()) + 2
