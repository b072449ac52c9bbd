"""A job's events as they happen, for any number of listeners over one subscription."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.errors import QueueUnavailableError
from app.queue.reading import event_of
from app.queue.records.views import Event

RECONNECT_SECONDS = 0.5
# A listener that does not keep up is cut off, and reads the trail again.
MOST_WAITING = 1000
_PREFIX = keys.events("").encode()
# The channel of no job, which is never left: a subscription of nothing would end, and the next
# listener would have to wait for another.
_ALWAYS = keys.events("")
_Heard = asyncio.Queue[Event | None]


class Watcher:
    """One for a process. `run` hears; without it nothing ever arrives."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._listeners: dict[str, set[_Heard]] = defaultdict(set)
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._pubsub: async_redis.client.PubSub | None = None
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Hear until cancelled. A lost subscription ends every iterator, then begins anew."""
        while True:
            await self._wanted.wait()
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                self._reachability.lost(error)
            finally:
                await self._lose()
            await asyncio.sleep(RECONNECT_SECONDS)

    @asynccontextmanager
    async def events(self, job_id: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Events from now on. The iterator ends when the subscription is lost.

        Raises QueueUnavailableError when there is none to be had.
        """
        heard: _Heard = asyncio.Queue(MOST_WAITING)
        async with self._listening([job_id], heard):
            yield _iterate(heard)

    @asynccontextmanager
    async def ended(self, job_ids: Iterable[str]) -> AsyncIterator[WaitingForEnds]:
        """Listen for these jobs' ends, before they are submitted or looked at."""
        ids = list(job_ids)
        heard: _Heard = asyncio.Queue()
        async with self._listening(ids, heard):
            yield WaitingForEnds(set(ids), heard)

    @asynccontextmanager
    async def _listening(self, job_ids: list[str], heard: _Heard) -> AsyncIterator[None]:
        try:
            await self._subscribe(job_ids, heard)
        except BaseException:
            # Redis has just not answered: leaving need not wait for that once more.
            self._drop(job_ids, heard)
            raise
        try:
            yield
        finally:
            await self._unsubscribe(job_ids, heard)

    async def _subscribe(self, job_ids: list[str], heard: _Heard) -> None:
        loop = asyncio.get_running_loop()
        new = []
        for job_id in job_ids:
            if not self._listeners[job_id]:
                self._confirmed[job_id] = loop.create_future()
                new.append(job_id)
            self._listeners[job_id].add(heard)
        if new:
            await ask(self._send(new, subscribe=True), self._reachability)
        waiting = [self._confirmed[each] for each in job_ids if each in self._confirmed]
        done = asyncio.gather(*(asyncio.shield(each) for each in waiting))
        try:
            await ask(done, self._reachability)
        except asyncio.CancelledError:
            if all(not each.cancelled() for each in waiting):
                raise
            raise QueueUnavailableError("Redis does not answer") from None

    async def _unsubscribe(self, job_ids: list[str], heard: _Heard) -> None:
        gone = self._drop(job_ids, heard)
        if gone and self._pubsub is not None:
            with contextlib.suppress(QueueUnavailableError, RedisError):
                await ask(self._send(gone, subscribe=False), self._reachability)

    def _drop(self, job_ids: list[str], heard: _Heard) -> list[str]:
        """The listener leaves; the ids of jobs that nobody listens to any more."""
        gone = []
        for job_id in job_ids:
            self._listeners[job_id].discard(heard)
            if not self._listeners[job_id]:
                del self._listeners[job_id]
                self._confirmed.pop(job_id, None)
                gone.append(job_id)
        return gone

    async def _send(self, job_ids: list[str], *, subscribe: bool) -> None:
        async with self._turn:
            if self._pubsub is None:
                if not subscribe:
                    return
                self._pubsub = self._client.pubsub()
            channels = [keys.events(job_id) for job_id in job_ids]
            if subscribe:
                await self._pubsub.subscribe(_ALWAYS, *channels)
                self._wanted.set()
            else:
                await self._pubsub.unsubscribe(*channels)

    async def _hear(self) -> None:
        pubsub = self._pubsub
        while pubsub is not None and pubsub.subscribed:
            message = await pubsub.get_message(timeout=5.0)
            if message is not None:
                self._tell(message)
        self._wanted.clear()
        if pubsub is not None and pubsub.subscribed:
            self._wanted.set()

    def _tell(self, message: dict[str, object]) -> None:
        channel = message["channel"]
        assert isinstance(channel, bytes)
        job_id = channel.removeprefix(_PREFIX).decode()
        if message["type"] == "subscribe":
            confirmed = self._confirmed.get(job_id)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)
        elif message["type"] == "message":
            data = message["data"]
            event = event_of(data) if isinstance(data, bytes) else None
            if event is None:
                return
            event = event._replace(detail={**event.detail, "job_id": job_id})
            for heard in list(self._listeners.get(job_id, ())):
                _offer(heard, event)

    async def _lose(self) -> None:
        """Whoever listens must read the trail again: something may have been missed."""
        async with self._turn:
            pubsub, self._pubsub = self._pubsub, None
            self._wanted.clear()
            # Now, and not later: who comes from here on subscribes anew, and has missed nothing.
            unconfirmed = list(self._confirmed.values())
            deaf = [heard for listeners in self._listeners.values() for heard in listeners]
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]
        for confirmed in unconfirmed:
            confirmed.cancel()
        for heard in deaf:
            _offer(heard, None)


class WaitingForEnds:
    """Counts down as the jobs end."""

    def __init__(self, job_ids: set[str], heard: _Heard) -> None:
        self._left = job_ids
        self._heard = heard

    def settle(self, job_id: str) -> None:
        """This one has ended, as somebody who looked has seen."""
        self._left.discard(job_id)

    async def wait(self, seconds: float) -> bool:
        """True once all have ended; false when the time is up or the subscription is lost."""
        try:
            async with asyncio.timeout(seconds):
                while self._left:
                    event = await self._heard.get()
                    if event is None:
                        return False
                    if event.is_last:
                        self._left.discard(str(event.detail["job_id"]))
        except TimeoutError:
            return False
        return True


async def _iterate(heard: _Heard) -> AsyncIterator[Event]:
    while (event := await heard.get()) is not None:
        yield event


def _offer(heard: _Heard, event: Event | None) -> None:
    try:
        heard.put_nowait(event)
    except asyncio.QueueFull:
        with contextlib.suppress(asyncio.QueueEmpty):
            heard.get_nowait()
        with contextlib.suppress(asyncio.QueueFull):
            heard.put_nowait(None)
