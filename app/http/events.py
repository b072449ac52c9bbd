"""GET /v1/jobs/{id}/events: a job's trail, as JSON or as a stream that goes on to its end.

The stream is `text/event-stream` as the HTML standard has it (9.2, Server-sent events).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.http.answers import Answer, json_answer, render
from app.http.bodies import header
from app.http.lookup import Lookup
from app.http.ports import Reader, Watcher
from app.http.showing import show_event
from app.http.waiting import RESUBSCRIBE_SECONDS, Closing, give_up, until_gone
from app.queue.errors import JobNotFoundError, QueueUnavailableError
from app.queue.records.views import Event

PING_SECONDS = 15.0
RECONNECT_MS = 2000
_EVENT_ID = re.compile(rb"\d{1,15}")
_VARY = (b"vary", b"accept")
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx would collect the events and send them together.
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
    _VARY,
]
# Before the first event; each has a number, and they only grow.
START = -1


class Events:
    """The endpoint."""

    def __init__(
        self,
        lookup: Lookup,
        views: Reader,
        watcher: Watcher,
        closing: Closing,
        ping_seconds: float,
    ) -> None:
        self._lookup = lookup
        self._ping_seconds = ping_seconds
        self._views = views
        self._watcher = watcher
        self._closing = closing

    async def show(self, request: Request) -> Answer | EventStream:
        """GET /v1/jobs/{id}/events."""
        view = await self._lookup.visible(request)
        if _wants_stream(request):
            given = header(request.scope, b"last-event-id")
            after = _read_place(given) if given is not None else START
            return EventStream(
                view.id, after, self._views, self._watcher,
                closing=self._closing, ping_seconds=self._ping_seconds,
            )  # fmt: skip
        trail = await self._views.trail(view.id)
        if trail is None:
            raise JobNotFoundError(view.id)
        return json_answer({"data": [show_event(event) for event in trail]}, headers=[_VARY])


class EventStream:
    """The trail, then what happens, until the job ends; or the client or the process does.

    A client that comes back after the end is told, by 204, not to come again.
    """

    def __init__(
        self,
        job_id: str,
        after: int,
        views: Reader,
        watcher: Watcher,
        *,
        closing: Closing,
        ping_seconds: float,
    ) -> None:
        self._ping_seconds = ping_seconds
        self._job_id = job_id
        self._at = after
        self._views = views
        self._watcher = watcher
        self._closing = closing
        self._is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends = (
            asyncio.create_task(until_gone(receive)),
            asyncio.create_task(self._closing.wait()),
        )
        try:
            while not await self._pass(scope, send, ends):
                await asyncio.wait(
                    ends, timeout=RESUBSCRIBE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
        except (QueueUnavailableError, JobNotFoundError):
            if not self._is_open:
                raise
            # The client asks again, and then hears how things stand.
        finally:
            await give_up(*ends)
        if self._is_open:
            await send({"type": "http.response.body", "body": b""})

    async def _pass(self, scope: Scope, send: Send, ends: Sequence[asyncio.Task[None]]) -> bool:
        """Over one subscription. False: it was lost."""
        async with self._watcher.events(self._job_id) as live:
            trail = await self._views.trail(self._job_id)
            if trail is None:
                raise JobNotFoundError(self._job_id)
            news = [event for event in trail if self._is_news(event)]
            if not self._is_open and not news and self._at != START and _has_ended(trail):
                await Answer(204, headers=[_VARY])(scope, _never, send)
                return True
            await self._open(send)
            if scope["method"] == "HEAD":
                return True
            for event in news:
                await self._tell(send, event)
            if _has_ended(trail):
                return True
            return await self._go_on(live, send, ends)

    async def _go_on(
        self, live: AsyncIterator[Event], send: Send, ends: Sequence[asyncio.Task[None]]
    ) -> bool:
        while True:
            coming = asyncio.create_task(_next(live))
            try:
                while not coming.done():
                    done, _ = await asyncio.wait(
                        (coming, *ends),
                        timeout=self._ping_seconds,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if any(end.done() for end in ends):
                        return True
                    if not done:
                        await _send(send, b": ping\n\n")
                event = coming.result()
            finally:
                await give_up(coming)
            if event is None:
                return False
            if self._is_news(event):
                await self._tell(send, event)
            if event.is_last:
                return True

    async def _open(self, send: Send) -> None:
        if self._is_open:
            return
        self._is_open = True
        headers = list(_STREAM_HEADERS)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send(send, b"retry: %d\n\n" % RECONNECT_MS)

    async def _tell(self, send: Send, event: Event) -> None:
        self._at = _place(event)
        data = render({**event.detail, "job_id": self._job_id, "at": event.at})
        await _send(
            send,
            b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.name.encode(), data),
        )

    def _is_news(self, event: Event) -> bool:
        # What came too late is no event of the job, only of its trail.
        return event.name != "late" and _place(event) > self._at


async def _next(live: AsyncIterator[Event]) -> Event | None:
    async for event in live:
        return event
    return None


async def _send(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _never() -> Any:
    raise AssertionError("an answer reads nothing")


def _has_ended(trail: Sequence[Event]) -> bool:
    """Whether the last thing that happened was the end: a failed job may have been retried."""
    happened = [event for event in trail if event.name not in {"late", "progress"}]
    return bool(happened) and happened[-1].is_last


def _place(event: Event) -> int:
    return _read_place(event.id.encode())


def _read_place(event_id: bytes) -> int:
    """START for an id that no stream gave."""
    return int(event_id) if _EVENT_ID.fullmatch(event_id) is not None else START


def _wants_stream(request: Request) -> bool:
    accept = header(request.scope, b"accept")
    if accept is None:
        return True
    accept = accept.lower()
    return b"text/event-stream" in accept or b"application/json" not in accept
