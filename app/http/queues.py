"""Pausing and resuming queues: the endpoints under /v1/queues."""

from __future__ import annotations

import logging
from collections.abc import Collection

from starlette.requests import Request

from app import logs
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key
from app.http.bodies import require_no_fields
from app.http.faults import NotFoundError
from app.http.ports import Control
from app.queue.records import split_queue_name

log = logging.getLogger("recado.http")


class Queues:
    """The endpoints. A queue is all of its priorities, whichever is named."""

    def __init__(self, control: Control, names: Collection[str]) -> None:
        self._control = control
        self._names = frozenset(names)

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

    async def _name(self, request: Request) -> str:
        await require_no_fields(request.scope, request.receive)
        name, _ = split_queue_name(request.path_params["name"])
        if name not in self._names:
            raise NotFoundError("There is no queue of this name.")
        return name

    def _told(self, event: str, name: str, request: Request) -> Answer:
        logs.event(log, event, queue=name, key=acting_key(request).name)
        return json_answer({"name": name, "paused": event == "queue_paused"})
