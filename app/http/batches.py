"""Batches: up to 1,000 jobs in one request, accepted as one whole or each for itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, RawHeaders, json_answer, kept_answer, revalidated
from app.http.auth import acting_key, may_see
from app.http.batch_submissions import Batch, draft_batch
from app.http.faults import InvalidRequestError, NotFoundError
from app.http.idempotency import REPLAYED
from app.http.intake import Intake, Received
from app.http.lookup import ID, Lookup
from app.http.middleware import REQUEST_ID
from app.http.named_files import NamedFiles
from app.http.ports import Reader, Submitter, Waiting, Watcher
from app.http.prefer import applied, asked_wait
from app.http.problems import problem
from app.http.result_links import ResultLinks
from app.http.showing import show_batch, show_job
from app.http.submissions import Terms, view_of
from app.http.waiting import ENDED, Closing, Patience
from app.keyring import ApiKey
from app.queue.errors import (
    ExpiredError,
    QueueFullError,
    QueueUnavailableError,
    UnknownParentError,
)
from app.queue.records.drafts import JobDraft, KeptAnswer, Replay
from app.queue.records.views import BatchView, JobFilter, JobView

log = logging.getLogger("recado.http")

# Smaller than elsewhere: bodies of many small jobs take longest for their size.
LARGE_BODY_BYTES = 16 * 1024
RETRY_AFTER = (b"retry-after", b"1")
PAGE = 200
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
        files: NamedFiles,
        links: ResultLinks,
        closing: Closing,
    ) -> None:
        self._terms = terms
        self._intake = intake
        self._lookup = lookup
        self._transitions = transitions
        self._views = views
        self._watcher = watcher
        self._files = files
        self._links = links
        self._closing = closing

    async def submit(self, request: Request) -> Answer:
        """POST /v1/batches."""
        received = await self._intake.read(
            request,
            lambda body, origin: draft_batch(body, self._terms, origin),
            LARGE_BODY_BYTES,
        )
        batch, key = received.made, received.idempotency
        if batch.refused:
            await self._complete(request, received)
        seconds = asked_wait(request.scope)
        headers: RawHeaders = [] if seconds is None else [applied(seconds)]
        patience = Patience(request.receive, seconds or 0, self._closing)
        if seconds is None:
            replay = await self._submit(request, received)
        else:
            ids = [draft.id for draft in batch.drafts.values()]
            async with self._watcher.ended(ids) as waiting:
                replay = await self._submit(request, received)
                if replay is None:
                    del received  # a body may be large, and a wait long
                    for refused in set(ids) - {draft.id for draft in batch.drafts.values()}:
                        waiting.settle(refused)
                    if await patience.stay(waiting.wait):
                        patience.end()
        if replay is not None:
            return await self._repeat(request, received, replay, headers)
        seen = None if seconds is None else await self._await(patience, batch)
        answer = await self._answer(request, batch, headers, seen)
        if key is not None and batch.drafts:
            has_ended = seen is not None and seen[0].finished_at is not None
            kept = KeptAnswer(answer.status, has_ended, answer.body)
            await self._transitions.keep_answer(key, batch.submitted_by, kept)
        return answer

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
                patience = Patience(request.receive, seconds, self._closing)
                seen = await self._follow(patience, view.id)
                view = seen if seen is not None else view
        return revalidated(request, json_answer(show_batch(view), headers=headers))

    async def _complete(self, request: Request, received: Received[Batch]) -> None:
        """Find what else is wrong with a batch of which some jobs are refused already."""
        batch = received.made
        if not batch.permissive:
            # It is no repetition of one that was accepted: what is late now was so at once.
            batch.refuse_late(datetime.now(UTC), received.body)
        with suppress(QueueUnavailableError):
            missing = await self._lookup.unknown(acting_key(request), batch.named_ids())
            batch.refuse_unknown(missing, received.body)
        if not batch.permissive:
            raise batch.refusal()

    async def _submit(self, request: Request, received: Received[Batch]) -> Replay | None:
        """Submit what may go, until Redis takes all of it.

        Raises InvalidRequestError, and QueueFullError when there is room for nothing.
        """
        batch = received.made
        replay = await self._recall_or_settle_files(acting_key(request), received)
        if replay is not None:
            return replay
        for each in batch.drafts.values():
            await self._links.add_to(each)
        while batch.drafts:
            drafts = list(batch.drafts.values())
            try:
                replay = await self._transitions.submit_batch(
                    batch.id, drafts, received.idempotency, batch.places
                )
            except (UnknownParentError, ExpiredError) as error:
                await self._refuse(request, received, drafts, error)
                continue
            except QueueFullError as error:
                if not batch.permissive:
                    raise
                batch.refuse_full(error)
                if len(batch.full) == batch.size:
                    raise
                continue
            if replay is None:
                self._report("batch_submitted", batch, request)
            return replay
        return None

    async def _recall_or_settle_files(
        self, key: ApiKey, received: Received[Batch]
    ) -> Replay | None:
        """See to the files that jobs name. Raises InvalidRequestError when the batch is strict; not
        None: the request is repeated, and may name files that have gone since.
        """
        batch = received.made
        naming = {place: each for place, each in batch.drafts.items() if each.files is not None}
        if not naming:
            return None
        if received.idempotency is not None:
            replay = await self._transitions.recall(batch.submitted_by, received.idempotency)
            if replay is not None:
                return replay
        found = await self._files.faults(list(naming.values()), key)
        for place, faults in zip(naming, found, strict=True):
            if faults:
                batch.refused[place] = InvalidRequestError(faults).below(f"/jobs/{place}")
                del batch.drafts[place]
        if batch.refused and not batch.permissive:
            raise batch.refusal()
        await self._files.keep([each for place, each in naming.items() if place in batch.drafts],
                               key)  # fmt: skip
        return None

    async def _refuse(
        self,
        request: Request,
        received: Received[Batch],
        drafts: Sequence[JobDraft],
        error: UnknownParentError | ExpiredError,
    ) -> None:
        """What Redis found first, and all else of its kind. Raises when the batch is strict."""
        batch = received.made
        missing = await self._lookup.unknown(acting_key(request), batch.named_ids())
        late = set()
        if isinstance(error, ExpiredError):
            late.add(error.job_index)
        else:
            missing.add(drafts[error.job_index].depends_on[error.parent_index])
        batch.refuse_late(datetime.now(UTC), received.body, late)
        batch.refuse_unknown(missing, received.body)
        if not batch.permissive:
            raise batch.refusal() from None

    async def _become(self, request: Request, received: Received[Batch], first_id: str) -> None:
        """The batch of a repeated request becomes what the first one made, as it was then."""
        batch = received.made
        view = await self._views.batch(first_id)
        if view is None:
            return
        missing: set[str] = set()
        if view.places is not None:
            missing = await self._lookup.unknown(acting_key(request), batch.named_ids())
        batch.become(view, await self._jobs(first_id), missing, received.body)

    async def _repeat(
        self, request: Request, received: Received[Batch], replay: Replay, headers: RawHeaders
    ) -> Answer:
        """The first answer again; who would wait waits for the first one's batch."""
        batch = received.made
        batch.id = replay.id
        self._report("submission_repeated", batch, request)
        headers = [*headers, REPLAYED]
        seconds, kept, seen = asked_wait(request.scope), replay.answer, None
        if kept is not None and (seconds is None or kept.is_final):
            location = (b"location", b"/v1/batches/" + replay.id.encode())
            more = [RETRY_AFTER] if kept.status == 202 else []
            return kept_answer(kept.body, kept.status, [location, *more, *headers])
        await self._become(request, received, replay.id)
        if seconds is not None:
            await self._follow(Patience(request.receive, seconds, self._closing), batch.id)
            seen = await self._see(batch)
        return await self._answer(request, batch, headers, seen)

    async def _await(self, patience: Patience, batch: Batch) -> Seen | None:
        """How an accepted batch stands in the end: more is waited for if time is left."""
        if patience.left and batch.drafts:
            with suppress(QueueUnavailableError):
                await self._follow(patience, batch.id)
        return await self._see(batch)

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

    async def _follow(self, patience: Patience, batch_id: str) -> BatchView | None:
        """A batch that stands already, once all of it has ended or the time is up; over as many
        subscriptions as it takes. Raises QueueUnavailableError when Redis is away in the end.
        """
        while True:
            try:
                view = await self._views.batch(batch_id)
                if view is None or view.finished_at is not None or not patience.left:
                    return view
                async with self._watcher.ended(view.job_ids) as waiting:
                    await self._settle_ended(waiting, view)
                    if await patience.stay(waiting.wait):
                        return await self._views.batch(batch_id)
            except QueueUnavailableError:
                if not patience.left:
                    raise
            await patience.pause()

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
                error = batch.refused[place] if place in batch.refused else batch.full[place]
                shown = problem(error, request.scope, request.scope[REQUEST_ID])
                results.append({"status": shown["status"], "problem": shown})
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
