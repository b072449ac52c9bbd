"""Conditional and range requests (RFC 9110, 13 and 14): headers in, a decision out."""

from __future__ import annotations

import re

from app.http.faults import RangeNotSatisfiableError

# More digits than any file has: int() refuses thousands of them.
_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_TAG = re.compile(rb'(?:W/)?"[^"]*"|\*')


def none_match_holds(if_none_match: bytes | None, etag: bytes) -> bool:
    """False: the client has this very content already (304). Compares weakly (13.1.2)."""
    if if_none_match is None:
        return True
    tags = {tag.removeprefix(b"W/") for tag in _TAG.findall(if_none_match)}
    return etag not in tags and b"*" not in tags


def wanted_range(
    value: bytes | None, if_range: bytes | None, etag: bytes, size_bytes: int
) -> tuple[int, int] | None:
    """From byte, up to but not byte; None: all of it.

    Several ranges, other units and what cannot be read are answered with all of it (14.2), as
    is a range of other content (`If-Range` compares strongly, and we send no dates). Raises
    RangeNotSatisfiableError.
    """
    if value is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size_bytes)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiableError(size_bytes)
    return start, min(int(last) + 1, size_bytes) if last else size_bytes


def _suffix(count: bytes, size_bytes: int) -> tuple[int, int] | None:
    if not count:
        return None
    if int(count) == 0 or size_bytes == 0:
        raise RangeNotSatisfiableError(size_bytes)
    return max(0, size_bytes - int(count)), size_bytes
