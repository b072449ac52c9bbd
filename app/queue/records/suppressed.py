"""Addresses that get no mail any more, as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that a server refused for good; None: what Redis has of it cannot be read."""

    address: str
    since: datetime | None
    until: datetime
    code: int | None
    reply: str | None


@dataclass(frozen=True, slots=True)
class SuppressionPage:
    """Suppressed addresses, the latest first. `next_cursor` None: there are no more."""

    data: list[Suppression]
    next_cursor: str | None
