"""The web process, put together: `python -m app.main`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from app import logs
from app.http import console, dashboard, inbox
from app.http.application import Application
from app.http.artifacts import Artifacts
from app.http.audit import Audit
from app.http.auth import Authority, LocalOnly
from app.http.batches import Batches
from app.http.console import Console
from app.http.data import Data
from app.http.entrance import Entrance
from app.http.events import PING_SECONDS, Events
from app.http.failures import Failures
from app.http.health import Health
from app.http.intake import Intake
from app.http.job_list import JobList
from app.http.jobs import Jobs
from app.http.lookup import Lookup
from app.http.metrics import Metrics
from app.http.middleware import Edge, RequestIdFilter
from app.http.named_files import NamedFiles
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
from app.http.server import CannotListenError, listen, serve
from app.http.submissions import Terms
from app.http.suppressions import Suppressions
from app.http.templates import Templates
from app.http.uploads import Uploads
from app.http.waiting import Closing
from app.http.workers import Workers
from app.keyring import LOCAL_KEY
from app.queue.admission import Admission
from app.queue.audit import AuditTrail
from app.queue.connection import Reachability, connect, end_tasks
from app.queue.control import Control as QueueControl
from app.queue.events import Watcher as QueueWatcher
from app.queue.failures import FailureGroups
from app.queue.file_keeper import FileKeeper
from app.queue.file_store import RedisStorage
from app.queue.lasting import keep_up
from app.queue.operations import Operations as QueueOperations
from app.queue.overview import Overview
from app.queue.rates import RateLimiter as QueueRateLimiter
from app.queue.schedules import Schedules as QueueSchedules
from app.queue.submission_times import SubmissionTimes
from app.queue.submitting import Submitter as QueueSubmitter
from app.queue.suppressions import SuppressionList
from app.queue.ticking import Ticker
from app.queue.transitions import Caretaker
from app.queue.upkeep import Upkeep
from app.queue.uploads import UploadRecords as QueueUploadRecords
from app.queue.views import Views
from app.schedule import Schedule
from app.schedules_file import declared_in, job_maker
from app.settings import Settings, load, refuse
from app.storage import Storage, open_storage
from jobs.catalog import Catalog
from jobs.catalog import load as load_catalog
from jobs.email.templating import TemplatesFaultError, templates

log = logging.getLogger("recado.web")

CANNOT_LISTEN_STATUS = 1
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
            *console.routes(ConsoleOnDemand(settings, parts, endpoints)),
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


def _middleware(settings: Settings) -> list[Middleware]:
    stack = [Middleware(Edge)]
    if settings.cors_origins:
        # Errors are answered within, as a page must be able to read what went wrong; what this
        # answers by itself has its request id from without.
        stack.append(
            Middleware(
                CORSMiddleware,
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


def put_together(
    settings: Settings,
    catalog: Catalog,
    closing: Closing,
    declared: Sequence[Schedule] | None = None,
) -> Starlette:
    """The application over the Redis of the settings, which it first calls when it must.

    `declared` are the schedules of the file, None without one.
    """
    client, reachability = connect(settings.redis_location), Reachability()
    caretaker = Caretaker(
        client,
        reachability,
        abandoned_limit=settings.abandoned_limit,
        failure_retention_seconds=settings.retention_failed_seconds,
    )
    ticker = Ticker(
        client,
        reachability,
        job_maker(Terms.of(settings, catalog)),
        most_queued=settings.max_queue_jobs,
        most_queued_bytes=settings.max_queue_bytes,
        declared=declared,
    )
    upkeep = Upkeep(caretaker, ticker)
    budgets = settings.max_queue_jobs, settings.max_queue_bytes
    submitter = QueueSubmitter(
        client,
        reachability,
        settings.submit_timeout_seconds,
        *budgets,
    )
    control = QueueControl(client, reachability, settings.max_queue_jobs, settings.max_queue_bytes)
    suppressions = SuppressionList(client, reachability)
    operations = QueueOperations(client, reachability)
    schedules = QueueSchedules(client, reachability)
    views = Views(client, reachability, budgets)
    watcher = QueueWatcher(client, reachability)
    overview = Overview(client, reachability, catalog.queues())
    times = SubmissionTimes(client)
    limiter = None
    if settings.rate is not None:
        limiter = QueueRateLimiter(client, reachability, *settings.rate)
    storage = open_storage(
        settings.storage_location,
        settings.s3_access,
        lambda: RedisStorage(client, reachability, settings.redis_file_limits),
    )
    uploads = QueueUploadRecords(client, reachability, settings.max_uploads_per_key)
    keeper = FileKeeper(storage, uploads, settings.upload_retention_seconds)
    beside = {"dashboard": dashboard.routes(DashboardOnDemand(settings, views))}
    if not settings.is_production:
        beside["inbox"] = _for_this_machine(inbox.routes(settings.inbox_dir.absolute()))
    return create_app(
        settings,
        Parts(
            Admission(submitter, upkeep, times), views, control, watcher, catalog, storage,
            uploads, suppressions, FailureGroups(client, reachability), operations,
            schedules, AuditTrail(client, reachability), overview, limiter, closing,
        ),
        beside=beside,
        lifespan=_lifespan(
            {
                "upkeep": upkeep.run,
                "watcher": watcher.run,
                "file_keeper": keeper.run,
                "submission_times": times.run,
            },
            [
                submitter, times, caretaker, ticker, control, suppressions, operations, schedules,
                views, limiter, storage, client,
            ],
        ),
    )  # fmt: skip


class _Closable(Protocol):
    async def aclose(self) -> object: ...


def _lifespan(
    background: Mapping[str, Callable[[], Awaitable[None]]], to_close: Sequence[_Closable | None]
) -> Lifespan[Starlette]:
    """What runs while the application does, and what is closed after it, in that order."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        running = [asyncio.create_task(keep_up(name, run)) for name, run in background.items()]
        try:
            yield
        finally:
            await end_tasks(running)
            for part in to_close:
                if part is not None:
                    await part.aclose()

    return lifespan


