"""Waiting on a client's behalf: until its job ends, its time is up, or nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.http.ports import Watcher
from app.queue.records.views import Event, JobView

RESUBSCRIBE_SECONDS = 0.5
# What Redis has said takes no longer to be heard.
LAST_SECONDS = 0.5
ENDED = frozenset({"finished", "failed", "canceled", "stopped"})


class Closing:
    """Whether the process is about to end: whoever waits then stops, so that it can."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    def begin(self) -> None:
        self._begun.set()

    async def wait(self) -> None:
        await self._begun.wait()

    @property
    def has_begun(self) -> bool:
        return self._begun.is_set()


class Patience:
    """One client's: until its time is up, it has gone, or the process is about to end.

    The body must have been read. `stay` and `pause` raise ClientDisconnect.
    """

    def __init__(self, receive: Receive, seconds: float, closing: Closing) -> None:
        self._receive = receive
        self._closing = closing
        self._until = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0: there is nothing more to wait for."""
        if self._closing.has_begun:
            return 0.0
        return max(0.0, self._until - asyncio.get_running_loop().time())

    def end(self) -> None:
        """What was waited for has happened."""
        self._until = 0.0

    async def stay(self, wait: Callable[[float], Coroutine[Any, Any, bool]]) -> bool:
        """What came of waiting for so many seconds. False, and time is left: it was cut short."""
        return await stay(self._receive, wait(self.left), self._closing)

    async def hear_out(self, last: LastEvent) -> None:
        """A job that is gone already: it may have ended since we listen, and what was said of it be
        on its way."""
        await self.stay(lambda left: last.wait(min(left, LAST_SECONDS)))

    async def pause(self) -> None:
        """Before a lost subscription is had again: Redis may be on its way back."""
        await self.stay(_pause)


async def _pause(seconds: float) -> bool:
    await asyncio.sleep(min(seconds, RESUBSCRIBE_SECONDS))
    return True


class Awaited(Protocol):
    """What may be waited for; `True` once it has happened."""

    async def wait(self, seconds: float) -> bool: ...


@dataclass(slots=True)
class LastEvent:
    """Follows one job that may be gone by the time that it can be looked at."""

    live: AsyncIterator[Event]
    found: list[Event] = field(default_factory=list)

    async def wait(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for event in self.live:
                    if event.is_last:
                        self.found.append(event)
                        return True
        return False

    def as_ended(self, view: JobView) -> JobView | None:
        """The job as it was when it ended; None when that was not heard."""
        if not self.found:
            return None
        event = self.found[0]
        assert event.is_last
        view.status = event.name  # type: ignore[assignment]
        view.ended_at = event.at
        view.attempt = event.detail.get("attempt", view.attempt)
        view.reason = event.detail.get("reason")
        return view


@asynccontextmanager
async def following(
    watcher: Watcher, job_id: str, *, is_kept: bool
) -> AsyncIterator[Awaited | LastEvent]:
    """What ends with the job; what it ended as is remembered when the job itself is not kept."""
    if is_kept:
        async with watcher.ended([job_id]) as waiting:
            yield waiting
    else:
        async with watcher.events(job_id) as live:
            yield LastEvent(live)


async def stay(receive: Receive, awaited: Coroutine[Any, Any, bool], closing: Closing) -> bool:
    """What came of it; False when the process is about to end.

    Raises ClientDisconnect once the client has gone. The body must have been read.
    """
    work = asyncio.create_task(awaited)
    gone = asyncio.create_task(until_gone(receive))
    end = asyncio.create_task(closing.wait())
    tasks = (work, gone, end)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone.done():
            raise ClientDisconnect
        return False
    finally:
        await give_up(*tasks)


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def give_up(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is not done, and see it end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
