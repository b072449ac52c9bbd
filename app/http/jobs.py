"""Submitting jobs, watching one and ending it: the endpoints under /v1/jobs, and e-mails."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.accepted import render_accepted
from app.http.answers import (
    JSON_HEADERS,
    Answer,
    RawHeaders,
    json_answer,
    kept_answer,
    revalidated,
)
from app.http.artifacts import Artifacts
from app.http.auth import acting_key
from app.http.bodies import require_no_fields
from app.http.faults import Fault, InvalidRequestError, MissingScopeError, NotFoundError
from app.http.idempotency import REPLAYED
from app.http.intake import Intake, Received
from app.http.lookup import Lookup
from app.http.named_files import NamedFiles
from app.http.ports import Control, Submitter, Watcher
from app.http.prefer import applied, asked_wait
from app.http.refusals import NO_SUCH_JOB, late_fault
from app.http.result_links import ResultLinks
from app.http.showing import show_job, show_job_type
from app.http.submissions import (
    Origin,
    Terms,
    draft_flat_job,
    draft_job,
    parent_pointer,
    view_of,
)
from app.http.waiting import ENDED, Awaited, Closing, LastEvent, Patience, following
from app.keyring import ApiKey
from app.queue.errors import (
    ExpiredError,
    JobNotFoundError,
    QueueUnavailableError,
    UnknownParentError,
)
from app.queue.records.drafts import Idempotency, JobDraft, KeptAnswer, Replay
from app.queue.records.views import JobView

log = logging.getLogger("recado.http")

INCLUDABLE = ("params", "options", "traceback")
EMAIL = "email.send"
RETRY_AFTER = (b"retry-after", b"1")
NOT_KEPT = "the job is no longer kept, nor its result: its retention was 0"

# A job, and what is to be said of it; None in its place: it is gone, how is not known.
Seen = tuple[JobView, list[str]]


class Jobs:
    """The endpoints; each takes a request whose key has been checked."""

    def __init__(
        self,
        *,
        terms: Terms,
        intake: Intake,
        lookup: Lookup,
        transitions: Submitter,
        control: Control,
        watcher: Watcher,
        artifacts: Artifacts,
        files: NamedFiles,
        links: ResultLinks,
        closing: Closing,
    ) -> None:
        self._terms = terms
        self._intake = intake
        self._lookup = lookup
        self._transitions = transitions
        self._control = control
        self._watcher = watcher
        self._artifacts = artifacts
        self._files = files
        self._links = links
        self._closing = closing
        self._types: list[dict[str, Any]] | None = None

    async def submit(self, request: Request) -> Answer:
        """POST /v1/jobs."""
        return await self.take(request, await self._intake.read(request, self.draft))

    async def submit_email(self, request: Request) -> Answer:
        """POST /v1/emails."""
        if EMAIL not in self._terms.catalog:
            raise NotFoundError
        return await self.take(request, await self._intake.read(request, self.draft_email))

    def draft(self, body: Any, origin: Origin) -> JobDraft:
        return draft_job(body, self._terms, origin)

    def draft_email(self, body: Any, origin: Origin) -> JobDraft:
        return draft_flat_job(self._terms.catalog.get(EMAIL), body, self._terms, origin)

    async def take(self, request: Request, received: Received[JobDraft]) -> Answer:
        """Submit what was received, and answer as it asks: at once, or when the job has ended."""
        seconds = asked_wait(request.scope)
        draft, key = received.made, received.idempotency
        if seconds is None:
            replay = await self._submit(request, received)
            if replay is not None:
                return await self._repeat(request, draft, replay)
            warnings = await self._lookup.warnings(draft.queue)
            answer = accepted(draft, warnings)
            # Without a warning the same answer can be made again from what the key keeps.
            if key is not None and warnings:
                await self._keep(key, draft, answer)
            return answer
        kept, seen, is_over = draft.retention_seconds > 0, None, False
        async with following(self._watcher, draft.id, is_kept=kept) as awaited:
            replay = await self._submit(request, received)
            del received  # a body may be large, and a wait long
            patience = Patience(request.receive, seconds, self._closing)
            if replay is None:
                with suppress(QueueUnavailableError):
                    seen = await self._await(patience, awaited, view_of(draft))
                    is_over = _is_over(seen) or not patience.left
        if replay is not None:
            return await self._repeat(request, draft, replay)
        if not is_over:
            seen = await self._see(patience, draft)
        answer = await self._told(draft, seen, [applied(seconds)])
        if key is not None:
            await self._keep(key, draft, answer)
        return answer

    async def show(self, request: Request) -> Answer:
        """GET /v1/jobs/{id}."""
        include = _included(request)
        if "traceback" in include and "operate" not in acting_key(request).scopes:
            raise MissingScopeError("operate")
        view = await self._lookup.visible(request)
        seconds = asked_wait(request.scope)
        warnings: list[str] = []
        headers: RawHeaders = []
        if seconds is not None:
            headers.append(applied(seconds))
            if view.status not in ENDED:
                patience = Patience(request.receive, seconds, self._closing)
                seen = await self._follow(patience, view)
                if seen is None:
                    raise JobNotFoundError(view.id)
                view, warnings = seen
        if view.status not in ENDED:
            warnings = await self._lookup.warnings(view.queue)
        shown = json_answer(show_job(view, warnings, include), headers=headers)
        return revalidated(request, shown)

    async def cancel(self, request: Request) -> Answer:
        """POST /v1/jobs/{id}/cancel."""
        await require_no_fields(request.scope, request.receive)
        view = await self._lookup.actionable(request)
        done = await self._control.cancel(view.id, acting_key(request).name)
        self._report("job_canceled" if done == "canceled" else "job_stopping", view, request)
        now = await self._lookup.again(view.id)
        if now is None:
            # Its retention is 0. It is gone, in the way that was asked for.
            now, view.status, view.reason = view, "canceled", "requested"
        warnings = await self._lookup.warnings(now.queue) if now.status not in ENDED else []
        return json_answer(show_job(now, warnings), 200 if done == "canceled" else 202)

    async def delete(self, request: Request) -> Answer:
        """DELETE /v1/jobs/{id}."""
        view = await self._lookup.actionable(request)
        await self._control.delete(view.id, acting_key(request).name)
        await self._artifacts.forget(view)
        self._report("job_deleted", view, request)
        return Answer(204)

    async def types(self, _: Request) -> Answer:
        """GET /v1/job-types."""
        if self._types is None:
            self._types = [show_job_type(job_type) for job_type in self._terms.catalog]
        return json_answer({"data": self._types})

    async def _repeat(self, request: Request, draft: JobDraft, replay: Replay) -> Answer:
        """The first answer again; who would wait waits for the first one's job."""
        seconds, kept = asked_wait(request.scope), replay.answer
        headers = [REPLAYED] if seconds is None else [applied(seconds), REPLAYED]
        if kept is not None and (seconds is None or kept.is_final):
            headers.insert(0, (b"location", b"/v1/jobs/" + replay.id.encode()))
            more = [RETRY_AFTER] if kept.status == 202 else []
            return kept_answer(kept.body, kept.status, [*headers, *more])
        if seconds is None:
            return await self._standing(view_of(draft), headers)
        seen = await self._see(Patience(request.receive, seconds, self._closing), draft)
        return await self._told(draft, seen, headers)

    async def _keep(self, key: Idempotency, draft: JobDraft, answer: Answer) -> None:
        kept = KeptAnswer(answer.status, answer.status == 200, answer.body)
        await self._transitions.keep_answer(key, draft.submitted_by or "", kept)

    async def _submit(self, request: Request, received: Received[JobDraft]) -> Replay | None:
        draft = received.made
        if draft.notify is not None:
            await self._links.add_to(draft)
        try:
            replay = await self._recall_or_settle_files(acting_key(request), received)
            if replay is None:
                replay = await self._transitions.submit(draft, received.idempotency)
        except ExpiredError:
            assert draft.expires_at is not None
            fault = late_fault(draft.expires_at, datetime.now(UTC))
            raise InvalidRequestError([fault]) from None
        except UnknownParentError as error:
            missing = await self._lookup.unknown(acting_key(request), draft.depends_on)
            missing.add(draft.depends_on[error.parent_index])
            options = received.body.get("options")
            raise InvalidRequestError(
                [
                    Fault(parent_pointer(draft, each, options), NO_SUCH_JOB)
                    for each in draft.depends_on
                    if each in missing
                ]
            ) from None
        report_submission("job_submitted" if replay is None else "submission_repeated", draft)
        return replay

    async def _recall_or_settle_files(
        self, key: ApiKey, received: Received[JobDraft]
    ) -> Replay | None:
        """See to the files that the draft names. Raises InvalidRequestError; not None: the request
        is repeated, and was fine when it came first, whatever has become of the files since.
        """
        draft, idempotency = received.made, received.idempotency
        if draft.files is None:
            return None
        if idempotency is not None:
            replay = await self._transitions.recall(draft.submitted_by or "", idempotency, draft)
            if replay is not None:
                return replay
        (faults,) = await self._files.faults([draft], key)
        if faults:
            raise InvalidRequestError(faults)
        await self._files.keep([draft], key)
        return None

    async def _standing(self, view: JobView, headers: RawHeaders) -> Answer:
        return _accepted(view, await self._lookup.warnings(view.queue), headers)

    async def _see(self, patience: Patience, draft: JobDraft) -> Seen | None:
        """What became of an accepted job; None when that cannot be known."""
        with suppress(QueueUnavailableError):
            return await self._follow(patience, view_of(draft))
        # Redis has gone since it acknowledged the job, which stands all the same.
        return None

    async def _told(self, draft: JobDraft, seen: Seen | None, headers: RawHeaders) -> Answer:
        """What a client that would wait is told: the ended job, or 202 when it has not ended."""
        view, warnings = seen if seen is not None else (view_of(draft), [])
        if view.status not in ENDED:
            return await self._standing(view, headers)
        location = (b"location", b"/v1/jobs/" + view.id.encode())
        return json_answer(show_job(view, warnings), 200, [location, *headers])

    async def _follow(self, patience: Patience, view: JobView) -> Seen | None:
        """A job that stands already, once it has ended or the time is up; over as many
        subscriptions as it takes. Raises QueueUnavailableError when Redis is away in the end.
        """
        kept = view.retention_seconds != 0
        while True:
            try:
                async with following(self._watcher, view.id, is_kept=kept) as awaited:
                    now = await self._lookup.again(view.id)
                    seen: Seen | None = (now, []) if now is not None else None
                    if now is None and isinstance(awaited, LastEvent):
                        await patience.hear_out(awaited)
                        seen = _heard(awaited, view)
                    elif now is not None and not _is_over(seen):
                        seen = await self._await(patience, awaited, now)
                if _is_over(seen) or not patience.left:
                    return seen
            except QueueUnavailableError:
                if not patience.left:
                    raise
            await patience.pause()

    async def _await(
        self, patience: Patience, awaited: Awaited | LastEvent, view: JobView
    ) -> Seen | None:
        """How the job stands when it has ended, the time is up or the subscription is lost."""
        await patience.stay(awaited.wait)
        now = await self._lookup.again(view.id)
        return (now, []) if now is not None else _heard(awaited, view)

    def _report(self, event: str, view: JobView, request: Request) -> None:
        logs.event(log, event, job_id=view.id, type=view.type, key=acting_key(request).name)


