"""The web process, put together: `python -m app.main`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Lifespan

from app import logs
from app.http import dashboard, inbox
from app.http.assembly import Parts, create_app
from app.http.auth import LocalOnly
from app.http.middleware import RequestIdFilter
from app.http.on_demand import DashboardOnDemand
from app.http.ports import (
    Reader,
)
from app.http.server import CannotListenError, listen, serve
from app.http.submissions import Terms
from app.http.waiting import Closing
from app.queue import scripts
from app.queue.admission import Admission
from app.queue.audit import AuditTrail
from app.queue.connection import Client, Reachability, connect, end_tasks
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


def put_together(
    settings: Settings,
    catalog: Catalog,
    closing: Closing,
    declared: Sequence[Schedule] | None = None,
) -> Starlette:
    """The application over the Redis of the settings, which it first calls when it must.

    `declared` are the schedules of the file, None without one.
    """
    redis = connect(settings.redis_location), Reachability()
    client, _ = redis
    budgets = settings.max_queue_jobs, settings.max_queue_bytes
    caretaker, ticker = _caretaker(redis, settings), _ticker(redis, settings, catalog, declared)
    upkeep, times = Upkeep(caretaker, ticker), SubmissionTimes(client)
    submitter = QueueSubmitter(*redis, settings.submit_timeout_seconds, *budgets)
    limiter = None if settings.rate is None else QueueRateLimiter(*redis, *settings.rate)
    views = Views(*redis, budgets)
    control = QueueControl(*redis, *budgets)
    watcher = QueueWatcher(*redis)
    suppressions, schedules = SuppressionList(*redis), QueueSchedules(*redis)
    operations = QueueOperations(*redis)
    storage = _storage(redis, settings)
    uploads = QueueUploadRecords(*redis, settings.max_uploads_per_key)
    keeper = FileKeeper(storage, uploads, settings.upload_retention_seconds)
    parts = Parts(
        transitions=Admission(submitter, upkeep, times),
        views=views,
        control=control,
        watcher=watcher,
        catalog=catalog,
        storage=storage,
        uploads=uploads,
        suppressions=suppressions,
        failures=FailureGroups(*redis),
        operations=operations,
        schedules=schedules,
        audit=AuditTrail(*redis),
        figures=Overview(*redis, catalog.queues()),
        limiter=limiter,
        closing=closing,
    )
    return create_app(
        settings,
        parts,
        beside=_beside(settings, views),
        lifespan=_lifespan(
            {
                "upkeep": upkeep.run,
                "watcher": watcher.run,
                "file_keeper": keeper.run,
                "submission_times": times.run,
            },
            [
                submitter, times, caretaker, ticker, control, suppressions,
                operations, schedules, views, limiter, storage, client,
            ],
        ),
    )  # fmt: skip


_Redis = tuple[Client, Reachability]


def _caretaker(redis: _Redis, settings: Settings) -> Caretaker:
    return Caretaker(
        *redis,
        abandoned_limit=settings.abandoned_limit,
        failure_retention_seconds=settings.retention_failed_seconds,
    )


def _ticker(
    redis: _Redis, settings: Settings, catalog: Catalog, declared: Sequence[Schedule] | None
) -> Ticker:
    return Ticker(
        *redis,
        job_maker(Terms.of(settings, catalog)),
        most_queued=settings.max_queue_jobs,
        most_queued_bytes=settings.max_queue_bytes,
        declared=declared,
    )


def _storage(redis: _Redis, settings: Settings) -> Storage:
    return open_storage(
        settings.storage_location,
        settings.s3_access,
        lambda: RedisStorage(*redis, settings.redis_file_limits),
    )


def _beside(settings: Settings, views: Reader) -> dict[str, Sequence[BaseRoute]]:
    """What stands beside the API, by path."""
    beside: dict[str, Sequence[BaseRoute]] = {
        "dashboard": dashboard.routes(
            DashboardOnDemand(settings, views, lambda: _dashboard(settings.redis_location))
        )
    }
    if not settings.is_production:
        beside["inbox"] = _for_this_machine(inbox.routes(settings.inbox_dir.absolute()))
    return beside


def _dashboard(redis_url: str) -> object:
    from app.queue.dashboard import build_wsgi  # noqa: PLC0415 - see DashboardOnDemand

    return build_wsgi(redis_url)


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
    scripts.load()
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
