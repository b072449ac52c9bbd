"""/console: how everything stands and what failed, for operators; rendered by the server.

`read` keys look, `operate` keys act. What lives on the page is fetched again as a fragment; acts
are the API's own endpoints under /console/v1, for the key of the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.http import console_words as words
from app.http.auth import acting_key
from app.http.entrance import SIGNED_IN_AS
from app.http.lookup import ID
from app.http.ports import FailureRecords, Figures, Reader
from app.http.waiting import ENDED
from app.queue.errors import BadCursorError, QueueUnavailableError
from app.queue.figures import WorkerFigures
from app.queue.records import FailurePage, JobFilter, JobView

PAGES = Path(__file__).parent / "pages" / "console"
RUNNING, CAUSES, JOBS = 25, 20, 50


def routes(console: ASGIApp) -> list[BaseRoute]:
    """The console at /console, with a redirect for who leaves the last slash out."""

    async def add_slash(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/console/", 307)

    return [Route("/console", add_slash, methods=["GET"]), Mount("/console", app=console)]


class Console:
    """The pages, behind their entrance; `acts` are what their buttons do."""

    def __init__(
        self,
        *,
        views: Reader,
        figures: Figures,
        failures: FailureRecords,
        queues: Sequence[str],
        acts: Sequence[BaseRoute] = (),
    ) -> None:
        self._views = views
        self._figures = figures
        self._failures = failures
        self._queues = list(queues)
        self._templates = Environment(
            loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(words.FILTERS)
        self.app = Router(
            [
                Route("/", self.overview, methods=["GET"]),
                Route("/live", self.live, methods=["GET"]),
                Route("/jobs", self.find, methods=["GET"]),
                Route("/jobs/{id}", self.job, methods=["GET"]),
                Route("/failures/{fingerprint}", self.cause, methods=["GET"]),
                Mount("/assets", _Assets(directory=PAGES / "assets")),
                *acts,
            ],
            redirect_slashes=False,
        )

    async def overview(self, request: Request) -> Response:
        """GET /console/: all of it."""
        try:
            return self._page(request, "overview.html", **await self._standing(request))
        except QueueUnavailableError as error:
            return self._unavailable(request, error)

    async def live(self, request: Request) -> Response:
        """GET /console/live: what changes on the overview, for its script."""
        try:
            return self._page(request, "live.html", **await self._standing(request))
        except QueueUnavailableError as error:
            return self._said(request, 503, "Redis does not answer", str(error))

    async def find(self, request: Request) -> Response:
        """GET /console/jobs?id=…: the form's way to a job."""
        wanted = request.query_params.get("id", "").strip()
        root = request.scope["root_path"]
        return RedirectResponse(f"{root}/jobs/{quote(wanted, safe='')}" if wanted else f"{root}/")

    async def job(self, request: Request) -> Response:
        """GET /console/jobs/{id}."""
        job_id = request.path_params["id"]
        try:
            known = ID.fullmatch(job_id) is not None
            view = await self._views.job(job_id) if known else None
            trail = await self._views.trail(job_id) if view is not None else None
        except QueueUnavailableError as error:
            return self._unavailable(request, error)
        if view is None:
            gone = "It never was, or its retention is over."
            return self._said(request, 404, "There is no such job", gone)
        # Its params and its result may be megabytes.
        return await asyncio.to_thread(
            self._page, request, "job.html", job=view, trail=trail or [],
            is_over=view.status in ENDED, params=words.editable(view.params),
        )  # fmt: skip

    async def cause(self, request: Request) -> Response:
        """GET /console/failures/{fingerprint}: one cause, and the jobs that failed of it."""
        fingerprint = request.path_params["fingerprint"]
        cursor = request.query_params.get("cursor")
        wanted = JobFilter(status="failed", fingerprint=fingerprint)
        try:
            group = await self._failures.group(fingerprint)
            page = await self._views.jobs(wanted, JOBS, cursor)
        except QueueUnavailableError as error:
            return self._unavailable(request, error)
        except BadCursorError:
            return self._said(request, 404, "There is no such page", "Begin at the list's top.")
        if group is None:
            gone = "No failed job has this cause: they were retried, discarded, or have expired."
            return self._said(request, 404, "Nothing fails of this cause", gone)
        return self._page(
            request, "cause.html", group=group, jobs=page.jobs, next_cursor=page.next_cursor
        )

    async def _standing(self, request: Request) -> dict[str, Any]:
        """Raises QueueUnavailableError."""
        queues, (workers, running), failures, reasons = await asyncio.gather(
            self._figures.queues(),
            self._at_work(),
            self._causes(request.query_params.get("causes")),
            self._views.readiness(self._queues),
        )
        return {
            "queues": sorted(queues, key=words.urgency),
            "workers": workers,
            "running": running,
            "running_total": sum(each.running for each in queues),
            "failures": failures,
            "reasons": reasons,
            "cursor": request.query_params.get("causes"),
            "totals": words.totals(queues, workers),
        }

    async def _at_work(self) -> tuple[list[WorkerFigures], list[JobView]]:
        """Workers, and what they run, the oldest first. Raises QueueUnavailableError.

        The workers are asked: a list by status looks at the newest jobs only, and what has run
        for hours is not among them.
        """
        workers = await self._figures.workers()
        ids = list(dict.fromkeys(each for worker in workers for each in worker.running))
        some = sorted(ids)[:RUNNING]
        views = await asyncio.gather(*(self._views.job(each) for each in some))
        return workers, [each for each in views if each is not None and each.status == "started"]

    async def _causes(self, cursor: str | None) -> FailurePage:
        """Raises QueueUnavailableError. A cursor of another page means the first."""
        try:
            return await self._failures.page(CAUSES, cursor)
        except BadCursorError:
            return await self._failures.page(CAUSES, None)

    def _unavailable(self, request: Request, error: QueueUnavailableError) -> Response:
        return self._said(request, 503, "Redis does not answer", str(error))

    def _said(self, request: Request, status: int, title: str, detail: str) -> Response:
        return self._page(request, "said.html", status, title=title, detail=detail)

    def _page(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> Response:
        """What a job tells may hold half a surrogate pair, which UTF-8 has no bytes for."""
        key = acting_key(request)
        page = self._templates.get_template(template).render(
            root=request.scope["root_path"],
            site=request.scope["root_path"].removesuffix("/console"),
            signed_in_as=request.scope[SIGNED_IN_AS],
            may_operate="operate" in key.scopes,
            now=datetime.now(UTC),
            **values,
        )
        return Response(page.encode("utf-8", "replace"), status, media_type="text/html")


class _Assets(StaticFiles):
    """The page's own files, asked about each time: a new release shows at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response
