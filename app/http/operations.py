"""Acting on many failed jobs: preview, retry, discard, and watching how it goes."""

from __future__ import annotations

import logging
from typing import Any, Literal

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.bodies import parse_json, read_json_text, require_no_fields
from app.http.faults import Fault, InvalidRequestError
from app.http.lookup import ID, Lookup
from app.http.middleware import REQUEST_ID
from app.http.paging import limit_of, read_page
from app.http.ports import OperationRecords
from app.http.resources import MIB
from app.http.selections import Discarding, FailureFilters, Retrying, read
from app.http.showing import operation_path, show_operation
from app.queue.errors import OperationNotFoundError, SelectionNotFoundError
from app.queue.records.failed import OperationView, Order
from app.queue.records.names import OPERATIONS_QUEUE

log = logging.getLogger("recado.http")

PARAMETERS = ("limit", "cursor")
NO_SELECTION = "is none that a preview gave within the last hour"
_ENDED = frozenset({"finished", "stopped", "failed"})


class Operations:
    """The endpoints that change many failed jobs, and /v1/operations."""

    def __init__(self, records: OperationRecords, lookup: Lookup) -> None:
        self._records = records
        self._lookup = lookup

    async def preview(self, request: Request) -> Answer:
        """POST /v1/failures/preview."""
        asked: FailureFilters = read(FailureFilters, await _body(request))
        selection = await self._records.select(asked.as_filter())
        return json_answer(
            {"count": selection.count, "sample": selection.sample, "selection": selection.id}
        )

    async def retry(self, request: Request) -> Answer:
        """POST /v1/failures/retry."""
        asked: Retrying = read(Retrying, await _body(request))
        order = Order("retry", pace=asked.pace, canary=asked.canary is True)
        return await self._start(request, asked, order)

    async def discard(self, request: Request) -> Answer:
        """POST /v1/failures/discard."""
        asked: Discarding = read(Discarding, await _body(request))
        return await self._start(request, asked, Order("discard", pace=asked.pace))

    async def show_all(self, request: Request) -> Answer:
        """GET /v1/operations."""
        page, headers = await read_page(request, limit_of(request), self._records.page)
        data = [await self._show(view) for view in page.data]
        return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)

    async def show(self, request: Request) -> Answer:
        """GET /v1/operations/{id}."""
        return await self._told(await self._records.view(_id(request)))

    async def pause(self, request: Request) -> Answer:
        """POST /v1/operations/{id}/pause."""
        return await self._act(request, "pause")

    async def resume(self, request: Request) -> Answer:
        """POST /v1/operations/{id}/resume."""
        return await self._act(request, "resume")

    async def stop(self, request: Request) -> Answer:
        """POST /v1/operations/{id}/stop."""
        return await self._act(request, "stop")

    async def _start(self, request: Request, asked: Discarding, order: Order) -> Answer:
        chosen = asked.selection if asked.selection is not None else asked.as_filter()
        by = acting_key(request).name
        try:
            view = await self._records.start(chosen, order, by, request.scope[REQUEST_ID])
        except SelectionNotFoundError:
            raise InvalidRequestError([Fault("/selection", NO_SELECTION)]) from None
        logs.event(
            log, "operation_started", operation=view.id, action=view.action, count=view.total,
            key=by,
        )  # fmt: skip
        return await self._told(view, 202)

    async def _act(self, request: Request, act: Literal["pause", "resume", "stop"]) -> Answer:
        await require_no_fields(request.scope, request.receive)
        by = acting_key(request).name
        view = await self._records.act(_id(request), act, by)
        logs.event(log, f"operation_{act}", operation=view.id, key=by)
        return await self._told(view)

    async def _told(self, view: OperationView, status: int = 200) -> Answer:
        path = operation_path(view)
        headers = [(b"location", path.encode()), (b"retry-after", b"1")] if status == 202 else []
        return json_answer(await self._show(view), status, headers)

    async def _show(self, view: OperationView) -> dict[str, object]:
        warnings: list[str] = []
        if view.state not in _ENDED:
            # It cannot go on, or its canaries cannot.
            for queue in (OPERATIONS_QUEUE, view.queue):
                warnings += await self._lookup.warnings(queue) if queue is not None else []
        return show_operation(view, warnings)


async def _body(request: Request) -> Any:
    return parse_json(await read_json_text(request.scope, request.receive, MIB))


def _id(request: Request) -> str:
    operation_id: str = request.path_params["id"]
    if ID.fullmatch(operation_id) is None:
        raise OperationNotFoundError(operation_id)
    return operation_id
