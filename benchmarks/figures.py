"""Medians with their range, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of several rounds, and how far they spread."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(median(values), min(values), max(values))

    def text(self, form: str = ",.0f", factor: float = 1.0) -> str:
        middle, low, high = (
            format(value * factor, form) for value in (self.middle, self.low, self.high)
        )
        return f"{middle} ({low}–{high})" if low != high else middle


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown that reads well in a terminal too. The first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
