"""The application over a real Valkey, in one process with a stage for its worker.

What clients see comes through HTTP; what a worker does is done by the test, when it wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.applications import Starlette

from app.http.assembly import Parts, create_app
from app.keyring import ApiKey
from app.queue.audit import AuditTrail
from app.queue.connection import end_tasks
from app.queue.control import Control
from app.queue.events import Watcher
from app.queue.failures import FailureGroups
from app.queue.operations import Operations
from app.queue.overview import Overview
from app.queue.schedules import Schedules
from app.queue.submitting import Submitter
from app.queue.suppressions import SuppressionList
from app.queue.uploads import UploadRecords
from app.queue.views import Views
from app.storage import Storage
from tests.file_doubles import NoStorage
from tests.harness import job_types
from tests.heart_scene import Scene, scene_on
from tests.http_doubles import connect, settings_with

NOTE: dict[str, Any] = {"type": "test.note", "params": {}}


@dataclass(frozen=True)
class WebScene:
    """`client` is of the local key; `heart` acts as a worker and upkeep would."""

    heart: Scene
    app: Starlette
    client: httpx2.AsyncClient
    watcher: Watcher

    async def post(
        self, path: str, body: Any, /, key: str | None = None, **headers: str
    ) -> httpx2.Response:
        named = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(path, json=body, headers=named | headers)

    async def submit(self, **options: Any) -> str:
        """The id of a job that was accepted."""
        response = await self.post("/v1/jobs", NOTE | {"options": options})
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.client.get(f"/v1/jobs/{job_id}")).json()
        return shown


@asynccontextmanager
async def web_scene_on(
    url: str,
    *keys: ApiKey,
    most_queued: int = 1000,
    most_bytes: int = 10**9,
    give_up_seconds: float = 30.0,
    storage: Storage | None = None,
    most_uploads: int = 100,
    **settings: Any,
) -> AsyncIterator[WebScene]:
    """Nobody works and nothing is tidied in it but by the test."""
    async with scene_on(url) as heart:
        submitter = Submitter(
            heart.client, heart.reachability, give_up_seconds, most_queued, most_bytes
        )
        control, watcher = (
            Control(heart.client, heart.reachability, most_queued, most_bytes),
            Watcher(heart.client, heart.reachability),
        )  # fmt: skip
        suppressions = SuppressionList(heart.client, heart.reachability)
        operations = Operations(heart.client, heart.reachability)
        views = Views(heart.client, heart.reachability, (most_queued, most_bytes))
        schedules = Schedules(heart.client, heart.reachability)
        parts = Parts(
            transitions=submitter, views=views, control=control, watcher=watcher,
            catalog=job_types(),
            storage=storage if storage is not None else NoStorage(),
            uploads=UploadRecords(heart.client, heart.reachability, most_uploads),
            suppressions=suppressions,
            failures=FailureGroups(heart.client, heart.reachability),
            operations=operations,
            schedules=schedules,
            audit=AuditTrail(heart.client, heart.reachability),
            figures=Overview(heart.client, heart.reachability, job_types().queues()),
        )  # fmt: skip
        app = create_app(settings_with(keys, **settings), parts)
        hearing = asyncio.create_task(watcher.run())
        try:
            async with connect(app, timeout=60) as client:
                yield WebScene(heart, app, client, watcher)
        finally:
            await end_tasks([hearing])
            await submitter.aclose()
            await control.aclose()
            await views.aclose()
            await operations.aclose()
            await schedules.aclose()
            await suppressions.aclose()
