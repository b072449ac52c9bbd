"""GET /v1/jobs: the jobs that fit a filter, newest first, a page at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import cast, get_args
from urllib.parse import urlencode

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.faults import Fault, InvalidRequestError
from app.http.lookup import Lookup
from app.http.ports import Reader
from app.http.schemas import Time
from app.http.showing import show_job
from app.http.waiting import ENDED
from app.keyring import ApiKey
from app.queue.errors import BadCursorError
from app.queue.records.names import Status
from app.queue.records.views import JobFilter, Page

TEXT_FILTERS = ("type", "queue", "error", "fingerprint", "batch_id")
TIME_FILTERS = ("created_after", "created_before")
FILTERS = ("status", *TEXT_FILTERS, "tag", *TIME_FILTERS)
PARAMETERS = (*FILTERS, "limit", "cursor")
STATUSES: tuple[Status, ...] = get_args(Status)
DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_LONGEST = 500
_LIMIT = re.compile(r"\d{1,3}", re.ASCII)
# A plus that was not percent-encoded arrives as a space.
_LOST_PLUS = re.compile(r" (\d\d:\d\d)$", re.ASCII)
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)


class JobList:
    """The endpoint. A key that submits only sees its own jobs."""

    def __init__(self, views: Reader, lookup: Lookup) -> None:
        self._views = views
        self._lookup = lookup

    async def show(self, request: Request) -> Answer:
        """GET /v1/jobs."""
        given = request.query_params
        faults: list[Fault] = []
        wanted = read_filter(given, acting_key(request), faults)
        limit = read_limit(given.get("limit"), faults)
        cursor = given.get("cursor")
        if faults:
            raise InvalidRequestError(faults)
        try:
            page = await self._views.jobs(wanted, limit, cursor)
        except BadCursorError:
            detail = "is none that this list gave"
            raise InvalidRequestError.parameter("cursor", detail) from None
        return await self._answer(request, page)

    async def _answer(self, request: Request, page: Page) -> Answer:
        waiting = {view.queue for view in page.jobs if view.status not in ENDED}
        warnings = {queue: await self._lookup.warnings(queue) for queue in waiting}
        shown = [
            show_job(view, warnings[view.queue] if view.status not in ENDED else [])
            for view in page.jobs
        ]
        headers = []
        if page.next_cursor is not None:
            # RFC 8288
            query = urlencode({**request.query_params, "cursor": page.next_cursor})
            headers.append((b"link", f'</v1/jobs?{query}>; rel="next"'.encode()))
        return json_answer({"data": shown, "next_cursor": page.next_cursor}, headers=headers)


def read_filter(given: Mapping[str, str], key: ApiKey, faults: list[Fault]) -> JobFilter:
    """Which jobs the parameters want, of those that the key may see; adds to `faults`."""
    status = given.get("status")
    if status is not None and status not in STATUSES:
        faults.append(_fault("status", f"must be one of {', '.join(STATUSES)}"))
    for name in TEXT_FILTERS:
        if name in given and not 0 < len(given[name]) <= _LONGEST:
            faults.append(_fault(name, f"must have 1 to {_LONGEST} characters"))
    sees_all = "read" in key.scopes or "operate" in key.scopes
    return JobFilter(
        status=cast("Status | None", status),
        type=given.get("type"),
        queue=given.get("queue"),
        error=given.get("error"),
        fingerprint=given.get("fingerprint"),
        tag=_read_tag(given.get("tag"), faults),
        batch_id=given.get("batch_id"),
        created_after=_read_time("created_after", given, faults),
        created_before=_read_time("created_before", given, faults),
        submitted_by=None if sees_all else key.name,
    )


def _read_tag(text: str | None, faults: list[Fault]) -> tuple[str, str] | None:
    if text is None:
        return None
    name, colon, value = text.partition(":")
    if not colon or not name:
        faults.append(_fault("tag", "must be key:value"))
    return name, value


def _read_time(name: str, given: Mapping[str, str], faults: list[Fault]) -> datetime | None:
    if name not in given:
        return None
    try:
        return _TIME.validate_python(_LOST_PLUS.sub(r"+\1", given[name]))
    except ValidationError:
        detail = "must be an RFC 3339 time with its zone, like 2030-01-31T12:00:00Z"
        faults.append(_fault(name, detail))
        return None


def read_limit(text: str | None, faults: list[Fault]) -> int:
    """How many a page may have; adds to `faults`."""
    if text is None:
        return DEFAULT_LIMIT
    if _LIMIT.fullmatch(text) is None or not 1 <= int(text) <= MAX_LIMIT:
        faults.append(_fault("limit", f"must be a whole number from 1 to {MAX_LIMIT}"))
        return DEFAULT_LIMIT
    return int(text)


def _fault(parameter: str, detail: str) -> Fault:
    return Fault("", detail, parameter=parameter)
