"""What a job was asked to keep to, as it is handed in and as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Concurrency(NamedTuple):
    """At most `limit` jobs of this key run at once. `key` is the client's word for it."""

    key: str
    limit: int


@dataclass(slots=True)
class Notify:
    """Who is to hear of a job's outcome, and of which; `locale` None: the default one."""

    emails: list[str]
    on: list[str]
    locale: str | None
    has_link: bool = False
