"""Which page of a list is asked for, and the links to its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_PER_PAGE = 200
LAST_PAGE = 10_000_000
LINKS = 10


class BadPageError(ValueError):
    """The page or its size is not a number within bounds."""


@dataclass(frozen=True, slots=True)
class Page:
    """Counted from 1."""

    number: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    def links(self, total: int, url: Callable[[int], str]) -> dict[str, Any]:
        """The `pagination` object of rq-dashboard's lists."""
        last = -(-total // self.per_page)
        first_shown = max(1, min(last - LINKS + 1, self.number - LINKS // 2))
        shown = range(first_shown, min(last, first_shown + LINKS - 1) + 1)
        links: dict[str, Any] = {
            "current_page": self.number,
            "num_pages": last,
            "pages_in_window": [{"number": number, "url": url(number)} for number in shown],
            "first_page": {"url": url(1)},
            "last_page": {"url": url(max(1, last))},
        }
        if self.number > 1:
            links["prev_page"] = {"url": url(self.number - 1)}
        if self.number < last:
            links["next_page"] = {"url": url(self.number + 1)}
        return links


def parse_page(number: str, per_page: str) -> Page:
    """Raises BadPageError. `per_page` has a bound: 100,000 rows took half a minute."""
    return Page(
        _bounded(number, "page", LAST_PAGE),
        _bounded(per_page, "per_page", MOST_PER_PAGE),
    )


def _bounded(text: str, name: str, most: int) -> int:
    sane = text.isascii() and text.isdigit() and len(text) <= 12
    if not sane or not 1 <= int(text) <= most:
        raise BadPageError(f"{name} is a whole number from 1 to {most}.")
    return int(text)
