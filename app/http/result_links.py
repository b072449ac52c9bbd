"""Links to what a job has left, for those who got them in a mail and have no API key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.types import ASGIApp

from app.http.artifacts import Artifacts
from app.http.faults import ResultLinkError
from app.http.ports import Reader
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView

# Part of what is signed: the same secret signs cookies.
_PURPOSE = b"recado result link 1"
_TOKEN = re.compile(r"([A-Za-z0-9_-]{20,40})\.([A-Za-z0-9_-]{43})")


class ResultLinks:
    """Makes the links and answers them. A link is good for as long as its job is kept."""

    def __init__(
        self,
        base_url: str | None,
        secret: Callable[[], Awaitable[bytes]],
        views: Reader,
        artifacts: Artifacts,
    ) -> None:
        self._base_url = base_url
        self._secret = secret
        self._views = views
        self._artifacts = artifacts

    async def add_to(self, draft: JobDraft) -> None:
        """Give the mail on the outcome its link, where we know our own address.

        Raises QueueUnavailableError when the secret cannot be had.
        """
        if draft.notify is None or draft.notifying is None or self._base_url is None:
            return
        draft.notify.has_link = True
        path = f"/v1/results/{draft.id}.{await self._signature(draft.id)}"
        draft.notifying.params["result_url"] = self._base_url + path

    async def download(self, request: Request) -> ASGIApp:
        """GET /v1/results/{token}. One answer for all that is not: nobody learns which it was."""
        match = _TOKEN.fullmatch(request.path_params["token"])
        if match is None:
            raise ResultLinkError
        job_id, given = match.groups()
        if not hmac.compare_digest(given, await self._signature(job_id)):
            raise ResultLinkError
        view = await self._views.job(job_id)
        if view is None or not view.artifacts or _is_over(view, datetime.now(UTC)):
            raise ResultLinkError
        return await self._artifacts.send(request, view, view.artifacts[0])

    async def _signature(self, job_id: str) -> str:
        key = hmac.digest(await self._secret(), _PURPOSE, hashlib.sha256)
        signature = hmac.digest(key, job_id.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _is_over(view: JobView, now: datetime) -> bool:
    """Whether its retention has passed: the record itself stays a little longer."""
    if view.ended_at is None or view.status != "finished":
        return True
    kept = view.retention_seconds
    return kept is not None and kept >= 0 and now >= view.ended_at + timedelta(seconds=kept)
