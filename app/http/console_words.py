"""How the console says things: ages, counts, times, trends."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from markupsafe import Markup

from app.http.showing import show_options
from app.queue.figures import BOUNDS, Minute, QueueFigures, Times, WorkerFigures
from app.queue.records.views import Attempt, JobView
from app.schedule import Schedule

_STEPS = ((60.0, "s"), (3600.0, "min"), (86400.0, "h"), (float("inf"), "d"))
_SHOWN_CHARACTERS = 100_000
# A cause that fails this many times as fast as over the day is on the rise.
_RISE = 2.0
# A target of the audit trail, as the API names it, and the page of the same thing here.
_PAGES = ("jobs", "queues", "operations", "schedules")
# What can be said anew of a job that has run.
_EDITABLE = (
    "priority", "max_attempts", "backoff", "timeout", "retention", "dry_run", "concurrency",
    "notify", "tags",
)  # fmt: skip


def urgency(queue: QueueFigures) -> tuple[float, bool, int, str]:
    """The queue whose oldest job has waited longest comes first; then what is paused, or failed."""
    age = queue.oldest_age if queue.oldest_age is not None else 0.0
    return (-age, not queue.paused, -queue.failed, queue.name)


def totals(queues: Sequence[QueueFigures], workers: Sequence[WorkerFigures]) -> dict[str, Any]:
    """The row of figures on top."""
    ages = [each.oldest_age for each in queues if each.oldest_age is not None]
    return {
        "depth": sum(each.depth for each in queues),
        "oldest_age": max(ages, default=None),
        "running": sum(each.running for each in queues),
        "scheduled": sum(each.scheduled for each in queues),
        "failed": sum(each.failed for each in queues),
        "workers": sum(each.is_alive for each in workers),
    }


def duration(seconds: float | None) -> str:
    """In one unit, two where the first is small: `3 min`, `1.5 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    unit_seconds = 1.0
    for limit, unit in _STEPS:
        if seconds < limit:
            amount = seconds / unit_seconds
            shown = f"{amount:.1f}".removesuffix(".0") if amount < 10 else f"{amount:.0f}"
            return f"{shown} {unit}"
        unit_seconds = limit
    raise AssertionError("the last step has no limit")


def moment(at: datetime | None, now: datetime) -> Markup:
    """A time as it is felt, and to the second for who asks."""
    if at is None:
        return Markup("–")
    seconds = (now - at).total_seconds()
    felt = f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
    exact = at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, felt)


def number(value: float | None) -> str:
    """With thin spaces, as a comma is a point elsewhere."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def rate(per_second: float | None) -> str:
    if per_second is None:
        return "–"
    if per_second == 0:
        return "0"
    return f"{per_second:.1f}/s" if per_second >= 1 else _a_minute(per_second)


def _a_minute(per_second: float) -> str:
    return f"{per_second * 60:.1f}/min"


def trend(counts: Mapping[str, int]) -> str:
    """`new`, `rising`, `steady`, `falling` or `quiet`: the last hour beside the day's mean hour."""
    hour, day = counts["1h"], counts["24h"]
    if hour and hour == counts["7d"]:
        return "new"
    if hour == 0:
        return "quiet"
    usual = max(day - hour, 0) / 23
    if hour > _RISE * usual:
        return "rising"
    return "falling" if hour * _RISE < usual else "steady"


def plain(value: Any) -> str:
    """In a line: texts as they are, the rest as JSON has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def pretty(value: Any) -> str:
    """JSON to read; what is very long is cut, and says so."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}\n… cut: {len(text):,} characters in all"


def editable(params: Any) -> str | None:
    """JSON to change, whole, with escapes for what UTF-8 has no bytes for; None: too long."""
    if params is None:
        return None
    text = json.dumps(params, indent=2, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(params, indent=2)
    return text if len(text) <= _SHOWN_CHARACTERS else None


def share(progress: Mapping[str, Any]) -> float | None:
    """How far a job is, 0 to 100; None where it does not say of how much."""
    current, total = progress.get("current"), progress.get("total")
    if not isinstance(current, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    return min(100.0, max(0.0, 100.0 * current / total))


def took(attempt: Attempt) -> float | None:
    """Seconds that an attempt took, once it is over."""
    if attempt.ended_at is None:
        return None
    return (attempt.ended_at - attempt.started_at).total_seconds()


def wall(at: datetime, zone: str) -> Markup:
    """A time as clocks of that zone show it: `Mon 23 Nov, 03:00`."""
    local = at.astimezone(ZoneInfo(zone))
    seconds = f":{local:%S}" if local.second else ""
    exact = at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(
        exact, f"{local:%a} {local.day} {local:%b}, {local:%H:%M}{seconds}"
    )


def timing(schedule: Schedule) -> str:
    """When it ticks, in a few words."""
    if schedule.interval_ms is not None:
        return f"every {duration(schedule.interval_ms / 1000)}"
    return f"{schedule.cron} ({schedule.time_zone})"


def page_of(target: str) -> str | None:
    """Where in the console something is that the audit trail names; None: nowhere."""
    _, _, rest = target.partition("/v1/")
    kind, _, name = rest.partition("/")
    if kind not in _PAGES or not name:
        return "failures" if rest == "failures" else None
    return f"{kind}/{quote(name, safe='')}"


def query(given: Mapping[str, str]) -> str:
    return urlencode(given)


def quantiles(minutes: Sequence[Minute]) -> dict[str, float | None]:
    """How long jobs waited and ran in all of these minutes, estimated from their histograms."""
    found: dict[str, float | None] = {}
    for word in ("wait", "run"):
        times: list[Times] = [getattr(each, word) for each in minutes]
        counts = [sum(each.counts[at] for each in times) for at in range(len(BOUNDS))]
        whole = Times(counts, sum(each.sum_seconds for each in times))
        found |= {f"{word}_p50": whole.quantile(0.5), f"{word}_p95": whole.quantile(0.95)}
    return found


def options(view: JobView) -> dict[str, Any]:
    """Of how a job runs, what an operator may say anew."""
    shown = show_options(view)
    return {name: shown[name] for name in _EDITABLE if shown[name] not in (None, {}, False, -1)}


FILTERS: dict[str, Callable[..., Any]] = {
    "duration": duration, "moment": moment, "number": number, "rate": rate, "trend": trend,
    "pretty": pretty, "share": share, "took": took, "wall": wall, "timing": timing,
    "page_of": page_of, "plain": plain, "query": query,
}  # fmt: skip
