"""POST /v1/jobs/{id}/retry: a failed job runs again, as it is or edited."""

from __future__ import annotations

import logging
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.bodies import read_optional_json
from app.http.edits import RETRYABLE, Edits, refused_parent
from app.http.lookup import Lookup
from app.http.middleware import REQUEST_ID
from app.http.named_files import NamedFiles
from app.http.ports import Control
from app.http.resources import MIB
from app.http.result_links import ResultLinks
from app.http.showing import show_job
from app.http.submissions import Terms
from app.queue.errors import JobNotFailedError, UnknownParentError
from app.queue.records.drafts import Edit
from app.queue.records.views import JobView

log = logging.getLogger("recado.http")


class Retries:
    """The endpoint."""

    def __init__(
        self,
        terms: Terms,
        lookup: Lookup,
        control: Control,
        files: NamedFiles,
        links: ResultLinks,
    ) -> None:
        self._edits = Edits(terms, files, links)
        self._lookup = lookup
        self._control = control

    async def retry(self, request: Request) -> Answer:
        """POST /v1/jobs/{id}/retry."""
        body = await read_optional_json(request.scope, request.receive, MIB)
        view = await self._lookup.visible(request)
        if view.status not in RETRYABLE:
            raise JobNotFailedError(view.status)
        key = acting_key(request)
        edit = await self._edits.read(view, body, key, request.scope[REQUEST_ID])
        await self._retry(request, view, edit, body)
        now = await self._lookup.again(view.id)
        shown = now if now is not None else view
        logs.event(log, "job_retried", job_id=view.id, type=view.type, key=key.name)
        warnings = await self._lookup.warnings(shown.queue)
        location = (b"location", b"/v1/jobs/" + view.id.encode())
        return json_answer(show_job(shown, warnings), 202, [location, (b"retry-after", b"1")])

    async def _retry(self, request: Request, view: JobView, edit: Edit | None, body: Any) -> None:
        try:
            await self._control.retry(view.id, acting_key(request).name, edit)
        except UnknownParentError as error:
            assert edit is not None
            raise refused_parent(error, edit, body) from None
