"""What the HTTP side asks of the queue side, so that neither imports the other's library."""

from __future__ import annotations

from typing import Protocol

from app.queue.records import JobDraft, JobView


class Submitter(Protocol):
    """Takes jobs. The real one is `app.queue.transitions.Transitions`."""

    async def submit(self, draft: JobDraft) -> None:
        """Return when Redis has acknowledged the job, never earlier.

        Raises QueueUnavailableError when it cannot take it.
        """
        ...


class Reader(Protocol):
    """Tells how things stand. The real one is `app.queue.views.Views`.

    Every method raises QueueUnavailableError when Redis cannot be asked.
    """

    async def job(self, job_id: str) -> JobView | None: ...

    async def readiness(self, queues: list[str]) -> list[str]:
        """Why the service is not ready, in words; empty when it is."""
        ...

    async def session_secret(self) -> bytes:
        """The key that signs sessions: made once, the same for every web process."""
        ...

    async def warnings(self, queue: str) -> list[str]:
        """What a client should know of a queue's capacity. Cached: cheap enough for a POST."""
        ...
