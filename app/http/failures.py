"""GET /v1/failures: what failed, by cause."""

from __future__ import annotations

from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.paging import limit_of, read_page
from app.http.ports import FailureRecords
from app.queue.records import FailureGroup

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


def show_group(group: FailureGroup) -> dict[str, object]:
    """A group as the API shows it."""
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
