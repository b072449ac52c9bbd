"""GET /v1/failures: what failed, by cause."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request

from app.http.answers import Answer, RawHeaders, json_answer
from app.http.faults import Fault, InvalidRequestError
from app.http.job_list import read_limit
from app.http.ports import FailureRecords
from app.queue.errors import BadCursorError
from app.queue.records import FailureGroup

PARAMETERS = ("limit", "cursor")


class Failures:
    """The endpoint."""

    def __init__(self, records: FailureRecords) -> None:
        self._records = records

    async def show(self, request: Request) -> Answer:
        """GET /v1/failures."""
        given = request.query_params
        faults: list[Fault] = []
        limit = read_limit(given.get("limit"), faults)
        if faults:
            raise InvalidRequestError(faults)
        try:
            page = await self._records.page(limit, given.get("cursor"))
        except BadCursorError:
            detail = "is none that this list gave"
            raise InvalidRequestError.parameter("cursor", detail) from None
        headers: RawHeaders = []
        if page.next_cursor is not None:
            query = urlencode({**given, "cursor": page.next_cursor})
            headers.append((b"link", f'</v1/failures?{query}>; rel="next"'.encode()))
        data = [_show(group) for group in page.data]
        return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)


def _show(group: FailureGroup) -> dict[str, object]:
    return {
        "fingerprint": group.fingerprint,
        "state": "regressed" if group.is_regressed else "open",
        "count": group.count,
        "type": group.type,
        "queue": group.queue,
        "error": {"class": group.error_class, "message": group.message},
        "first_seen": group.first_seen,
        "last_seen": group.last_seen,
        "trend": group.trend,
        "samples": group.samples,
    }
