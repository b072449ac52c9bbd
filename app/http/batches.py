"""Batches: up to 1,000 jobs in one request, accepted as one whole or each for itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, RawHeaders, json_answer, revalidated
from app.http.auth import acting_key, may_see
from app.http.batch_submissions import Batch, draft_batch
from app.http.faults import InvalidRequestError, NotFoundError
from app.http.idempotency import REPLAYED
from app.http.intake import Intake, Received
from app.http.lookup import ID, Lookup
from app.http.middleware import REQUEST_ID
from app.http.ports import Reader, Submitter, Waiting, Watcher
from app.http.prefer import applied, asked_wait
from app.http.problems import problem
from app.http.showing import show_batch, show_job
from app.http.submissions import Terms, view_of
from app.http.waiting import ENDED, Closing, stay
from app.queue.errors import QueueUnavailableError, UnknownParentError
from app.queue.records import BatchView, JobFilter, JobView

log = logging.getLogger("recado.http")

# Smaller than elsewhere: bodies of many small jobs take longest for their size.
LARGE_BODY_BYTES = 16 * 1024
RETRY_AFTER = (b"retry-after", b"1")
PAGE = 200
# Parents looked at when one is missing, before the rest is tried again.
_LOOKS = 500
_LOOKS_AT_ONCE = 25
# A batch as it stands, and its jobs when each has an answer of its own.
Seen = tuple[BatchView, Mapping[str, JobView]]


class Batches:
    """The endpoints under /v1/batches."""

    def __init__(
        self,
        *,
        terms: Terms,
        intake: Intake,
        lookup: Lookup,
        transitions: Submitter,
        views: Reader,
        watcher: Watcher,
        closing: Closing,
    ) -> None:
        self._terms = terms
        self._intake = intake
        self._lookup = lookup
        self._transitions = transitions
        self._views = views
        self._watcher = watcher
        self._closing = closing

    async def submit(self, request: Request) -> Answer:
        """POST /v1/batches."""
        received = await self._intake.read(
            request,
            lambda body, origin: draft_batch(body, self._terms, origin),
            LARGE_BODY_BYTES,
        )
        batch = received.made
        seconds = asked_wait(request.scope)
        if seconds is None:
            return await self._answer(request, batch, await self._submit(request, received), None)
        first_id, ids = batch.id, [draft.id for draft in batch.drafts.values()]
        async with self._watcher.ended(ids) as waiting:
            headers = await self._submit(request, received)
            del received  # a body may be large, and a wait long
            headers.append(applied(seconds))
            if batch.id == first_id:
                for refused in set(ids) - {draft.id for draft in batch.drafts.values()}:
                    waiting.settle(refused)
                await stay(request.receive, waiting.wait(seconds), self._closing)
                return await self._answer(request, batch, headers, await self._see(batch))
        # A repeated request: the first one's batch is waited for.
        await self._follow(request, batch.id, seconds)
        return await self._answer(request, batch, headers, await self._see(batch))

    async def show(self, request: Request) -> Answer:
        """GET /v1/batches/{id}."""
        batch_id: str = request.path_params["id"]
        view = await self._views.batch(batch_id) if ID.fullmatch(batch_id) is not None else None
        if view is None or not may_see(acting_key(request), view.submitted_by):
            raise NotFoundError("There is no batch of this id.")
        seconds = asked_wait(request.scope)
        headers: RawHeaders = []
        if seconds is not None:
            headers.append(applied(seconds))
            if view.finished_at is None:
                seen = await self._follow(request, view.id, seconds)
                view = seen if seen is not None else view
        return revalidated(request, json_answer(show_batch(view), headers=headers))

    async def _submit(self, request: Request, received: Received[Batch]) -> RawHeaders:
        """Submit what may go, until Redis takes all of it. Raises InvalidRequestError."""
        batch = received.made
        while batch.drafts:
            drafts = list(batch.drafts.values())
            try:
                first_id = await self._transitions.submit_batch(
                    batch.id, drafts, received.idempotency
                )
            except UnknownParentError as error:
                missing = await self._missing(request, batch)
                missing.add(drafts[error.job_index].depends_on[error.parent_index])
                batch.refuse_unknown(missing, received.body)
                if not batch.permissive:
                    raise InvalidRequestError(batch.all_faults()) from None
                continue
            if first_id is None:
                self._report("batch_submitted", batch, request)
                return []
            await self._become(request, received, first_id)
            self._report("submission_repeated", batch, request)
            return [REPLAYED]
        return []

    async def _missing(self, request: Request, batch: Batch) -> set[str]:
        """Parents that are not there, or not for this key: the first few hundred looked at."""
        key = acting_key(request)
        ids = batch.parent_ids()[:_LOOKS]
        missing: set[str] = set()
        for start in range(0, len(ids), _LOOKS_AT_ONCE):
            some = ids[start : start + _LOOKS_AT_ONCE]
            views = await asyncio.gather(*(self._lookup.again(each) for each in some))
            missing |= {
                job_id
                for job_id, view in zip(some, views, strict=True)
                if view is None or not may_see(key, view.submitted_by)
            }
        return missing

    async def _become(self, request: Request, received: Received[Batch], first_id: str) -> None:
        """The batch of a repeated request becomes what the first one made, as it was then."""
        batch = received.made
        batch.id = first_id
        view = await self._views.batch(first_id)
        if view is None:
            return
        jobs = await self._jobs(first_id)
        refused = batch.refused_before(view.job_ids, jobs)
        if refused:
            missing = await self._missing(request, batch)
            batch.refuse_again(refused, missing, received.body)
        for draft, job_id in zip(batch.drafts.values(), view.job_ids, strict=True):
            job = jobs.get(job_id)
            draft.id, draft.batch_id = job_id, first_id
            draft.request_id = job.request_id if job is not None else draft.request_id
            draft.recorded(view.created_at)

    async def _see(self, batch: Batch) -> Seen | None:
        """How the batch stands now; None when that cannot be known."""
        if not batch.drafts:
            return None
        try:
            view = await self._views.batch(batch.id)
            jobs = await self._jobs(batch.id) if batch.permissive else {}
        except QueueUnavailableError:
            # Redis has gone since it acknowledged the batch, which stands all the same.
            return None
        return (view, jobs) if view is not None else None

    async def _follow(self, request: Request, batch_id: str, seconds: int) -> BatchView | None:
        """A batch that stands already, once all of it has ended or the time is up."""
        view = await self._views.batch(batch_id)
        if view is None or view.finished_at is not None:
            return view
        async with self._watcher.ended(view.job_ids) as waiting:
            await self._settle_ended(waiting, view)
            await stay(request.receive, waiting.wait(seconds), self._closing)
        return await self._views.batch(batch_id)

    async def _settle_ended(self, waiting: Waiting, view: BatchView) -> None:
        """Those that had ended before anybody listened will not be heard of."""
        jobs = await self._jobs(view.id)
        for job_id in view.job_ids:
            if job_id not in jobs or jobs[job_id].status in ENDED:
                waiting.settle(job_id)

    async def _jobs(self, batch_id: str) -> dict[str, JobView]:
        found: dict[str, JobView] = {}
        cursor = None
        while True:
            page = await self._views.jobs(JobFilter(batch_id=batch_id), PAGE, cursor)
            found |= {view.id: view for view in page.jobs}
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _answer(
        self, request: Request, batch: Batch, headers: RawHeaders, seen: Seen | None
    ) -> Answer:
        """`seen` is the batch after waiting; None: as it was accepted."""
        view, jobs = seen if seen is not None else (None, {})
        if batch.drafts:
            headers = [(b"location", b"/v1/batches/" + batch.id.encode()), *headers]
        if batch.permissive:
            results = await self._results(request, batch, jobs)
            batch_id = batch.id if batch.drafts else None
            return json_answer({"id": batch_id, "results": results}, 207, headers)
        if view is not None and view.finished_at is not None:
            return json_answer(show_batch(view), 200, headers)
        shown = show_batch(view if view is not None else _accepted(batch))
        return json_answer(shown, 202, [RETRY_AFTER, *headers])

    async def _results(
        self, request: Request, batch: Batch, now: Mapping[str, JobView]
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for place in range(batch.size):
            draft = batch.drafts.get(place)
            if draft is None:
                error = InvalidRequestError(batch.faults[place])
                shown = problem(error, request.scope, request.scope[REQUEST_ID])
                results.append({"status": 422, "problem": shown})
            else:
                view = now.get(draft.id, view_of(draft))
                warnings = [] if view.status in ENDED else await self._lookup.warnings(view.queue)
                status = 200 if view.status in ENDED else 202
                results.append({"status": status, "job": show_job(view, warnings)})
        return results

    def _report(self, event: str, batch: Batch, request: Request) -> None:
        logs.event(
            log,
            event,
            batch_id=batch.id,
            size=len(batch.drafts),
            request_id=request.scope[REQUEST_ID],
            key=batch.submitted_by,
        )


def _accepted(batch: Batch) -> BatchView:
    """A batch as it stands when Redis has just acknowledged it."""
    views = [view_of(draft) for draft in batch.drafts.values()]
    return BatchView(
        id=batch.id,
        size=batch.size,
        job_ids=[view.id for view in views],
        counts=dict(Counter(view.status for view in views)),
        failures=[],
        created_at=views[0].created_at,
        finished_at=None,
        submitted_by=batch.submitted_by,
    )
