"""The web application, made of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Lifespan

from app.http import console
from app.http.application import Application
from app.http.artifacts import Artifacts
from app.http.audit import Audit
from app.http.auth import Authority, LocalOnly
from app.http.batches import Batches
from app.http.console import Console
from app.http.data import Data
from app.http.events import PING_SECONDS, Events
from app.http.failures import Failures
from app.http.faults import InvalidHeaderError
from app.http.health import Health
from app.http.intake import Intake
from app.http.job_list import JobList
from app.http.jobs import Jobs
from app.http.lookup import Lookup
from app.http.metrics import Metrics
from app.http.middleware import Edge
from app.http.named_files import NamedFiles
from app.http.on_demand import ConsoleOnDemand, Secret
from app.http.openapi import OpenApi
from app.http.operations import Operations
from app.http.ports import (
    AuditRecords,
    Control,
    FailureRecords,
    Figures,
    OperationRecords,
    RateLimiter,
    Reader,
    ScheduleRecords,
    Submitter,
    SuppressionRecords,
    UploadRecords,
    Watcher,
)
from app.http.queues import Queues
from app.http.quick import QuickJobs
from app.http.result_links import ResultLinks
from app.http.retries import Retries
from app.http.routes import Endpoints, console_acts, table
from app.http.schedules import Schedules
from app.http.submissions import Terms
from app.http.suppressions import Suppressions
from app.http.templates import Templates
from app.http.uploads import Uploads
from app.http.waiting import Closing
from app.http.workers import Workers
from app.settings import Settings
from app.storage import Storage
from jobs.catalog import Catalog

_EXPOSED_HEADERS = (
    "X-Request-Id", "Location", "Retry-After", "ETag", "WWW-Authenticate", "Allow", "Link",
    "Idempotency-Replayed", "Preference-Applied", "RateLimit", "RateLimit-Policy",
    "Content-Disposition", "Content-Range", "Accept-Ranges",
)  # fmt: skip
_ALLOWED_HEADERS = (
    "Authorization", "Content-Type", "X-Request-Id", "If-None-Match", "Idempotency-Key", "Prefer",
    "Last-Event-ID", "Content-Disposition", "Range", "If-Range",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on: a queue side that keeps to `app.http.ports`, and the rest.

    `closing` says when the process is about to end; who follows a job's events hears a ping
    after `ping_seconds` of silence.
    """

    transitions: Submitter
    views: Reader
    control: Control
    watcher: Watcher
    catalog: Catalog
    storage: Storage
    uploads: UploadRecords
    suppressions: SuppressionRecords
    failures: FailureRecords
    operations: OperationRecords
    schedules: ScheduleRecords
    audit: AuditRecords
    figures: Figures
    limiter: RateLimiter | None = None
    closing: Closing = field(default_factory=Closing)
    ping_seconds: float = PING_SECONDS


