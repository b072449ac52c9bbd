"""Who works: the endpoint /v1/workers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.ports import Figures
from app.queue.figures import WorkerFigures


class Workers:
    """The endpoint."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    async def show(self, _: Request) -> Answer:
        """GET /v1/workers."""
        return json_answer({"data": [_show(each) for each in await self._figures.workers()]})


def _show(worker: WorkerFigures) -> dict[str, Any]:
    shown = worker._asdict()
    return shown | {"running": list(worker.running), "queues": list(worker.queues)}
