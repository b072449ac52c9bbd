"""Looking at a job on behalf of a key: what it may not see is not there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from starlette.requests import Request

from app.http.auth import acting_key, may_act, may_see
from app.http.faults import Fault, InvalidRequestError, MissingScopeError
from app.http.ports import Reader
from app.http.refusals import NO_SUCH_JOB
from app.http.schemas import JOB_ID_PATTERN
from app.keyring import ApiKey
from app.queue.errors import JobNotFoundError, QueueUnavailableError
from app.queue.records.views import JobView

# Jobs that are looked for when a request names some that may not be there.
_LOOKS = 500
_LOOKS_AT_ONCE = 25
ID = re.compile(JOB_ID_PATTERN.strip("^$"))


class Lookup:
    """Each method may raise QueueUnavailableError, but for those of warnings."""

    def __init__(self, views: Reader) -> None:
        self._views = views
        self._about_to_read: dict[str, asyncio.Task[JobView | None]] = {}

    async def visible(self, request: Request) -> JobView:
        """The job of the path. Raises JobNotFoundError, also for a foreign one."""
        job_id: str = request.path_params["id"]
        view = await self.again(job_id) if ID.fullmatch(job_id) is not None else None
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
        """A job that the key is known to see; None when it is no longer kept.

        Whoever asks at the same time shares one read, which begins after all of them asked: a
        thousand clients may have waited for one job.
        """
        reading = self._about_to_read.get(job_id)
        if reading is None:
            reading = asyncio.create_task(self._read(job_id))
            self._about_to_read[job_id] = reading
        return await asyncio.shield(reading)

    async def _read(self, job_id: str) -> JobView | None:
        # Whoever was woken together with the first has asked by the next turn of the loop.
        await asyncio.sleep(0)
        del self._about_to_read[job_id]
        return await self._views.job(job_id)

    async def unknown(self, key: ApiKey, job_ids: Iterable[str]) -> set[str]:
        """Which of these are not there, or not for this key: of the first few hundred."""
        ids = list(dict.fromkeys(job_ids))[:_LOOKS]
        missing: set[str] = set()
        for start in range(0, len(ids), _LOOKS_AT_ONCE):
            some = ids[start : start + _LOOKS_AT_ONCE]
            views = await asyncio.gather(*(self._views.job(each) for each in some))
            missing |= {
                job_id
                for job_id, view in zip(some, views, strict=True)
                if view is None or not may_see(key, view.submitted_by)
            }
        return missing

    async def completed(self, error: InvalidRequestError, key: ApiKey) -> InvalidRequestError:
        """The same refusal with those jobs that it names and that are not there."""
        if not error.named:
            return error
        try:
            missing = await self.unknown(key, (named.job_id for named in error.named))
        except QueueUnavailableError:
            # It is refused for what is known to be wrong, and need not wait for more.
            return error
        more = [Fault(pointer, NO_SUCH_JOB) for pointer, job_id in error.named if job_id in missing]
        return InvalidRequestError([*error.faults, *more])

    def known_warnings(self, queue: str) -> list[str] | None:
        """`warnings`, if they are known already."""
        try:
            return self._views.known_warnings(queue)
        except QueueUnavailableError:
            return []

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of the queue's capacity; nothing when it cannot be known."""
        try:
            return await self._views.warnings(queue)
        except QueueUnavailableError:
            # The job is known; that its queue cannot be looked at now must not hide it.
            return []
