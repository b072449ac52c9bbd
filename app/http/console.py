"""/console: how everything stands and what failed, for operators; rendered by the server.

`read` keys look, `operate` keys act. What lives on a page is fetched again as a part of it; acts
are the API's own endpoints under /console/v1, for the key of the session.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp

from app.http.console_failures import Failing
from app.http.console_pages import Assets, Pages
from app.http.console_records import Recorded
from app.http.console_standing import Standing
from app.http.ports import (
    AuditRecords,
    FailureRecords,
    Figures,
    OperationRecords,
    Reader,
    ScheduleRecords,
    SuppressionRecords,
)


def routes(console: ASGIApp) -> list[BaseRoute]:
    """The console at /console, with a redirect for who leaves the last slash out."""

    async def add_slash(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/console/", 307)

    return [Route("/console", add_slash, methods=["GET"]), Mount("/console", app=console)]


class Console:
    """The pages, behind their entrance; `acts` are what their buttons do.

    `types` and `queues` are those of the catalog.
    """

    def __init__(
        self,
        *,
        views: Reader,
        figures: Figures,
        failures: FailureRecords,
        operations: OperationRecords,
        schedules: ScheduleRecords,
        suppressions: SuppressionRecords,
        audit: AuditRecords,
        types: Sequence[str],
        queues: Sequence[str],
        acts: Sequence[BaseRoute] = (),
    ) -> None:
        pages = Pages()
        standing = Standing(pages, views, figures, failures, queues)
        failing = Failing(
            pages=pages, views=views, failures=failures, operations=operations, types=types,
            queues=queues,
        )  # fmt: skip
        recorded = Recorded(
            pages=pages, views=views, failures=failures, operations=operations, schedules=schedules,
            suppressions=suppressions, audit=audit,
        )  # fmt: skip
        shown = {
            "/": standing.overview,
            "/live": standing.live,
            "/queues/{name:any}": standing.queue,
            "/jobs": failing.find,
            "/jobs/{id}": failing.job,
            "/failures": failing.causes,
            "/failures/{fingerprint}": failing.cause,
            "/operations": recorded.operations,
            "/operations/{id}": recorded.operation,
            "/schedules": recorded.schedules,
            "/schedules/{name}": recorded.schedule,
            "/suppressions": recorded.suppressions,
            "/audit": recorded.audit,
        }
        self.app = Router(
            [
                *(
                    Route(path, pages.guarded(page), methods=["GET"])
                    for path, page in shown.items()
                ),
                Mount("/assets", Assets()),
                *acts,
            ],
            redirect_slashes=False,
        )
