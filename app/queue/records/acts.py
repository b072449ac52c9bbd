"""Who did what: the audit trail as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """An entry of the audit trail: who did what to whom. `detail` holds facts, no values."""

    at: datetime
    key: str
    action: str
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ActPage:
    """Acts, the latest first. `next_cursor` None: there are no more."""

    data: list[Act]
    next_cursor: str | None
