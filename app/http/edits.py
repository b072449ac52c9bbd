"""A failed job edited before it runs again: what is to take the place of what, checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from app.http.faults import Fault, InvalidRequestError
from app.http.named_files import NamedFiles
from app.http.refusals import NO_SUCH_JOB, refused_job
from app.http.result_links import ResultLinks
from app.http.schemas import RetryRequest, faults_of
from app.http.submissions import Origin, Terms, draft_job, parent_pointer
from app.keyring import ApiKey
from app.queue.errors import FailedParentError, UnknownParentError
from app.queue.records.drafts import Edit, JobDraft
from app.queue.records.views import JobView
from jobs.catalog import Backoff

RETRYABLE = frozenset({"failed", "stopped"})
PARENT_FAILED = "has not finished, and never will"
UNREADABLE = "the params of this job cannot be read: give new ones"
UNREGISTERED = "no job type of this job's name is registered: it can only be retried as it is"
EXPIRES = "means nothing for a job that has been run"


class Edits:
    """For whoever retries a job, over HTTP or by a command."""

    def __init__(self, terms: Terms, files: NamedFiles, links: ResultLinks) -> None:
        self._terms = terms
        self._files = files
        self._links = links

    async def read(self, view: JobView, body: Any, key: ApiKey, request_id: str) -> Edit | None:
        """What a body of POST /v1/jobs/{id}/retry asks for; None: the job stays as it is.

        Raises InvalidRequestError, QueueUnavailableError and StorageError.
        """
        asked = _asked(body, view, self._terms)
        has_params, has_options = asked.params is not None, asked.options is not None
        try:
            draft = _redraft(view, asked, body, self._terms, request_id)
        except InvalidRequestError:
            if has_params or has_options:
                raise
            return None  # what does not fit any more is told by its next run
        await self._see_to_files(draft, key)
        if not (has_params or has_options):
            return None
        if draft.notify is not None:
            await self._links.add_to(draft)
        return Edit(draft, has_params=has_params, has_options=has_options)

    async def _see_to_files(self, draft: JobDraft, key: ApiKey) -> None:
        """They must be there, and stay. Raises InvalidRequestError."""
        if draft.files is None:
            return
        (faults,) = await self._files.faults([draft], key)
        if faults:
            raise InvalidRequestError(faults)
        await self._files.keep([draft], key)


def refused_parent(error: UnknownParentError, edit: Edit, body: Any) -> InvalidRequestError:
    """Of what the edited job would wait for."""
    detail = PARENT_FAILED if isinstance(error, FailedParentError) else NO_SUCH_JOB
    parent = edit.draft.depends_on[error.parent_index]
    pointer = parent_pointer(edit.draft, parent, body.get("options"))
    return InvalidRequestError([Fault(pointer, detail)])


def _asked(body: Any, view: JobView, terms: Terms) -> RetryRequest:
    """Raises InvalidRequestError with all that is wrong, the params' faults among it."""
    body = {} if body is None else body
    try:
        return RetryRequest.model_validate(body)
    except ValidationError as error:
        faults = faults_of(error, body)
        pointers = {fault.pointer for fault in faults}
        whole = {"params": view.params or {}} | body | {"type": view.type}
        more = refused_job(whole, terms, datetime.now(UTC)).faults
        faults += [
            fault
            for fault in more
            if fault.pointer not in pointers and fault.pointer.startswith(("/params", "/options"))
        ]
        raise InvalidRequestError(faults) from None


def _redraft(
    view: JobView, asked: RetryRequest, body: Any, terms: Terms, request_id: str
) -> JobDraft:
    """The job as it is to be; what is not asked for stays. Raises InvalidRequestError."""
    if view.type not in terms.catalog:
        raise InvalidRequestError([Fault("", UNREGISTERED)])
    params = asked.params if asked.params is not None else view.params
    if params is None:
        raise InvalidRequestError([Fault("", UNREADABLE)])
    if asked.options is not None and asked.options.expires_at is not None:
        raise InvalidRequestError([Fault("/options/expires_at", EXPIRES)])
    origin = Origin(view.submitted_by or "", view.request_id or request_id, datetime.now(UTC))
    options = body["options"] if asked.options is not None else {}
    draft = draft_job({"type": view.type, "params": params, "options": options}, terms, origin)
    draft.id = view.id
    if asked.options is None:
        _keep_options(draft, view)
    return draft


def _keep_options(draft: JobDraft, view: JobView) -> None:
    """What the record says, for what of it is measured: the rest is not written."""
    draft.priority, draft.queue = view.priority, view.queue
    draft.max_attempts = view.max_attempts
    draft.backoff = view.backoff if view.backoff is not None else Backoff()
    draft.tags, draft.concurrency = view.tags, view.concurrency
    draft.allow_failure = view.allow_failure
