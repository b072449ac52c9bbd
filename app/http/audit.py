"""GET /v1/audit: who did what, the latest first."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request

from app.http.answers import Answer, RawHeaders, json_answer
from app.http.faults import Fault, InvalidRequestError
from app.http.job_list import read_limit
from app.http.ports import AuditRecords
from app.queue.errors import BadCursorError
from app.queue.records import Act

PARAMETERS = ("limit", "cursor")


class Audit:
    """The endpoint."""

    def __init__(self, records: AuditRecords) -> None:
        self._records = records

    async def show(self, request: Request) -> Answer:
        """GET /v1/audit."""
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
            headers.append((b"link", f'</v1/audit?{query}>; rel="next"'.encode()))
        data = [_show(act) for act in page.data]
        return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)


def _show(act: Act) -> dict[str, object]:
    return {
        "at": act.at,
        "key": act.key,
        "action": act.action,
        "target": act.target,
        "detail": act.detail,
    }
