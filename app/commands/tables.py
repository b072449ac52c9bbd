"""Figures as people read them, in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.queue.figures import QueueFigures, WorkerFigures
from app.queue.records import JobView

# Where no terminal says how wide it is: nothing is cut off for `grep`.
PIPE_WIDTH = 250
# Older than this, somebody waits who should not have to.
OLD_SECONDS = 60.0
_STATUS_STYLE = {"failed": "red", "started": "green", "finished": "dim", "canceled": "dim"}


def console() -> Console:
    """Where people read."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, soft_wrap=True)


def queue_table(queues: Sequence[QueueFigures]) -> Table:
    table = _table(
        "queue",
        "waiting",
        "oldest",
        "running",
        "scheduled",
        "failed",
        "in/s",
        "out/s",
        "workers",
        "",
    )
    for queue in queues:
        table.add_row(
            Text(queue.name, "bold"),
            str(queue.depth),
            _age(queue.oldest_age),
            str(queue.running),
            str(queue.scheduled + queue.deferred),
            Text(str(queue.failed), "red" if queue.failed else ""),
            _rate(queue.rate_in),
            _rate(queue.rate_out),
            Text(str(queue.workers), "" if queue.workers else "red"),
            Text(_pause(queue), "yellow"),
        )
    return table


def worker_table(workers: Sequence[WorkerFigures]) -> Table:
    table = _table(
        "worker", "queues", "state", "running", "heard of", "host", "pid", "done", "failed"
    )
    for worker in workers:
        slots = "" if worker.slots is None else f"/{worker.slots}"
        table.add_row(
            Text(worker.name, "bold"),
            Text(", ".join(worker.queues)),
            worker.state if worker.is_alive else Text("silent", "red"),
            f"{worker.running_count}{slots}",
            _age(worker.heartbeat_age),
            Text(worker.host or "–"),
            str(worker.pid or "–"),
            str(worker.successful_count),
            str(worker.failed_count),
        )
    return table


def job_table(jobs: Sequence[JobView]) -> Table:
    table = _table("job", "type", "queue", "status", "attempt", "created", "error")
    for job in jobs:
        error = "" if job.error is None else f"{job.error.code}: {job.error.message}"
        table.add_row(
            Text(job.id),
            Text(job.type),
            Text(job.queue),
            Text(job.status, _STATUS_STYLE.get(job.status, "")),
            f"{job.attempt}/{job.max_attempts}",
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            Text(error[:100]),
        )
    return table


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


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(
            heading, overflow="fold" if number == 0 else "ellipsis", no_wrap=number == 0
        )
    return table


def _age(seconds: float | None) -> Text:
    is_old = seconds is not None and seconds > OLD_SECONDS
    return Text(seconds_text(seconds), "yellow" if is_old else "")


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1f}"


def _pause(queue: QueueFigures) -> str:
    if not queue.paused:
        return ""
    return "paused" + (f": {queue.pause_reason}" if queue.pause_reason else "")
