"""Times as RQ writes them, and as our own keys have them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

_EXAMPLE = "2026-01-31T12:00:00.000000Z"
_SIGNS = tuple(at for at, sign in enumerate(_EXAMPLE) if not sign.isdigit())


def rq_time(text: bytes | None) -> datetime | None:
    """A time as RQ writes it; None where there is none that can be read."""
    if not text:
        return None
    shown = text.decode("ascii", "replace")
    with contextlib.suppress(ValueError):
        if len(shown) == len(_EXAMPLE) and all(shown[at] == _EXAMPLE[at] for at in _SIGNS):
            # A tenth of what strptime takes, which loads the names of all months besides.
            return datetime.fromisoformat(shown)
        return datetime.strptime(shown, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return None


def from_us(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(
        microsecond=microseconds % 1_000_000
    )
