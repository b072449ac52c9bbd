"""Where the jobs of a time stand in an index of ids: each begins with when it was made, nearly."""

from __future__ import annotations

from datetime import datetime

from app.queue.records.views import JobFilter

# An id is made before its job is, by a clock of its own: so much earlier than `created_at` for who
# waited for Redis, or in a large batch, and so much later where that clock is ahead of Redis'.
EARLIER_SECONDS = 60
LATER_SECONDS = 5
_LATEST_US = 2**52 - 1


def bounds(wanted: JobFilter, cursor: str | None) -> tuple[str | None, str | None]:
    """What the entries are below, and what they are not below; the records tell of those near."""
    first, last = cursor, None
    if wanted.created_before is not None:
        bound = _bound(wanted.created_before, LATER_SECONDS)
        first = bound if cursor is None or bound < cursor else cursor
    if wanted.created_after is not None:
        last = _bound(wanted.created_after, -EARLIER_SECONDS)
    return first, last


def near(entries: list[str], wanted: JobFilter) -> list[str]:
    """Ids too close to a bound to tell on which side of it their jobs were made."""
    spans = [
        (_bound(at, -EARLIER_SECONDS), _bound(at, LATER_SECONDS))
        for at in (wanted.created_after, wanted.created_before)
        if at is not None
    ]
    if not spans:
        return []
    return [each for each in entries if any(low <= each < high for low, high in spans)]


def is_made_between(at: datetime, wanted: JobFilter) -> bool:
    if wanted.created_after is not None and at < wanted.created_after:
        return False
    return wanted.created_before is None or at < wanted.created_before


def _bound(at: datetime, more_seconds: int) -> str:
    """Where ids of that time, and so many seconds, begin; see new_job_id."""
    microseconds = round((at.timestamp() + more_seconds) * 1_000_000)
    return f"{min(max(0, microseconds), _LATEST_US):013x}"
