"""Callers that arrive together travel together; nobody waits for a batch to fill."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
# Hears the answer to an item, or why there is none.
Done = Callable[[Any, BaseException | None], None]
Begin = Callable[[Sequence[Item], Callable[[Sequence[Answer] | None], None]], bool]

# A larger call holds the server up for everybody (measured: 64 records of 1 KB take 1.3 ms,
# 1,000 take 29 ms).
MOST_ITEMS = 64
MOST_BYTES = 1024 * 1024
# So many are begun with at once, before more are looked at: server and caller work side by side,
# where they would wait for each other in turn if all clients of a moment made one call.
ENOUGH_ITEMS = 16


class Batcher(Generic[Item, Answer]):
    """Sends what is waiting, one call at a time; what arrives meanwhile makes the next one.

    `send` takes a non-empty sequence and returns an answer for each item, or raises, which
    every caller of that batch then sees. `weigh` tells an item's bytes, or what it costs the
    server in other ways as if it were bytes. `begin` is asked first: it sends without a coroutine
    and hears later of the answers, or of None: `send` has to see to this batch. False: at once.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        weigh: Callable[[Item], int],
        begin: Begin[Item, Answer] | None = None,
    ) -> None:
        self._send = send
        self._weigh = weigh
        self._begin = begin
        self._waiting: deque[tuple[Item, Done]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_due = False
        self._sender: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Answer:
        """Send the item with its neighbours and return its answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Any, error: BaseException | None) -> None:
            if future.done():
                return  # its caller has left; what was sent stands all the same
            if error is None:
                future.set_result(answer)
            elif isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)

        self.add(item, done)
        return await future

    def add(self, item: Item, done: Done) -> None:
        """The same for who does not wait in a coroutine: sixty-four that are suspended and woken
        one by one cost more than all else of a batch.
        """
        self._waiting.append((item, done))
        if self._idle.is_set():
            self._idle.clear()
            # Not now: who else comes in this turn of the loop comes along.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send_due, context=Context())
        elif self._begin is not None and len(self._waiting) >= ENOUGH_ITEMS:
            self._send_due()

    async def aclose(self) -> None:
        """Wait until everything that was put has its answer."""
        await self._idle.wait()

    def _send_due(self) -> None:
        if self._is_due:
            self._is_due = False
            self._send_next()

    def _send_next(self) -> None:
        if not self._waiting:
            self._idle.set()
            return
        batch = self._take()
        if not self._has_begun(batch):
            self._send_whole(batch)

    def _send_whole(self, batch: list[tuple[Item, Done]]) -> None:
        # What it logs, and the connection that it may open, are not of one caller's request.
        self._sender = asyncio.create_task(self._send_one(batch), context=Context())

    def _has_begun(self, batch: list[tuple[Item, Done]]) -> bool:
        if self._begin is None:
            return False
        try:
            return self._begin([item for item, _ in batch], partial(self._begun, batch))
        except Exception:  # noqa: BLE001 - `send` finds it again, and its callers hear of it
            return False

    def _begun(self, batch: list[tuple[Item, Done]], answers: Sequence[Answer] | None) -> None:
        if answers is None or len(answers) != len(batch):
            self._send_whole(batch)
            return
        # The server is given work before these are told.
        self._send_next()
        _tell_all(batch, answers)

    def _take(self) -> list[tuple[Item, Done]]:
        batch: list[tuple[Item, Done]] = []
        room = MOST_BYTES
        while self._waiting and len(batch) < MOST_ITEMS:
            room -= self._weigh(self._waiting[0][0])
            if batch and room < 0:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _send_one(self, batch: list[tuple[Item, Done]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} items")
        except asyncio.CancelledError as error:
            # Who waits behind it would wait for ever.
            stranded = [*batch, *self._waiting]
            self._waiting.clear()
            self._idle.set()
            _fail_all(stranded, error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its callers must see it
            self._send_next()
            _fail_all(batch, error)
        else:
            self._send_next()
            _tell_all(batch, answers)


def _tell_all(batch: Sequence[tuple[Any, Done]], answers: Sequence[Any]) -> None:
    for (_, done), answer in zip(batch, answers, strict=True):
        _tell(done, answer, None)


def _fail_all(batch: Sequence[tuple[Any, Done]], error: BaseException) -> None:
    for _, done in batch:
        _tell(done, None, error)


def _tell(done: Done, answer: Any, error: BaseException | None) -> None:
    try:
        done(answer, error)
    except Exception as fault:  # noqa: BLE001 - one that stumbles must not keep its neighbours waiting
        context = {"message": "an answer was not taken", "exception": fault}
        asyncio.get_running_loop().call_exception_handler(context)
