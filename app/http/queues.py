"""Looking at queues, holding them and emptying them: the endpoints under /v1/queues."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.bodies import require_no_fields
from app.http.faults import InvalidRequestError, NotFoundError
from app.http.ports import Control, Figures
from app.queue.figures import Depths, Emptied, Minute, Times
from app.queue.records.names import split_queue_name

log = logging.getLogger("recado.http")

# Heroku's router, for one, cuts off what has not answered within 30 s.
EMPTY_SECONDS = 20.0


class Queues:
    """The endpoints. A queue is all of its priorities, whichever is named."""

    def __init__(self, control: Control, figures: Figures, names: Collection[str]) -> None:
        self._control = control
        self._figures = figures
        self._names = frozenset(names)

    async def show(self, _: Request) -> Answer:
        """GET /v1/queues."""
        return json_answer({"data": [each.shown() for each in await self._figures.queues()]})

    async def show_one(self, request: Request) -> Answer:
        """GET /v1/queues/{name}: with its last hour."""
        name, _ = split_queue_name(request.path_params["name"])
        found = await self._figures.queue(name)
        if found is None:
            raise _no_such_queue()
        minutes, hour = await asyncio.gather(self._figures.minutes(name), self._figures.hour())
        shown = {
            "minutes": [_show_minute(each) for each in minutes],
            "waiting": [_show_waiting(each, name) for each in hour],
        }
        return json_answer(found.shown() | shown)

    async def pause(self, request: Request) -> Answer:
        """POST /v1/queues/{name}/pause: what runs goes on, nothing more is started."""
        name = await self._name(request)
        await self._control.pause(name, acting_key(request).name)
        return self._told("queue_paused", name, request)

    async def resume(self, request: Request) -> Answer:
        """POST /v1/queues/{name}/resume."""
        name = await self._name(request)
        await self._control.resume(name, acting_key(request).name)
        return self._told("queue_resumed", name, request)

    async def empty(self, request: Request) -> Answer:
        """DELETE /v1/queues/{name}/jobs: what waits there is canceled."""
        name = await self._known(request)
        # The name of a priority empties all of them, so that is what has to be confirmed.
        if request.query_params.get("confirm") != name:
            detail = f"must be {name}, so that no queue is emptied by mistake"
            raise InvalidRequestError.parameter("confirm", detail)
        key = acting_key(request).name
        emptied = await self._empty(name, key)
        logs.event(
            log, "queue_emptied", logging.WARNING, queue=name, key=key,
            canceled=emptied.canceled, is_complete=emptied.is_complete,
        )  # fmt: skip
        return json_answer({"name": name, **emptied._asdict()})

    async def _empty(self, name: str, key: str) -> Emptied:
        until = time.monotonic() + EMPTY_SECONDS
        emptied = Emptied(0, is_complete=False)
        async for emptied in self._control.empty(name, key):
            if time.monotonic() >= until:
                return emptied
        return emptied

    async def _name(self, request: Request) -> str:
        await require_no_fields(request.scope, request.receive)
        return await self._known(request)

    async def _known(self, request: Request) -> str:
        name, _ = split_queue_name(request.path_params["name"])
        # Another program's queue in the same Redis can be held, too, where there is one.
        if name not in self._names and await self._figures.queue(name) is None:
            raise _no_such_queue()
        return name

    def _told(self, event: str, name: str, request: Request) -> Answer:
        logs.event(log, event, queue=name, key=acting_key(request).name)
        return json_answer({"name": name, "paused": event == "queue_paused"})


def _no_such_queue() -> NotFoundError:
    return NotFoundError("There is no queue of this name.")


def _show_minute(minute: Minute) -> dict[str, Any]:
    return {
        "at": minute.at,
        "seconds": minute.seconds,
        "accepted": minute.accepted,
        **minute.ended,
        "retried": minute.retried,
        "wait": _show_times(minute.wait),
        "run": _show_times(minute.run),
    }


def _show_waiting(noted: Depths, name: str) -> dict[str, Any]:
    return {
        "at": noted.at,
        "depth": noted.depths.get(name, 0),
        "oldest_age": noted.oldest_ages.get(name),
    }


def _show_times(times: Times) -> dict[str, Any]:
    return {"count": times.count, "p50": times.quantile(0.5), "p95": times.quantile(0.95)}