def create_app(
    settings: Settings,
    parts: Parts,
    *,
    beside: Mapping[str, Sequence[BaseRoute]] | None = None,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """The application; `beside` are the routes of what stands beside the API, by path."""
    beside = beside if beside is not None else {}
    endpoints = _endpoints(settings, parts, beside)
    authority = Authority(settings.keyring, parts.limiter)
    return Application(
        routes=[
            *table(authority, endpoints, settings.max_body_bytes),
            *console.routes(_console(settings, parts, endpoints)),
            *(route for routes in beside.values() for route in routes),
        ],
        middleware=_middleware(settings),
        lifespan=lifespan,
    )


def _endpoints(settings: Settings, parts: Parts, beside: Iterable[str]) -> Endpoints:
    terms = Terms.of(settings, parts.catalog)
    lookup = Lookup(parts.views)
    intake = Intake(settings.max_body_bytes, lookup)
    artifacts = Artifacts(parts.storage, lookup)
    results = ResultLinks(
        settings.public_url, Secret(settings, parts.views).get, parts.views, artifacts
    )
    files = NamedFiles(parts.storage, parts.uploads, settings.upload_retention_seconds)
    links = {"job_types": "/v1/job-types", "health": "/healthz", "readiness": "/readyz"}
    links |= {"problems": "/problems", "openapi": "/openapi.json", "docs": "/docs"}
    links["console"] = "/console/"
    links |= {name: f"/{name}" for name in beside}
    jobs = Jobs(
        terms=terms, intake=intake, lookup=lookup, transitions=parts.transitions,
        control=parts.control, watcher=parts.watcher, artifacts=artifacts,
        files=files, links=results, closing=parts.closing,
    )  # fmt: skip
    uploads = Uploads(
        parts.storage, parts.uploads, settings.max_upload_bytes, settings.upload_retention_seconds
    )
    return Endpoints(
        jobs=jobs,
        quick=QuickJobs(jobs, intake, lookup, parts.transitions),
        data=Data(jobs, intake, uploads, terms),
        job_list=JobList(parts.views, lookup),
        retries=Retries(terms, lookup, parts.control, files, results),
        batches=Batches(
            terms=terms, intake=intake, lookup=lookup, transitions=parts.transitions,
            views=parts.views, watcher=parts.watcher, files=files, links=results,
            closing=parts.closing,
        ),
        events=Events(
            lookup, parts.views, parts.watcher, parts.closing, parts.ping_seconds
        ),
        queues=Queues(parts.control, parts.figures, parts.catalog.queues()),
        workers=Workers(parts.figures),
        metrics=Metrics(
            parts.figures, parts.catalog, settings.max_queue_jobs, settings.max_queue_bytes
        ),
        uploads=uploads,
        artifacts=artifacts,
        results=results,
        templates=Templates(),
        suppressions=Suppressions(parts.suppressions),
        failures=Failures(parts.failures),
        operations=Operations(parts.operations, lookup),
        schedules=Schedules(parts.schedules, terms, lookup),
        audit=Audit(parts.audit),
        health=Health(parts.views, parts.catalog.queues(), links),
        openapi=OpenApi(parts.catalog, needs_key=bool(settings.keyring)),
    )  # fmt: skip


def _console(settings: Settings, parts: Parts, endpoints: Endpoints) -> ASGIApp:
    shown = Console(
        views=parts.views,
        figures=parts.figures,
        failures=parts.failures,
        operations=parts.operations,
        schedules=parts.schedules,
        suppressions=parts.suppressions,
        audit=parts.audit,
        types=[each.name for each in parts.catalog],
        queues=parts.catalog.queues(),
        acts=console_acts(endpoints),
    )
    return ConsoleOnDemand(settings, Secret(settings, parts.views), shown.app)


class Cors(CORSMiddleware):
    """Tells a preflight that it refuses as all problems are told."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            # "Disallowed CORS origin, method": Starlette's words.
            first = bytes(response.body).decode().removeprefix("Disallowed CORS ").split(", ")[0]
            name = "Origin" if first == "origin" else f"Access-Control-Request-{first.title()}"
            raise InvalidHeaderError(name, "asks for what a page may not do here; see CORS_ORIGINS")
        return response


def _middleware(settings: Settings) -> list[Middleware]:
    stack = [Middleware(Edge)]
    if settings.cors_origins:
        # Errors are answered within, as a page must be able to read what went wrong; what this
        # answers by itself has its request id from without.
        stack.append(
            Middleware(
                Cors,
                allow_origins=settings.cors_origins,
                allow_methods=("GET", "POST", "PUT", "DELETE"),
                allow_headers=_ALLOWED_HEADERS,
                expose_headers=_EXPOSED_HEADERS,
            )
        )
        stack.append(Middleware(Edge))
    if not settings.keyring:
        stack.append(Middleware(LocalOnly, trusted_origins=settings.cors_origins))
    return stack
