"""Lines over the last hour, drawn by the server: a page that was just opened shows all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.queue.figures import Depths, Minute, QueueFigures

# Minutes to the right, and as many units down as the view box of the templates has.
WIDTH, HEIGHT = 60.0, 16.0
# Notes are a minute apart, more or less: across a longer time nothing is known.
_GAP_MINUTES = 2.5
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chart:
    """`path` as SVG has it; `most` is what its top stands for, `last` where it ends."""

    path: str
    most: float
    last: float


def chart(points: Iterable[Point], most: float | None = None) -> Chart:
    """Points are minutes ago and a value, oldest first; `most` where several share a scale."""
    known = [(ago, value) for ago, value in points if 0 <= ago <= WIDTH]
    highest = max((value for _, value in known), default=0.0)
    top = max(highest if most is None else most, 1e-9)
    drawn: list[str] = []
    before: float | None = None
    for index, (ago, value) in enumerate(known):
        is_begun = before is not None and before - ago <= _GAP_MINUTES
        follows = known[index + 1] if index + 1 < len(known) else None
        before_value = known[index - 1][1] if is_begun else None
        is_within = follows is not None and ago - follows[0] <= _GAP_MINUTES
        before = ago
        if is_begun and is_within and follows is not None and before_value == value == follows[1]:
            continue  # in the middle of a level line
        x, y = WIDTH - ago, HEIGHT - 1 - (HEIGHT - 2) * value / top
        drawn.append(f"{'L' if is_begun else 'M'}{x:.1f},{y:.1f}")
        if not is_begun and not is_within:
            drawn.append("h0")  # alone: a dot, by the round end of its line
    return Chart("".join(drawn), highest, known[-1][1] if known else 0.0)


def waiting(hour: Sequence[Depths], queue: QueueFigures, now: datetime) -> tuple[Chart, Chart]:
    """How many waited, and how long the oldest of them had, up to this moment."""
    name = queue.name
    depths = [(_ago(each.at, now), float(each.depths.get(name, 0))) for each in hour]
    ages = [(_ago(each.at, now), each.oldest_ages.get(name, 0.0)) for each in hour]
    depths.append((0.0, float(queue.depth)))
    ages.append((0.0, queue.oldest_age if queue.oldest_age is not None else 0.0))
    return chart(depths), chart(ages)


def flow(minutes: Sequence[Minute], now: datetime) -> dict[str, Chart]:
    """Jobs a minute: accepted, finished, failed, retried; on one scale."""
    series: dict[str, list[Point]] = {
        "accepted": [(_end(each, now), _a_minute(each.accepted, each)) for each in minutes]
    }
    for word in ("finished", "failed"):
        series[word] = [(_end(each, now), _a_minute(each.ended[word], each)) for each in minutes]
    series["retried"] = [(_end(each, now), _a_minute(each.retried, each)) for each in minutes]
    most = max((value for points in series.values() for _, value in points), default=0.0)
    return {word: chart(points, most) for word, points in series.items()}


def _ago(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds() / 60)


def _end(minute: Minute, now: datetime) -> float:
    return max(0.0, _ago(minute.at, now) - minute.seconds / 60)


def _a_minute(count: int, minute: Minute) -> float:
    return count * 60 / minute.seconds
