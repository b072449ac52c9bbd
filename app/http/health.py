"""Is it up, is it ready, and what is here: for load balancers, alerts and the curious."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from app.http.answers import Answer, json_answer
from app.http.ports import Reader
from app.queue.errors import QueueUnavailableError

READINESS_SECONDS = 5.0


class Health:
    """/healthz, /readyz and the index at /."""

    def __init__(self, views: Reader, queues: list[str], links: dict[str, str]) -> None:
        self._views = views
        self._queues = queues
        self._links = links

    async def alive(self, _: Request) -> Answer:
        """GET /healthz: this process answers. It asks nobody else."""
        return json_answer({"status": "ok"})

    async def ready(self, _: Request) -> Answer:
        """GET /readyz: jobs are taken and run, or 503 with the reasons."""
        reasons = await self._reasons()
        if not reasons:
            return json_answer({"status": "ok", "reasons": []})
        return json_answer({"status": "unavailable", "reasons": reasons}, 503)

    async def index(self, _: Request) -> Answer:
        """GET /."""
        return json_answer({"name": "Recado", "links": self._links}, cacheable=True)

    async def _reasons(self) -> list[str]:
        try:
            async with asyncio.timeout(READINESS_SECONDS):
                return await self._views.readiness(self._queues)
        except QueueUnavailableError as error:
            return [error.reason]
        except TimeoutError:
            return [f"Redis did not answer within {READINESS_SECONDS:g} s"]
