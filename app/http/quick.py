"""The quick way of nearly all single jobs: handed over, and answered, without a coroutine.

Checks, record and answer are those of jobs.py; what asks for more than an acknowledgement goes on
there. See `Application.begin`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.intake import Intake, Received
from app.http.jobs import Jobs, accepted, report_submission
from app.http.lookup import Lookup
from app.http.ports import Submitter
from app.http.prefer import asked_wait
from app.http.resources import Reply
from app.queue.records.drafts import JobDraft


class QuickJobs:
    """The endpoints; each takes the scope of a request whose key has been checked, and its body."""

    def __init__(self, jobs: Jobs, intake: Intake, lookup: Lookup, transitions: Submitter) -> None:
        self._jobs = jobs
        self._intake = intake
        self._lookup = lookup
        self._transitions = transitions

    def begin(self, scope: Scope, text: bytes, reply: Reply) -> bool:
        """POST /v1/jobs."""
        return self._begin(scope, self._intake.take(scope, text, self._jobs.draft), reply)

    def begin_email(self, scope: Scope, text: bytes, reply: Reply) -> bool:
        """POST /v1/emails."""
        return self._begin(scope, self._intake.take(scope, text, self._jobs.draft_email), reply)

    def _begin(self, scope: Scope, received: Received[JobDraft] | None, reply: Reply) -> bool:
        if received is None:
            return False
        if _needs_more(scope, received):
            reply(self._taken(received))
            return True
        draft = received.made

        def acknowledged(error: BaseException | None) -> None:
            try:
                answer = self._told(draft) if error is None else _raised(error)
            except Exception as fault:  # noqa: BLE001 - raised here it would leave the client waiting
                answer = _raised(fault)
            reply(answer)

        self._transitions.begin(draft, acknowledged)
        return True

    def _told(self, draft: JobDraft) -> ASGIApp:
        report_submission("job_submitted", draft)
        warnings = self._lookup.known_warnings(draft.queue)
        return self._accepted(draft) if warnings is None else accepted(draft, warnings)

    def _taken(self, received: Received[JobDraft]) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            answer = await self._jobs.take(Request(scope, receive), received)
            await answer(scope, receive, send)

        return app

    def _accepted(self, draft: JobDraft) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            warnings = await self._lookup.warnings(draft.queue)
            await accepted(draft, warnings)(scope, receive, send)

        return app


def _needs_more(scope: Scope, received: Received[JobDraft]) -> bool:
    """Whether there is more to ask of Redis than to take the job, or its refusal has to be
    explained, or its end waited for.
    """
    draft = received.made
    return (
        received.idempotency is not None
        or asked_wait(scope) is not None
        or draft.files is not None
        or draft.notify is not None
        or draft.expires_at is not None
        or bool(draft.depends_on)
    )


def _raised(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app
