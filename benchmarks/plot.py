"""The same figures as a picture: bars with their range, in plain SVG, without a library."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from benchmarks.bars import BAR, LEFT, WIDTH, bar
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Figure
from benchmarks.load import Load
from benchmarks.report import MANY_CLIENTS, Results

_COLOURS = {"off": "#9ec9e2", "everysec": "#3c93c2", "always": "#0d4a70"}
_GAP, _TOP = 14, 56


def draw(results: Results, caption: str) -> str:
    """Throughput above, latency of a lone client below."""
    first = _panel(
        results,
        "Accepted requests/s, 64 clients (longer is better)",
        ",.0f",
        lambda contender, fsync: results.figure(
            contender, fsync, MANY_CLIENTS, lambda load: load.rate
        ),
    )
    second = _panel(
        results,
        "Median latency in ms, one client (shorter is better)",
        ".2f",
        lambda contender, fsync: results.figure(contender, fsync, 1, _milliseconds),
    )
    height = _height(results)
    total = _TOP + 2 * height + 30
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 120} {total}"'
            ' font-family="system-ui, sans-serif" font-size="12" fill="#222">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            '<text x="16" y="26" font-size="16" font-weight="600">Submitting an e-mail job</text>',
            *_legend(results),
            f'<g transform="translate(0 {_TOP})">{first}</g>',
            f'<g transform="translate(0 {_TOP + height})">{second}</g>',
            f'<text x="16" y="{total - 12}" fill="#666">{escape(caption)}</text>',
            "</svg>\n",
        ]
    )


def _milliseconds(load: Load) -> float:
    return load.p50_us / 1e3


def _legend(results: Results) -> list[str]:
    parts, x = [], LEFT + WIDTH - 220
    for fsync in results.fsyncs:
        parts.append(f'<rect x="{x}" y="16" width="12" height="12" fill="{_COLOURS[fsync]}"/>')
        parts.append(f'<text x="{x + 17}" y="26">AOF {fsync}</text>')
        x += 112
    return parts


def _height(results: Results) -> int:
    return 34 + len(CONTENDERS) * (len(results.fsyncs) * BAR + _GAP) + 10


def _panel(results: Results, title: str, form: str, figure: Callable[[str, str], Figure]) -> str:
    figures = {
        (contender.name, fsync): figure(contender.name, fsync)
        for contender in CONTENDERS
        for fsync in results.fsyncs
    }
    scale = WIDTH / max(each.high for each in figures.values())
    parts = [f'<text x="16" y="18" font-weight="600">{escape(title)}</text>']
    y = 34
    for contender in CONTENDERS:
        middle = y + len(results.fsyncs) * BAR / 2 + 4
        weight = ' font-weight="600"' if contender.name == "recado" else ""
        parts.append(
            f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end"{weight}>'
            f"{escape(contender.label)}</text>"
        )
        for fsync in results.fsyncs:
            parts.append(bar(figures[contender.name, fsync], scale, y, _COLOURS[fsync], form))
            y += BAR
        y += _GAP
    return "".join(parts)
