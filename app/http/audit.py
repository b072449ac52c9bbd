"""GET /v1/audit: who did what, the latest first."""

from __future__ import annotations

from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.paging import limit_of, read_page
from app.http.ports import AuditRecords
from app.queue.records.acts import Act

PARAMETERS = ("limit", "cursor")


class Audit:
    """The endpoint."""

    def __init__(self, records: AuditRecords) -> None:
        self._records = records

    async def show(self, request: Request) -> Answer:
        """GET /v1/audit."""
        page, headers = await read_page(request, limit_of(request), self._records.page)
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
