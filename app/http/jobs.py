"""Submitting jobs and watching one: the endpoints under /v1/jobs, and the sugar for e-mails."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer, revalidated
from app.http.auth import acting_key, may_see
from app.http.bodies import parse_json, read_json_text
from app.http.faults import InvalidRequestError, MissingScopeError, NotFoundError
from app.http.middleware import REQUEST_ID
from app.http.ports import Reader, Submitter
from app.http.schemas import show_job, show_job_type
from app.http.submissions import Origin, Terms, draft_flat_job, draft_job, view_of
from app.queue.errors import JobNotFoundError, QueueUnavailableError
from app.queue.records import JobDraft
from jobs.catalog import UnknownJobTypeError

log = logging.getLogger("recado.http")

# Above this a body is checked in a thread: one of 25 MiB of small numbers takes ten seconds,
# during which nobody else would be answered (measured in a thread: 0.2 s at a time).
LARGE_BODY_BYTES = 256 * 1024
INCLUDABLE = ("params", "options", "traceback")
# Wide enough for the ids that stock RQ producers make up.
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_POLL_SECONDS = b"1"


class Jobs:
    """The endpoints; each takes a request whose key has been checked."""

    def __init__(
        self, terms: Terms, transitions: Submitter, views: Reader, max_body_bytes: int
    ) -> None:
        self._terms = terms
        self._transitions = transitions
        self._views = views
        self._max_body_bytes = max_body_bytes
        self._large_bodies = asyncio.Semaphore(2)
        self._types: list[dict[str, Any]] | None = None

    async def submit(self, request: Request) -> Answer:
        """POST /v1/jobs."""
        return await self._accept(
            await self._draft(request, lambda body, origin: draft_job(body, self._terms, origin))
        )

    async def submit_email(self, request: Request) -> Answer:
        """POST /v1/emails."""
        try:
            job_type = self._terms.catalog.get("email.send")
        except UnknownJobTypeError:
            raise NotFoundError from None
        return await self._accept(
            await self._draft(
                request,
                lambda body, origin: draft_flat_job(job_type, body, self._terms, origin),
            )
        )

    async def show(self, request: Request) -> Answer:
        """GET /v1/jobs/{id}."""
        key = acting_key(request)
        include = _included(request)
        if "traceback" in include and "operate" not in key.scopes:
            raise MissingScopeError("operate")
        job_id: str = request.path_params["id"]
        if _JOB_ID.fullmatch(job_id) is None:
            raise JobNotFoundError(job_id)
        view = await self._views.job(job_id)
        if view is None or not may_see(key, view.submitted_by):
            raise JobNotFoundError(job_id)
        warnings = await self._warnings(view.queue) if view.ended_at is None else []
        return revalidated(request, json_answer(show_job(view, warnings, include)))

    async def types(self, _: Request) -> Answer:
        """GET /v1/job-types."""
        if self._types is None:
            self._types = [show_job_type(job_type) for job_type in self._terms.catalog]
        return json_answer({"data": self._types})

    async def _draft(self, request: Request, draft: Callable[[Any, Origin], JobDraft]) -> JobDraft:
        text = await read_json_text(request.scope, request.receive, self._max_body_bytes)
        origin = Origin(acting_key(request).name, request.scope[REQUEST_ID], datetime.now(UTC))
        if len(text) < LARGE_BODY_BYTES:
            return draft(parse_json(text), origin)
        async with self._large_bodies:
            return await asyncio.to_thread(lambda: draft(parse_json(text), origin))

    async def _accept(self, draft: JobDraft) -> Answer:
        await self._transitions.submit(draft)
        logs.event(
            log,
            "job_submitted",
            job_id=draft.id,
            type=draft.type,
            queue=draft.rq_queue,
            request_id=draft.request_id,
            key=draft.submitted_by,
        )
        location = b"/v1/jobs/" + draft.id.encode()
        return json_answer(
            show_job(view_of(draft), await self._warnings(draft.queue)),
            202,
            [(b"location", location), (b"retry-after", _POLL_SECONDS)],
        )

    async def _warnings(self, queue: str) -> list[str]:
        try:
            return await self._views.warnings(queue)
        except QueueUnavailableError:
            # The job is known; that its queue cannot be looked at now must not hide it.
            return []


def _included(request: Request) -> frozenset[str]:
    words = request.query_params.get("include")
    if words is None:
        return frozenset()
    include = frozenset(word.strip() for word in words.split(","))
    if not include <= set(INCLUDABLE):
        detail = f"takes a comma-separated list of {', '.join(INCLUDABLE)}"
        raise InvalidRequestError.parameter("include", detail)
    return include
