"""Addresses that mail servers refused for good: looked at, and given another chance."""

from __future__ import annotations

import logging

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, RawHeaders, json_answer
from app.http.auth import acting_key
from app.http.faults import Fault, NotFoundError
from app.http.paging import limit_of, read_page
from app.http.ports import SuppressionRecords
from app.queue.records.suppressed import Suppression, SuppressionPage
from jobs.email.addresses import MAX_TEXT, AddressError, parse_address

log = logging.getLogger("recado.http")

PARAMETERS = ("address", "limit", "cursor")


class Suppressions:
    """The endpoints under /v1/suppressions."""

    def __init__(self, records: SuppressionRecords) -> None:
        self._records = records

    async def show(self, request: Request) -> Answer:
        """GET /v1/suppressions."""
        given = request.query_params
        others: list[Fault] = []
        if not 1 <= len(given.get("address", "a")) <= MAX_TEXT:
            detail = f"has 1 to {MAX_TEXT} characters"
            others.append(Fault("", detail, parameter="address"))
        limit = limit_of(request, *others)
        if "address" in given:
            found = await self._records.find(_wire_address(given["address"]))
            return _answer(SuppressionPage([found] if found is not None else [], None), [])
        page, headers = await read_page(request, limit, self._records.page)
        return _answer(page, headers)

    async def delete(self, request: Request) -> Answer:
        """DELETE /v1/suppressions/{address}."""
        address = _wire_address(request.path_params["address"])
        if not await self._records.remove(address, acting_key(request).name):
            raise NotFoundError("This address is not suppressed.")
        logs.event(log, "suppression_deleted", key=acting_key(request).name)
        return Answer(204)


def _wire_address(text: str) -> str:
    """As it was on the wire; what is no address is nobody's, and is not found."""
    try:
        return parse_address(text).ascii_addr_spec
    except AddressError:
        return text


def _answer(page: SuppressionPage, headers: RawHeaders) -> Answer:
    data = [_show(each) for each in page.data]
    return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)


def _show(suppression: Suppression) -> dict[str, object]:
    return {
        "address": suppression.address,
        "since": suppression.since,
        "until": suppression.until,
        "code": suppression.code,
        "reply": suppression.reply,
    }
