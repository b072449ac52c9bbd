"""Times as RQ writes them, and as our own keys have them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime


def rq_time(text: bytes | None) -> datetime | None:
    """A time as RQ writes it; None where there is none that can be read."""
    with contextlib.suppress(ValueError):
        found = datetime.strptime((text or b"").decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
        return found.replace(tzinfo=UTC)
    return None


def from_us(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(
        microsecond=microseconds % 1_000_000
    )
