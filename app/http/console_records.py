"""The console's pages of what was begun and done: operations, schedules, suppressed
addresses, the audit trail."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response

from app.http.console_pages import Pages
from app.http.lookup import ID
from app.http.ports import (
    AuditRecords,
    FailureRecords,
    OperationRecords,
    Reader,
    ScheduleRecords,
    SuppressionRecords,
)
from app.http.schedule_bodies import SCHEDULE_NAME
from app.queue.errors import OperationNotFoundError, ScheduleNotFoundError
from app.queue.records.failed import OperationView
from app.queue.records.names import OPERATIONS_QUEUE

LISTED, ACTS = 50, 100
OVER = frozenset({"finished", "stopped", "failed"})
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(SCHEDULE_NAME.strip("^$"))


class Recorded:
    """The endpoints."""

    def __init__(
        self,
        *,
        pages: Pages,
        views: Reader,
        failures: FailureRecords,
        operations: OperationRecords,
        schedules: ScheduleRecords,
        suppressions: SuppressionRecords,
        audit: AuditRecords,
    ) -> None:
        self._pages = pages
        self._views = views
        self._failures = failures
        self._operations = operations
        self._schedules = schedules
        self._suppressions = suppressions
        self._audit = audit

    async def operations(self, request: Request) -> Response:
        """GET /console/operations: the newest first."""
        page = await self._operations.page(LISTED, request.query_params.get("cursor"))
        return self._pages.page(request, "operations.html", page=page)

    async def operation(self, request: Request) -> Response:
        """GET /console/operations/{id}: one of them, live while it goes on."""
        operation_id = request.path_params["id"]
        try:
            if ID.fullmatch(operation_id) is None:
                raise OperationNotFoundError(operation_id)
            view = await self._operations.view(operation_id)
        except OperationNotFoundError:
            gone = "It never was, or it began more than 30 days ago."
            return self._pages.said(request, 404, "There is no such operation", gone)
        fingerprint = view.filter.get("fingerprint")
        group = await self._failures.group(fingerprint) if fingerprint is not None else None
        return self._pages.page(
            request, "operation.html", operation=view, is_over=view.state in OVER,
            warnings=await self._warnings(view), came_back=_came_back(view), group=group,
        )  # fmt: skip

    async def schedules(self, request: Request) -> Response:
        """GET /console/schedules: in order of name."""
        page = await self._schedules.page(LISTED, request.query_params.get("cursor"))
        return self._pages.page(request, "schedules.html", page=page)

    async def schedule(self, request: Request) -> Response:
        """GET /console/schedules/{name}: when it ticks next, and what became of its last jobs."""
        name = request.path_params["name"]
        try:
            if _NAME.fullmatch(name) is None:
                raise ScheduleNotFoundError(name)
            view = await self._schedules.view(name)
        except ScheduleNotFoundError:
            gone = "It never was, or it has been deleted; its jobs stay."
            return self._pages.said(request, 404, "There is no such schedule", gone)
        jobs = await asyncio.gather(*(self._views.job(each) for each in view.last_runs))
        runs = list(zip(view.last_runs, jobs, strict=True))
        return self._pages.page(request, "schedule.html", view=view, runs=runs)

    async def suppressions(self, request: Request) -> Response:
        """GET /console/suppressions: the latest first."""
        page = await self._suppressions.page(LISTED, request.query_params.get("cursor"))
        return self._pages.page(request, "suppressions.html", page=page)

    async def audit(self, request: Request) -> Response:
        """GET /console/audit: the latest first."""
        page = await self._audit.page(ACTS, request.query_params.get("cursor"))
        return self._pages.page(request, "audit.html", page=page)

    async def _warnings(self, view: OperationView) -> list[str]:
        """Why it cannot go on, or its canaries cannot."""
        if view.state in OVER:
            return []
        warnings: list[str] = []
        for queue in (OPERATIONS_QUEUE, view.queue):
            warnings += await self._views.warnings(queue) if queue is not None else []
        return list(dict.fromkeys(warnings))


def _came_back(view: OperationView) -> str | None:
    """The cause for which it stopped itself, as one of the first jobs failed of it again."""
    stopped_by = view.stopped_by if view.canary and view.state == "stopped" else None
    return stopped_by if stopped_by and _FINGERPRINT.fullmatch(stopped_by) else None
