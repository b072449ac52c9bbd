"""Looking at a job on behalf of a key: what it may not see is not there."""

from __future__ import annotations

import re

from starlette.requests import Request

from app.http.auth import acting_key, may_act, may_see
from app.http.faults import MissingScopeError
from app.http.ports import Reader
from app.http.schemas import JOB_ID_PATTERN
from app.queue.errors import JobNotFoundError, QueueUnavailableError
from app.queue.records import JobView

ID = re.compile(JOB_ID_PATTERN.strip("^$"))


class Lookup:
    """Each method may raise QueueUnavailableError, but for `warnings`."""

    def __init__(self, views: Reader) -> None:
        self._views = views

    async def visible(self, request: Request) -> JobView:
        """The job of the path. Raises JobNotFoundError, also for a foreign one."""
        job_id: str = request.path_params["id"]
        view = await self._views.job(job_id) if ID.fullmatch(job_id) is not None else None
        if view is None or not may_see(acting_key(request), view.submitted_by):
            raise JobNotFoundError(job_id)
        return view

    async def actionable(self, request: Request) -> JobView:
        """The job of the path, for who may change it. Raises MissingScopeError besides."""
        view = await self.visible(request)
        if not may_act(acting_key(request), view.submitted_by):
            raise MissingScopeError("operate")
        return view

    async def again(self, job_id: str) -> JobView | None:
        """A job that the key is known to see; None when it is no longer kept."""
        return await self._views.job(job_id)

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of the queue's capacity; nothing when it cannot be known."""
        try:
            return await self._views.warnings(queue)
        except QueueUnavailableError:
            # The job is known; that its queue cannot be looked at now must not hide it.
            return []
