"""The console's pages of what failed: by cause, by a filter, and one job."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.http import console_words as words
from app.http.console_pages import Pages
from app.http.faults import InvalidRequestError
from app.http.lookup import ID
from app.http.ports import FailureRecords, OperationRecords, Reader
from app.http.selections import FailureFilters, read
from app.http.waiting import ENDED
from app.queue.records.views import JobFilter
from jobs.errors import CODES

CAUSES, JOBS = 20, 50
# What the form asks for, beside which it passes on what a link says.
FIELDS = ("type", "queue", "error", "tag", "created_after", "created_before")
_FILTERS = (*FIELDS, "fingerprint", "batch_id")
# What a browser's field for a time sends: it is said to be UTC.
_LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?")


class Failing:
    """The endpoints."""

    def __init__(
        self,
        *,
        pages: Pages,
        views: Reader,
        failures: FailureRecords,
        operations: OperationRecords,
        types: Sequence[str],
        queues: Sequence[str],
    ) -> None:
        self._pages = pages
        self._views = views
        self._failures = failures
        self._operations = operations
        self._suggested: dict[str, Any] = {
            "types": list(types), "queues": list(queues), "codes": list(CODES),
        }  # fmt: skip

    async def causes(self, request: Request) -> Response:
        """GET /console/failures: the causes; with a filter, the failed jobs that fit it."""
        given = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
        asked = {name: _timed(name, value) for name, value in given.items() if value}
        if asked:
            return await self._selected(request, given, asked)
        page = await self._failures.page(CAUSES, request.query_params.get("cursor"))
        return self._pages.page(
            request, "failures.html", given=given, faults=[], failures=page, **self._suggested
        )

    async def cause(self, request: Request) -> Response:
        """GET /console/failures/{fingerprint}: one cause, and the jobs that failed of it."""
        fingerprint = request.path_params["fingerprint"]
        wanted = JobFilter(status="failed", fingerprint=fingerprint)
        group = await self._failures.group(fingerprint)
        page = await self._views.jobs(wanted, JOBS, request.query_params.get("cursor"))
        if group is None:
            gone = "No failed job has this cause: they were retried, discarded, or have expired."
            return self._pages.said(request, 404, "Nothing fails of this cause", gone)
        return self._pages.page(
            request, "cause.html", group=group, jobs=page.jobs,
            older=_onward({}, page.next_cursor), filter={"fingerprint": group.fingerprint},
        )  # fmt: skip

    async def find(self, request: Request) -> Response:
        """GET /console/jobs?id=…: the form's way to a job."""
        wanted = request.query_params.get("id", "").strip()
        root = request.scope["root_path"]
        return RedirectResponse(f"{root}/jobs/{quote(wanted, safe='')}" if wanted else f"{root}/")

    async def job(self, request: Request) -> Response:
        """GET /console/jobs/{id}."""
        job_id = request.path_params["id"]
        known = ID.fullmatch(job_id) is not None
        view = await self._views.job(job_id) if known else None
        if view is None:
            gone = "It never was, or its retention is over."
            return self._pages.said(request, 404, "There is no such job", gone)
        trail = await self._views.trail(job_id)
        # Its params and its result may be megabytes.
        return await asyncio.to_thread(
            self._pages.page, request, "job.html", job=view, trail=trail or [],
            is_over=view.status in ENDED, params=words.editable(view.params),
            options=words.editable(words.options(view)),
        )  # fmt: skip

    async def _selected(
        self, request: Request, given: dict[str, str], asked: dict[str, str]
    ) -> Response:
        try:
            chosen: FailureFilters = read(FailureFilters, asked)
        except InvalidRequestError as error:
            faults = [f"{fault.pointer.strip('/')} {fault.detail}" for fault in error.faults]
            return self._pages.page(
                request, "failures.html", 422, given=given, faults=faults, failures=None,
                **self._suggested,
            )  # fmt: skip
        page = await self._views.jobs(
            _as_job_filter(chosen), JOBS, request.query_params.get("cursor")
        )
        older = page.next_cursor
        # A page looks at so many jobs at most, and would go on though nothing fits.
        if not page.jobs and older is not None and not await self._fits_any(chosen):
            older = None
        return self._pages.page(
            request, "selected.html", given=given, faults=[], filter=asked, jobs=page.jobs,
            older=_onward(given, older), **self._suggested,
        )  # fmt: skip

    async def _fits_any(self, chosen: FailureFilters) -> bool:
        return await self._operations.count(chosen.as_filter()) > 0


def _as_job_filter(chosen: FailureFilters) -> JobFilter:
    wanted = chosen.as_filter()
    return JobFilter(
        status="failed",
        type=wanted.type,
        queue=wanted.queue,
        error=wanted.error,
        fingerprint=wanted.fingerprint,
        tag=wanted.tag,
        batch_id=wanted.batch_id,
        created_after=wanted.created_after,
        created_before=wanted.created_before,
    )


def _timed(name: str, value: str) -> str:
    if not name.startswith("created_") or _LOCAL_TIME.fullmatch(value) is None:
        return value
    return f"{value}:00Z" if len(value) == len("2000-01-01T00:00") else f"{value}Z"


def _onward(given: dict[str, str], cursor: str | None) -> str | None:
    """The query of the next page."""
    if cursor is None:
        return None
    kept: dict[str, Any] = {name: value for name, value in given.items() if value}
    return "?" + urlencode(kept | {"cursor": cursor})
