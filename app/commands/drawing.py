"""Lines with styles, and tables that leave columns out where there is little room.

A command that shows one page must not wait for rich to be loaded: that is for what moves.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate

# ECMA-48, "select graphic rendition".
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
# Of the column that gives way; in less, nobody reads a sentence.
LEAST_WIDTH = 20
# Of any other but the first, where there is not room for all: an id fits.
MOST_WIDTH = 36
_BETWEEN = " "


class Line:
    """One line of text, each piece in its style: words of `_CODES`, or empty."""

    __slots__ = ("pieces",)

    def __init__(self, text: str = "", style: str = "") -> None:
        self.pieces: tuple[tuple[str, str], ...] = ((text, style),)

    @classmethod
    def of(cls, *parts: Line) -> Line:
        """One after the other."""
        line = cls()
        line.pieces = tuple(piece for part in parts for piece in part.pieces)
        return line

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def width(self) -> int:
        return sum(width_of(text) for text, _ in self.pieces)

    def coloured(self) -> str:
        """With what a terminal is to obey."""
        return "".join(_coloured(text, style) for text, style in self.pieces)


class Table:
    """Columns under headings. `wraps` is the one that gives way; the last one, if None.

    `spare` names those that are left out, one after the other, until it has room enough.
    """

    def __init__(self, *headings: str, wraps: str | None = None, spare: Sequence[str] = ()) -> None:
        self._headings = headings
        self._giving = len(headings) - 1 if wraps is None else headings.index(wraps)
        self._spare = [headings.index(name) for name in spare]
        self._rows: list[tuple[Line, ...]] = []

    def add(self, *cells: Line | str) -> None:
        """A row: as many cells as there are headings."""
        assert len(cells) == len(self._headings)
        self._rows.append(tuple(Line(cell) if isinstance(cell, str) else cell for cell in cells))

    def lines(self, width: int, rule: str = "─") -> list[Line]:
        """The table, no wider than that where its names allow it."""
        columns = list(range(len(self._headings)))
        needs = [self._need(column) for column in columns]
        # What has neither a heading nor anything under it.
        columns = [column for column in columns if needs[column]]
        least = min(needs[self._giving], LEAST_WIDTH)
        if self._room(columns, needs, width) < least:
            needs = [self._bounded(column, need) for column, need in enumerate(needs)]
        left_out = []
        for column in self._spare:
            if self._room(columns, needs, width) >= least:
                break
            columns.remove(column)
            left_out.append(self._headings[column])
        room = max(self._room(columns, needs, width), LEAST_WIDTH)
        needs[self._giving] = min(needs[self._giving], room)
        headings = tuple(Line(heading, "bold") for heading in self._headings)
        rules = tuple(Line(rule * need, "dim") for need in needs)
        lines = [
            line
            for row in (headings, rules, *self._rows)
            for line in self._row([row[column] for column in columns], columns, needs)
        ]
        if left_out:
            lines.append(Line(f"No room for: {', '.join(left_out)}.", "dim"))
        return lines

    def _need(self, column: int) -> int:
        found = (row[column].width for row in self._rows)
        return max(width_of(self._headings[column]), max(found, default=0))

    def _bounded(self, column: int, need: int) -> int:
        # The first is what is typed next.
        return need if column in {0, self._giving} else min(need, MOST_WIDTH)

    def _room(self, columns: Sequence[int], needs: Sequence[int], width: int) -> int:
        """What the others leave to the column that gives way."""
        others = [needs[column] for column in columns if column != self._giving]
        return width - sum(others) - len(_BETWEEN) * len(others)

    def _row(
        self, cells: Sequence[Line], columns: Sequence[int], needs: Sequence[int]
    ) -> Iterator[Line]:
        stacks = [
            _wrapped(cell, needs[column]) if column == self._giving else [_cut(cell, needs[column])]
            for cell, column in zip(cells, columns, strict=True)
        ]
        for number in range(max(map(len, stacks))):
            parts: list[Line] = []
            for stack, column in zip(stacks, columns, strict=True):
                part = stack[number] if number < len(stack) else Line()
                parts.append(part)
                if column != columns[-1]:
                    parts.append(Line(" " * (needs[column] - part.width) + _BETWEEN))
            yield Line.of(*parts)


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _coloured(text: str, style: str) -> str:
    if not style or not text:
        return text
    return f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m"


def _cut(cell: Line, width: int) -> Line:
    if cell.width <= width:
        return cell
    return Line(f"{next(_pieces(cell.text, width - 1))}…", cell.pieces[0][1])


def _wrapped(cell: Line, width: int) -> list[Line]:
    """Between its words where that can be; a cell that wraps has one style."""
    if cell.width <= width:
        return [cell]
    style = cell.pieces[0][1]
    lines, line = [], ""
    for word in cell.text.split(" "):
        for piece in _pieces(word, width):
            longer = f"{line} {piece}" if line else piece
            if width_of(longer) <= width:
                line = longer
            else:
                lines.append(line)
                line = piece
    return [Line(each, style) for each in (*lines, line)]


def _pieces(word: str, width: int) -> Iterator[str]:
    """The word itself, or as many parts as it takes."""
    while width_of(word) > width:
        ends = accumulate(map(_width, word))
        cut = sum(end <= width for end in ends)
        yield word[:cut]
        word = word[cut:]
    yield word