def _heard(awaited: Awaited | LastEvent, view: JobView) -> Seen | None:
    """How a job that is gone ended, if that was heard."""
    ended = awaited.as_ended(view) if isinstance(awaited, LastEvent) else None
    return (ended, [NOT_KEPT]) if ended is not None else None


def accepted(draft: JobDraft, warnings: list[str]) -> Answer:
    """The answer to a submission that Redis has just acknowledged."""
    location = (b"location", b"/v1/jobs/" + draft.id.encode())
    return Answer(202, render_accepted(draft, warnings), [*JSON_HEADERS, location, RETRY_AFTER])


def report_submission(event: str, draft: JobDraft) -> None:
    logs.event(
        log,
        event,
        job_id=draft.id,
        type=draft.type,
        queue=draft.rq_queue,
        request_id=draft.request_id,
        key=draft.submitted_by,
    )


def _is_over(seen: Seen | None) -> bool:
    return seen is None or seen[0].status in ENDED


def _accepted(view: JobView, warnings: list[str], headers: RawHeaders) -> Answer:
    location = (b"location", b"/v1/jobs/" + view.id.encode())
    return json_answer(show_job(view, warnings), 202, [location, RETRY_AFTER, *headers])


def _included(request: Request) -> frozenset[str]:
    words = request.query_params.get("include")
    if words is None:
        return frozenset()
    include = frozenset(word.strip() for word in words.split(","))
    if not include <= set(INCLUDABLE):
        detail = f"takes a comma-separated list of {', '.join(INCLUDABLE)}"
        raise InvalidRequestError.parameter("include", detail)
    return include
