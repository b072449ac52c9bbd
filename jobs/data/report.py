"""The profile as a page that opens anywhere: one file, no script, nothing loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.data.profiling import Column

MAX_DRAWN = 500  # columns; a browser has to show them
_WIDTH, _HEIGHT, _GAP = 320, 96, 2
_SHOWN_TOP = 6

_STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--ink:#1b2430;--dim:#5b6675;--line:#dfe4ea;
--bar:#3b6fd4;--soft:#dbe6fb;--warn:#8a4b00;--warnback:#fff1dc;--miss:#c8463c}
@media(prefers-color-scheme:dark){:root{--back:#12161c;--card:#1b212a;--ink:#e7ebf0;--dim:#9aa6b5;
--line:#2d3641;--bar:#7ba6f7;--soft:#263750;--warn:#ffc67a;--warnback:#3a2a12;--miss:#f0857c}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 48px}
h1{font-size:1.5rem;margin:0 0 4px}
.lead,.note{color:var(--dim);margin:0 0 16px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:14px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px;
min-width:0}
h2{font-size:1.05rem;margin:0;overflow-wrap:anywhere}
.type{color:var(--dim);font:12px ui-monospace,monospace;overflow-wrap:anywhere}
.badge{display:inline-block;background:var(--warnback);color:var(--warn);border-radius:99px;
padding:1px 9px;font-size:12px;margin:6px 6px 0 0}
.missing{display:flex;align-items:center;gap:8px;margin:10px 0;font-size:13px;color:var(--dim)}
.missing i{flex:1;height:6px;border-radius:3px;background:var(--soft);overflow:hidden;display:block}
.missing b{display:block;height:100%;background:var(--miss)}
svg{display:block;width:100%;height:auto}
rect{fill:var(--bar)}
.ends{display:flex;justify-content:space-between;gap:8px;font-size:12px;color:var(--dim)}
table{width:100%;border-collapse:collapse;font-size:13px;margin-top:10px;table-layout:fixed}
td{padding:2px 0;vertical-align:top;overflow-wrap:anywhere}
td:last-child{text-align:right;font-variant-numeric:tabular-nums}
.top td:first-child{position:relative;padding-left:6px}
.top td:last-child{width:34%}
.top i{position:absolute;left:0;top:2px;bottom:2px;background:var(--soft);border-radius:3px}
.top span{position:relative}
.name{color:var(--dim)}
"""


def page(row_count: int, columns: Sequence[Column], *, is_exact: bool) -> Iterator[str]:
    """The page, in pieces."""
    warned = sum(bool(column.warnings) for column in columns)
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        f"<title>Profile</title><style>{_STYLE}</style></head><body><main><h1>Profile</h1>"
        f'<p class="lead">{row_count:,} rows, {len(columns):,} columns'
        f"{f', {warned:,} with a warning' if warned else ''}</p>"
    )
    if not is_exact:
        yield (
            '<p class="note">A large table: distinct counts, quartiles and plots are estimated,'
            " and top values are those that are frequent at its beginning.</p>"
        )
    if len(columns) > MAX_DRAWN:
        yield f'<p class="note">The first {MAX_DRAWN} columns are shown.</p>'
    yield '<div class="grid">'
    for column in columns[:MAX_DRAWN]:
        yield from _column(column, row_count)
    yield "</div></main></body></html>\n"


def _column(column: Column, row_count: int) -> Iterator[str]:
    yield f"<section><h2>{escape(column.name[:200])}</h2>"
    yield f'<div class="type">{escape(column.kind[:200])}</div>'
    for warning in column.warnings:
        yield f'<span class="badge">{escape(warning)}</span>'
    nulls = column.stats["nulls"]
    share = nulls / row_count if row_count else 0.0
    yield (
        f'<div class="missing"><i><b style="width:{share * 100:.2f}%"></b></i>'
        f"{_percent(share)} missing</div>"
    )
    if len(column.bins) > 1:
        yield _histogram(column)
    yield _numbers(column)
    if column.stats["top"] and (len(column.bins) <= 1 or column.stats["distinct"] <= 20):
        yield _top(column)
    yield "</section>"


def _histogram(column: Column) -> str:
    highest = max(count for _, _, count in column.bins) or 1.0
    width = _WIDTH / len(column.bins)
    bars = []
    for at, (start, end, count) in enumerate(column.bins):
        height = count / highest * _HEIGHT
        if count and height < 1:
            height = 1.0
        label = f"{_place(column, start)} – {_place(column, end)}: {count:,.0f}"
        bars.append(
            f'<rect x="{at * width:.1f}" y="{_HEIGHT - height:.1f}" width="{width - _GAP:.1f}"'
            f' height="{height:.1f}" rx="1.5"><title>{escape(label)}</title></rect>'
        )
    low, high = _place(column, column.bins[0][0]), _place(column, column.bins[-1][1])
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of'
        f' {escape(column.name[:200], quote=True)}">{"".join(bars)}</svg>'
        f'<div class="ends"><span>{escape(low)}</span><span>{escape(high)}</span></div>'
    )


def _numbers(column: Column) -> str:
    stats = column.stats
    names = [("distinct", "distinct"), ("min", "min"), ("q25", "lower quartile"),
             ("q50", "median"), ("q75", "upper quartile"), ("max", "max"), ("mean", "mean"),
             ("sd", "standard deviation")]  # fmt: skip
    rows = "".join(
        f'<tr><td class="name">{label}</td><td>{escape(_shown(stats[key]))}</td></tr>'
        for key, label in names
        if stats[key] is not None
    )
    return f"<table>{rows}</table>"


def _top(column: Column) -> str:
    tops = column.stats["top"][:_SHOWN_TOP]
    highest = max(top["count"] for top in tops) or 1
    rows = "".join(
        f'<tr><td><i style="width:{top["count"] / highest * 100:.1f}%"></i>'
        f"<span>{escape(_text(top['value']))}</span></td><td>{top['count']:,}</td></tr>"
        for top in tops
    )
    return f'<table class="top">{rows}</table>'


def _place(column: Column, value: float) -> str:
    if not column.is_time:
        return _shown(value)
    try:
        at = datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return _shown(value)
    return f"{at:%Y-%m-%d}" if column.kind == "DATE" else f"{at:%Y-%m-%d %H:%M}"


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.strip():
        return "(empty)" if not text else "(blank)"
    return text if len(text) <= 80 else text[:80] + "…"


def _shown(value: Any) -> str:
    """A number as people read it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.6g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "<0.1 %".replace("<", "&lt;")
    return f"{share * 100:.1f} %" if share % 1 else f"{share * 100:.0f} %"
