"""GET /v1/failures: what failed, by cause."""

from __future__ import annotations

from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.paging import limit_of, read_page
from app.http.ports import FailureRecords
from app.http.showing import show_group

PARAMETERS = ("limit", "cursor")


class Failures:
    """The endpoint."""

    def __init__(self, records: FailureRecords) -> None:
        self._records = records

    async def show(self, request: Request) -> Answer:
        """GET /v1/failures."""
        page, headers = await read_page(request, limit_of(request), self._records.page)
        data = [show_group(group) for group in page.data]
        return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)
