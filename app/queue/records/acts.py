"""Who did what: the audit trail as it is shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Act(NamedTuple):
    """An entry of the audit trail: who did what to whom. `detail` holds facts, no values."""

    at: datetime
    key: str
    action: str
    target: str
    detail: dict[str, Any]


class ActPage(NamedTuple):
    """Acts, the latest first. `next_cursor` None: there are no more."""

    data: list[Act]
    next_cursor: str | None
