"""A queue side in memory that keeps to `app.http.ports`, and clients for the application."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
from starlette.applications import Starlette

from app.http.submissions import view_of
from app.keyring import ApiKey
from app.main import create_app
from app.queue.errors import QueueUnavailableError
from app.queue.records import JobDraft, JobView
from app.settings import Settings
from jobs.catalog import Catalog
from jobs.catalog import load as load_catalog

HOST = "http://localhost"


@dataclass
class MemoryQueue:
    """Submitter and Reader in one: what is submitted can be looked at."""

    drafts: list[JobDraft] = field(default_factory=list)
    views: dict[str, JobView] = field(default_factory=dict)
    unavailable: str | None = None
    not_ready: list[str] = field(default_factory=list)
    capacity_warnings: list[str] = field(default_factory=list)
    failure: Exception | None = None

    async def submit(self, draft: JobDraft) -> None:
        self._check()
        await asyncio.sleep(0)
        if draft.delay_seconds is not None:
            draft.scheduled_at = draft.created_at + timedelta(seconds=draft.delay_seconds)
        elif draft.scheduled_at is None:
            draft.enqueued_at = draft.created_at
        self.drafts.append(draft)
        view = view_of(draft)
        view.params = draft.params
        self.views[draft.id] = view

    async def job(self, job_id: str) -> JobView | None:
        self._check()
        return self.views.get(job_id)

    async def readiness(self, queues: list[str]) -> list[str]:
        self._check()
        return [*self.not_ready]

    async def session_secret(self) -> bytes:
        self._check()
        return b"s" * 32

    async def warnings(self, queue: str) -> list[str]:
        self._check()
        return [*self.capacity_warnings]

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.unavailable is not None:
            raise QueueUnavailableError(self.unavailable, retry_after_seconds=7)


def settings_with(keys: Iterable[ApiKey] = (), **values: Any) -> Settings:
    """Settings of a test, whatever the environment says."""
    return Settings(_env_file=None, api_keys=list(keys), **values)


def key(name: str, *scopes: Any) -> ApiKey:
    """A key whose secret is its name doubled."""
    return ApiKey(name, frozenset(scopes), hashlib.sha256(f"{name}{name}".encode()).hexdigest())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}{name}"}


def app_over(
    queue: MemoryQueue, settings: Settings | None = None, catalog: Catalog | None = None
) -> Starlette:
    return create_app(
        settings if settings is not None else settings_with(),
        transitions=queue,
        views=queue,
        catalog=catalog if catalog is not None else load_catalog(),
    )


Connect = Callable[..., httpx2.AsyncClient]


def connect(app: Starlette, **options: Any) -> httpx2.AsyncClient:
    """A client on this machine, unless `client` says otherwise."""
    peer = options.pop("client", ("127.0.0.1", 40000))
    base_url = options.pop("base_url", HOST)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=peer), base_url=base_url, **options
    )