class Secret:
    """What signs cookies and links: of the settings, else the one that Redis keeps.

    That need not be there at start.
    """

    def __init__(self, settings: Settings, views: Reader) -> None:
        self._settings = settings
        self._views = views
        self._found: bytes | None = None

    async def get(self) -> bytes:
        """Raises QueueUnavailableError."""
        if self._found is None:
            given = self._settings.secret_key
            self._found = (
                given.get_secret_value().encode()
                if given is not None
                else await self._views.session_secret()
            )
        return self._found


class ConsoleOnDemand:
    """The console behind its entrance, once the secret of its sessions can be had.

    That may have to come from Redis, which need not be there at start.
    """

    def __init__(self, settings: Settings, parts: Parts, endpoints: Endpoints) -> None:
        self._settings = settings
        self._secret = Secret(settings, parts.views)
        self._console = Console(
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
        self._built: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._built is None:
            settings = self._settings
            self._built = Entrance(
                self._console.app,
                settings.keyring,
                any_of=("read", "operate"),
                session_secret=await self._secret.get(),
                session_seconds=settings.session_seconds,
                secure_cookie=settings.is_production,
                local_key=None if settings.keyring else LOCAL_KEY,
            )
        await self._built(scope, receive, send)


class DashboardOnDemand:
    """Builds the dashboard for the first who asks.

    Importing Flask and rq-dashboard takes longer than all the rest, and the session secret
    may have to come from Redis, which need not be there at start.
    """

    def __init__(self, settings: Settings, views: Reader) -> None:
        self._settings = settings
        self._views = views
        self._building = asyncio.Lock()
        self._built: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._built is None:
            async with self._building:
                if self._built is None:
                    self._built = await self._build()
        await self._built(scope, receive, send)

    async def _build(self) -> ASGIApp:
        settings = self._settings
        return dashboard.Dashboard(
            await asyncio.to_thread(_build_wsgi, settings.redis_location),
            keyring=settings.keyring,
            session_secret=await Secret(settings, self._views).get(),
            session_seconds=settings.session_seconds,
            secure_cookie=settings.is_production,
            local_key=None if settings.keyring else LOCAL_KEY,
        )


def _build_wsgi(redis_url: str) -> object:
    from app.queue.dashboard import build_wsgi  # noqa: PLC0415 - see DashboardOnDemand

    return build_wsgi(redis_url)


def _for_this_machine(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The same routes, refused to other machines: the inbox asks for no key."""
    for route in routes:
        assert isinstance(route, Route | Mount)
        route.app = LocalOnly(route.app)
    return list(routes)


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exit status 2: settings; 1: the port cannot be had."""
    settings = load()
    logs.configure(settings.log_style, settings.log_level)
    for output in logging.getLogger().handlers:
        output.addFilter(RequestIdFilter())
    catalog = _load_catalog(settings)
    declared = declared_in(settings, catalog)
    host = "0.0.0.0" if settings.keyring else "127.0.0.1"  # noqa: S104 - keys guard it
    try:
        sock = listen(host, settings.port)
    except CannotListenError as error:
        sys.stderr.write(f"web: {error}\n")
        raise SystemExit(CANNOT_LISTEN_STATUS) from None
    for sentence in settings.warnings():
        logs.event(log, "settings_warning", logging.WARNING, text=sentence)
    if not settings.keyring:
        text = (
            "API_KEYS is not set: every program on this machine may do everything, others nothing"
        )
        logs.event(log, "no_api_keys", logging.WARNING, text=text)
    logs.event(
        log,
        "web_started",
        host=host,
        port=sock.getsockname()[1],
        environment=settings.environment,
    )
    closing = Closing()
    serve(put_together(settings, catalog, closing, declared), sock, closing)
    logs.event(log, "web_stopped")


def _load_catalog(settings: Settings) -> Catalog:
    try:
        catalog = load_catalog(settings.job_modules)
        templates()
        return catalog
    except TemplatesFaultError as error:
        return refuse(error.faults)
    except ImportError as error:
        return refuse([str(error)])
    except Exception as error:  # noqa: BLE001 - a module's own code may fail in any way
        return refuse([f"JOB_MODULES: cannot load them: {type(error).__name__}: {error}"])


if __name__ == "__main__":
    main()
