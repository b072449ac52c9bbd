"""Horizontal bars with their range, in plain SVG, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.figures import Figure

LEFT, WIDTH, BAR = 190, 560, 13
_ROW, _TITLE = 22, 30
OURS, THEIRS = "#0d4a70", "#9ec9e2"


def panel_height(rows: Sequence[object]) -> int:
    return _TITLE + len(rows) * _ROW + 14


def panel(title: str, rows: Sequence[tuple[str, Figure, bool]], form: str) -> str:
    """One row for each label and figure; the third says whether it is ours."""
    scale = WIDTH / max(figure.high for _, figure, _ in rows)
    parts = [f'<text x="16" y="18" font-weight="600">{escape(title)}</text>']
    for number, (label, figure, ours) in enumerate(rows):
        y = _TITLE + number * _ROW
        weight = ' font-weight="600"' if ours else ""
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 11}" text-anchor="end"{weight}>{escape(label)}</text>'
        )
        parts.append(bar(figure, scale, y, OURS if ours else THEIRS, form))
    return "".join(parts)


def picture(title: str, panels: Sequence[tuple[str, int]], caption: str) -> str:
    """Panels, each with its height, one below the other."""
    parts, y = [], 44
    for text, height in panels:
        parts.append(f'<g transform="translate(0 {y})">{text}</g>')
        y += height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 120} {y + 30}"'
            ' font-family="system-ui, sans-serif" font-size="12" fill="#222">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="16" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
            *parts,
            f'<text x="16" y="{y + 16}" fill="#666">{escape(caption)}</text>',
            "</svg>\n",
        ]
    )


def bar(figure: Figure, scale: float, y: float, colour: str, form: str) -> str:
    """A bar to the median, the range across it, the figure behind it."""
    low, middle, high = (LEFT + value * scale for value in (figure.low, figure.middle, figure.high))
    centre = y + (BAR - 1) / 2
    return (
        f'<rect x="{LEFT}" y="{y}" width="{middle - LEFT:.1f}" height="{BAR - 1}"'
        f' fill="{colour}"/>'
        f'<path d="M{low:.1f} {centre}H{high:.1f}M{low:.1f} {centre - 3}v6'
        f'M{high:.1f} {centre - 3}v6"'
        ' stroke="#222" fill="none"/>'
        f'<text x="{high + 6:.1f}" y="{centre + 4}" font-size="11">'
        f"{format(figure.middle, form)}</text>"
    )
