"""Figures of queues and workers in memory, where what they say is not the point."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from app.queue.errors import QueueUnavailableError
from app.queue.figures import Depths, Measures, Minute, QueueFigures, WorkerFigures


@dataclass
class MemoryFigures:
    """Keeps to `app.http.ports.Figures`; the test says what there is."""

    found: list[QueueFigures] = field(default_factory=list)
    working: list[WorkerFigures] = field(default_factory=list)
    unavailable: str | None = None

    async def queues(self) -> list[QueueFigures]:
        return self.found

    async def queue(self, name: str) -> QueueFigures | None:
        return next((each for each in self.found if each.name == name), None)

    async def minutes(self, _: str) -> list[Minute]:
        return []

    async def hour(self) -> list[Depths]:
        return []

    async def workers(self) -> list[WorkerFigures]:
        return self.working

    async def measures(self, _: Collection[str]) -> Measures:
        if self.unavailable is not None:
            raise QueueUnavailableError(self.unavailable)
        return Measures(queues=self.found, workers=self.working)
