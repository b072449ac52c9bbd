"""Figures as people read them, in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.commands.drawing import Line, Table
from app.commands.terminal import cell

if TYPE_CHECKING:
    from app.queue.figures import QueueFigures, WorkerFigures
    from app.queue.records.acts import Act
    from app.queue.records.failed import FailureGroup, OperationView
    from app.queue.records.views import JobView
    from app.schedule import ScheduleView

# Older than this, somebody waits who should not have to.
OLD_SECONDS = 60.0
_STATUS_STYLE = {"failed": "red", "started": "green", "finished": "dim", "canceled": "dim"}


def queue_table(queues: Sequence[QueueFigures]) -> Table:
    table = Table(
        "queue", "waiting", "oldest", "running", "scheduled", "failed", "in/s", "out/s", "workers",
        "", spare=("scheduled", "in/s", "out/s"),
    )  # fmt: skip
    for queue in queues:
        table.add(
            cell(queue.name, "bold"),
            str(queue.depth),
            _age(queue.oldest_age),
            str(queue.running),
            str(queue.scheduled + queue.deferred),
            Line(str(queue.failed), "red" if queue.failed else ""),
            _rate(queue.rate_in),
            _rate(queue.rate_out),
            Line(str(queue.workers), "" if queue.workers else "red"),
            cell(_pause(queue), "yellow"),
        )
    return table


def worker_table(workers: Sequence[WorkerFigures]) -> Table:
    table = Table(
        "worker", "queues", "state", "running", "heard of", "host", "pid", "done", "failed",
        wraps="queues", spare=("pid", "host", "done", "failed", "heard of"),
    )  # fmt: skip
    for worker in workers:
        slots = "" if worker.slots is None else f"/{worker.slots}"
        table.add(
            cell(worker.name, "bold"),
            cell(", ".join(worker.queues)),
            cell(worker.state) if worker.is_alive else Line("silent", "red"),
            f"{worker.running_count}{slots}",
            _age(worker.heartbeat_age),
            cell(worker.host or "–"),
            str(worker.pid or "–"),
            str(worker.successful_count),
            str(worker.failed_count),
        )
    return table


def job_table(jobs: Sequence[JobView]) -> Table:
    table = Table(
        "job", "type", "queue", "status", "attempt", "created (UTC)", "error",
        spare=("queue", "created (UTC)", "attempt", "type"),
    )  # fmt: skip
    for job in jobs:
        error = "" if job.error is None else f"{job.error.code}: {job.error.message}"
        table.add(
            cell(job.id),
            cell(job.type),
            cell(job.queue),
            Line(job.status, _STATUS_STYLE.get(job.status, "")),
            f"{job.attempt}/{job.max_attempts}",
            short_time(job.created_at),
            cell(error[:100]),
        )
    return table


def failure_table(groups: Sequence[FailureGroup]) -> Table:
    table = Table(
        "cause", "", "jobs", "1h/24h/7d", "last (UTC)", "type", "queue", "error",
        spare=("queue", "1h/24h/7d", "last (UTC)"),
    )  # fmt: skip
    for group in groups:
        trend = (str(group.trend[window]) for window in ("1h", "24h", "7d"))
        table.add(
            cell(group.fingerprint, "bold"),
            Line("regressed" if group.is_regressed else "", "yellow"),
            str(group.count),
            "/".join(trend),
            short_time(group.last_seen),
            cell(group.type),
            cell(group.queue),
            cell(f"{group.error_class}: {group.message}"[:150]),
        )
    return table


def operation_table(views: Sequence[OperationView]) -> Table:
    table = Table(
        "operation", "action", "state", "done", "of", "failed", "begun (UTC)", "by", "which",
        spare=("by", "begun (UTC)", "of"),
    )  # fmt: skip
    for view in views:
        table.add(
            cell(view.id, "bold"),
            cell(view.action),
            cell(view.state, "" if view.finished_at is None else "dim"),
            str(view.done),
            str(view.total),
            Line(str(view.failed), "red" if view.failed else ""),
            short_time(view.created_at),
            cell(view.created_by),
            cell(detail_text(view.filter)),
        )
    return table


def schedule_table(schedules: Sequence[ScheduleView]) -> Table:
    table = Table(
        "schedule", "when", "job", "next run (UTC)", "missed", "overlap", "source", "",
        spare=("source", "overlap", "missed"),
    )  # fmt: skip
    for each in schedules:
        table.add(
            cell(each.schedule.name, "bold"),
            cell(when_text(each)),
            cell(each.schedule.job.get("type", "")),
            time_text(each.next_runs[0]) if each.next_runs else "–",
            each.schedule.missed,
            each.schedule.overlap,
            each.source,
            cell("" if each.fault is None else f"waits: {each.fault}", "yellow"),
        )
    return table


def act_table(acts: Sequence[Act]) -> Table:
    table = Table("at (UTC)", "who", "did", "to", "detail", spare=("detail",))
    for act in acts:
        table.add(
            short_time(act.at), cell(act.key, "bold"), cell(act.action), cell(act.target),
            cell(detail_text(act.detail)),
        )  # fmt: skip
    return table


def when_text(view: ScheduleView) -> str:
    """`30 3 * * * Europe/Berlin`, `every 60 s`."""
    schedule = view.schedule
    if schedule.interval_ms is not None:
        return f"every {schedule.interval_ms / 1000:g} s"
    return f"{schedule.cron} {schedule.time_zone}"


def time_text(at: datetime) -> str:
    """UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def short_time(at: datetime, now: datetime | None = None) -> str:
    """Without its date where that is today's, UTC."""
    at, now = at.astimezone(UTC), datetime.now(UTC) if now is None else now
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"


def detail_text(detail: Mapping[str, object]) -> str:
    """`count=3 filter={"type": "email.send"}`."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in detail.items()
    }
    return " ".join(f"{name}={text}" for name, text in texts.items())


def seconds_text(seconds: float | None) -> str:
    """`0.3 s`, `12 s`, `3 min`, `2 h 05`, `3 d`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f}"
    return f"{seconds / 86400:.0f} d"


def _age(seconds: float | None) -> Line:
    is_old = seconds is not None and seconds > OLD_SECONDS
    return Line(seconds_text(seconds), "yellow" if is_old else "")


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1f}"


def _pause(queue: QueueFigures) -> str:
    if not queue.paused:
        return ""
    return "paused" + (f": {queue.pause_reason}" if queue.pause_reason else "")
