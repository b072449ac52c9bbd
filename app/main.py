"""The web process, put together: `python -m app.main`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Lifespan

from app.http.auth import Authority, LocalOnly
from app.http.health import Health
from app.http.jobs import Jobs
from app.http.middleware import Errors, RequestId
from app.http.ports import Reader, Submitter
from app.http.problems import from_starlette
from app.http.routes import table
from app.http.submissions import Terms
from app.settings import Settings
from jobs.catalog import Catalog

log = logging.getLogger("recado.web")

_EXPOSED_HEADERS = ("X-Request-Id", "Location", "Retry-After", "ETag", "WWW-Authenticate", "Allow")
_ALLOWED_HEADERS = ("Authorization", "Content-Type", "X-Request-Id", "If-None-Match")


def create_app(
    settings: Settings,
    *,
    transitions: Submitter,
    views: Reader,
    catalog: Catalog,
    more_routes: Sequence[BaseRoute] = (),
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """The application over any queue side that keeps to `app.http.ports`.

    `more_routes` are what stands beside the API: the dashboard, the inbox.
    """
    terms = Terms(
        catalog=catalog,
        sender=settings.sender,
        retention_finished_seconds=settings.retention_finished_seconds,
        retention_failed_seconds=settings.retention_failed_seconds,
    )
    links = {"job_types": "/v1/job-types", "health": "/healthz", "readiness": "/readyz"}
    links |= {"problems": "/problems"}
    app = Starlette(
        routes=[
            *table(
                Authority(settings.keyring),
                Jobs(terms, transitions, views, settings.max_body_bytes),
                Health(views, catalog.queues(), links),
                settings.max_body_bytes,
            ),
            *more_routes,
        ],
        middleware=_middleware(settings),
        exception_handlers={HTTPException: _as_ours},
        lifespan=lifespan,
    )
    # A path that ends in a slash is another path: 404, as a problem, and no redirect that
    # turns a POST into a guess.
    app.router.redirect_slashes = False
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    stack = [Middleware(RequestId)]
    if settings.cors_origins:
        # Around the errors: a page must be able to read what went wrong.
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "PUT", "DELETE"),
                allow_headers=_ALLOWED_HEADERS,
                expose_headers=_EXPOSED_HEADERS,
            )
        )
    stack.append(Middleware(Errors))
    if not settings.keyring:
        stack.append(Middleware(LocalOnly, trusted_origins=settings.cors_origins))
    return stack


async def _as_ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise from_starlette(error)
