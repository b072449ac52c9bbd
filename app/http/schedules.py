"""/v1/schedules: work that is done again and again."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.bodies import parse_json, read_json_text, require_no_fields
from app.http.lookup import Lookup
from app.http.middleware import REQUEST_ID
from app.http.paging import limit_of, read_page
from app.http.ports import ScheduleRecords
from app.http.resources import MIB
from app.http.schedule_bodies import SCHEDULE_NAME, read_schedule
from app.http.showing import show_schedule
from app.http.submissions import Origin, Terms
from app.queue.errors import ScheduleNotFoundError
from app.schedule import ScheduleView

log = logging.getLogger("recado.http")

PARAMETERS = ("limit", "cursor")
_NAME = re.compile(SCHEDULE_NAME.strip("^$"))


class Schedules:
    """The endpoints."""

    def __init__(self, records: ScheduleRecords, terms: Terms, lookup: Lookup) -> None:
        self._records = records
        self._terms = terms
        self._lookup = lookup

    async def show_all(self, request: Request) -> Answer:
        """GET /v1/schedules."""
        page, headers = await read_page(request, limit_of(request), self._records.page)
        data = [await self._shown(each) for each in page.data]
        return json_answer({"data": data, "next_cursor": page.next_cursor}, headers=headers)

    async def show(self, request: Request) -> Answer:
        """GET /v1/schedules/{name}."""
        return json_answer(await self._shown(await self._records.view(_name(request))))

    async def create(self, request: Request) -> Answer:
        """POST /v1/schedules."""
        schedule = read_schedule(await _body(request), self._terms, _origin(request))
        by = acting_key(request).name
        view = await self._records.create(schedule, by, request.scope[REQUEST_ID])
        logs.event(log, "schedule_created", schedule=schedule.name, key=by)
        return await self._created(view)

    async def replace(self, request: Request) -> Answer:
        """PUT /v1/schedules/{name}."""
        name = _name(request)
        schedule = read_schedule(await _body(request), self._terms, _origin(request), name)
        by = acting_key(request).name
        view, is_new = await self._records.replace(schedule, by, request.scope[REQUEST_ID])
        event = "schedule_created" if is_new else "schedule_replaced"
        logs.event(log, event, schedule=name, key=by)
        return await self._created(view) if is_new else json_answer(await self._shown(view))

    async def delete(self, request: Request) -> Answer:
        """DELETE /v1/schedules/{name}."""
        await require_no_fields(request.scope, request.receive)
        name, by = _name(request), acting_key(request).name
        await self._records.delete(name, by)
        logs.event(log, "schedule_deleted", schedule=name, key=by)
        return Answer(204)

    async def _created(self, view: ScheduleView) -> Answer:
        location = (b"location", view.schedule.path.encode())
        return json_answer(await self._shown(view), 201, [location])

    async def _shown(self, view: ScheduleView) -> dict[str, object]:
        warnings = [] if view.fault is None else [f"its tick waits: {view.fault}"]
        job_type = view.schedule.job.get("type")
        if job_type in self._terms.catalog:
            queue = self._terms.catalog.get(str(job_type)).queue
            warnings += await self._lookup.warnings(queue)
        return show_schedule(view, warnings)


async def _body(request: Request) -> Any:
    return parse_json(await read_json_text(request.scope, request.receive, MIB))


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if _NAME.fullmatch(name) is None:
        raise ScheduleNotFoundError(name)
    return name


def _origin(request: Request) -> Origin:
    return Origin(acting_key(request).name, request.scope[REQUEST_ID], datetime.now(UTC))
