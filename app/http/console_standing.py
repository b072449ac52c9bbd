"""The console's first page: how it stands; and one queue, with its last hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.http import console_charts as charts
from app.http import console_words as words
from app.http.console_pages import Pages
from app.http.ports import FailureRecords, Figures, Reader
from app.queue.figures import Minute, WorkerFigures
from app.queue.records.names import split_queue_name
from app.queue.records.views import JobFilter, JobView

RUNNING, CAUSES, QUEUES, WORKERS, JOBS = 25, 6, 30, 30, 10
# Its minutes change once a minute, and all that was counted of every queue is read for them.
_MINUTES_SECONDS, _MINUTES_KEPT = 15, 100


class Standing:
    """The endpoints. What is live on a page is fetched again by its script, as a part of it."""

    def __init__(
        self,
        pages: Pages,
        views: Reader,
        figures: Figures,
        failures: FailureRecords,
        queues: Sequence[str],
    ) -> None:
        self._pages = pages
        self._views = views
        self._figures = figures
        self._failures = failures
        self._queues = list(queues)
        self._minutes: dict[tuple[str, int], list[Minute]] = {}

    async def overview(self, request: Request) -> Response:
        """GET /console/: all of it."""
        return self._pages.page(request, "overview.html", **await self._standing(request))

    async def live(self, request: Request) -> Response:
        """GET /console/live: what changes on the overview, for its script."""
        return self._pages.page(request, "live.html", **await self._standing(request))

    async def queue(self, request: Request) -> Response:
        """GET /console/queues/{name}: one of them, its last hour, and what waits in it."""
        name, _ = split_queue_name(request.path_params["name"])
        queue = await self._figures.queue(name)
        if queue is None:
            return self._pages.said(request, 404, "There is no such queue", "No job named it yet.")
        wanted = JobFilter(status="scheduled", queue=name)
        hour, minutes, coming = await asyncio.gather(
            self._figures.hour(), self._hour_of(name), self._views.jobs(wanted, JOBS, None)
        )
        now = datetime.now(UTC)
        depth, age = charts.waiting(hour, queue, now)
        return self._pages.page(
            request, "queue.html", queue=queue, depth=depth, age=age,
            flow=charts.flow(minutes, now), waits=words.quantiles(minutes), coming=coming.jobs,
        )  # fmt: skip

    async def _hour_of(self, name: str) -> list[Minute]:
        """Who watches a queue asks every other second. Raises QueueUnavailableError."""
        key = (name, int(time.time()) // _MINUTES_SECONDS)
        if key not in self._minutes:
            found = await self._figures.minutes(name)
            if len(self._minutes) >= _MINUTES_KEPT:
                self._minutes.clear()
            self._minutes[key] = found
        return self._minutes[key]

    async def _standing(self, request: Request) -> dict[str, Any]:
        """Raises QueueUnavailableError."""
        queues, (workers, running), failures, reasons, hour = await asyncio.gather(
            self._figures.queues(),
            self._at_work(),
            self._failures.page(CAUSES, None),
            self._views.readiness(self._queues),
            self._figures.hour(),
        )
        shows_all = request.query_params.get("queues") == "all"
        ranked = sorted(queues, key=words.urgency)
        shown = ranked if shows_all else ranked[:QUEUES]
        now = datetime.now(UTC)
        return {
            "queues": [(each, *charts.waiting(hour, each, now)) for each in shown],
            "queues_total": len(queues),
            "shows_all": shows_all,
            "workers": workers[:WORKERS],
            "workers_total": len(workers),
            "running": running,
            "running_total": sum(each.running for each in queues),
            "failures": failures,
            "fails_now": any(each.trend["1h"] for each in failures.data),
            "reasons": reasons,
            "totals": words.totals(queues, workers),
        }

    async def _at_work(self) -> tuple[list[WorkerFigures], list[JobView]]:
        """Workers, the silent first, and what they run, the oldest first. Raises
        QueueUnavailableError.

        The workers are asked: a list by status looks at the newest jobs only, and what has run
        for hours is not among them.
        """
        workers = sorted(
            await self._figures.workers(),
            key=lambda each: (each.is_alive and each.mail_fault is None, each.name),
        )
        ids = list(dict.fromkeys(each for worker in workers for each in worker.running))
        some = sorted(ids)[:RUNNING]
        views = await asyncio.gather(*(self._views.job(each) for each in some))
        return workers, [each for each in views if each is not None and each.status == "started"]
