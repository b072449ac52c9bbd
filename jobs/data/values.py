"""Rows as JSON that every client reads alike."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

# What a double holds exactly: JSON numbers beyond it lose digits in many a client.
MAX_EXACT = 2**53 - 1
EXACT_DIGITS = 15
# Of all lists of a result together; a result is part of the job's record.
MAX_LIST_BYTES = 600 * 1024


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


def that_fit(result: dict[str, Any], *names: str) -> dict[str, Any]:
    """The result with as much of the lists of these names as it has room for, one after the other.
    `truncated` names those that lack something."""
    kept, cut, size_bytes = dict(result), [], 0
    for name in names:
        fitting = []
        for each in result[name]:
            more_bytes = _size_bytes(each)
            if size_bytes + more_bytes > MAX_LIST_BYTES:
                cut.append(name)
                break
            size_bytes += more_bytes
            fitting.append(each)
        kept[name] = fitting
    return kept | {"truncated": cut} if cut else kept


def _size_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode()) + 2
