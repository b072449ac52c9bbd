"""Takes drafts from many callers to Redis, together; for the web process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.queue import keys, scripts, server
from app.queue.asked import Group, chunks, plain_arguments, submit_arguments
from app.queue.batching import MOST_BYTES, MOST_ITEMS, Batcher
from app.queue.calling import BROKEN_EXC, begin_script, run_script
from app.queue.connection import REPLY_SECONDS, Lane, Reachability, is_away
from app.queue.errors import (
    IdempotencyMismatchError,
    IdempotencyPendingError,
    JobIdTakenError,
    QueueUnavailableError,
)
from app.queue.packing import pack
from app.queue.records.drafts import Idempotency, JobDraft, KeptAnswer, Replay
from app.queue.times import from_us
from app.queue.verdicts import (
    FULL_RETRY_SECONDS,
    become,
    check,
    pack_answer,
    unpack_answer,
)

SUBMIT_SECONDS = 4.0
# For the whole of a large batch, while Redis answers.
BATCH_SECONDS = 10.0
# For who has waited in line for the whole limit, behind others that got no answer.
LAST_TRY_SECONDS = 0.1
# When it was in vain: so long the rest of that line is refused at once, and not batch by batch.
VAIN_SECONDS = 1.0
STAGED_SECONDS = 60
# A longer answer is put together again from what it told of.
MOST_KEPT_BYTES = 256 * 1024
MEMORY_LOOK_SECONDS = 1.0
MOST_QUEUED = 1_000_000
MOST_QUEUED_BYTES = 2 * 1024**3
_QUEUED = [1, b"queued"]
# Of an idempotency key: see idempotency.lua. The last four are what `become` reads.
_RECALLED = (b"fingerprint", b"pending", b"answer", b"id", b"us", b"request", b"status")
# When Redis recorded it, and what of; see submit.lua.
_Told = tuple[datetime, list[Any]]
T = TypeVar("T")


class Submitter:
    """One for a process. Callers that arrive together share a call of the script."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        give_up_seconds: float = SUBMIT_SECONDS,
        most_queued: int = MOST_QUEUED,
        most_queued_bytes: int = MOST_QUEUED_BYTES,
    ) -> None:
        self._lane = Lane(client, reachability)
        self._batch_lane = Lane(client, reachability)
        self._name = os.urandom(9).hex()
        self._seq = 0
        # A call whose reply was lost is sent again under its number.
        self._is_unanswered = False
        self._give_up_seconds = give_up_seconds
        self._budgets = (most_queued, most_queued_bytes)
        self._batcher: Batcher[Group, _Told] = Batcher(
            self._send, lambda group: group.weight, self._begin
        )
        # What was said of the last call that failed: why, and when to come back.
        self._refused_with = ("", 0)
        self._refused_at = -VAIN_SECONDS
        self._memory_looked_at = -MEMORY_LOOK_SECONDS
        self._memory_fault: str | None = None

    async def submit(
        self, draft: JobDraft, idempotency: Idempotency | None = None
    ) -> Replay | None:
        """Return when Redis has acknowledged the job, and put its times on the draft.

        Not None: the idempotency key was used before for the same request; the draft is now
        the first job as it was then. Raises QueueUnavailableError when Redis did not answer
        within the limit (the job may stand all the same if only the reply was lost),
        IdempotencyMismatchError, UnknownParentError, ExpiredError.
        """
        group = Group([pack(draft)], "", idempotency)
        at, answer = await self._batcher.put(group)
        if answer[0] == 2:
            become(draft, answer)
            return await self._replay(group, answer)
        _record(group, at, answer)
        return None

    def begin(self, draft: JobDraft, done: Callable[[BaseException | None], None]) -> None:
        """`submit` of a draft without an idempotency key, for who does not wait in a coroutine.

        `done` is called later, with None or with what `submit` would have raised. What begins
        here itself raises has submitted nothing.
        """
        group = Group([pack(draft)], "", None)

        def answered(told: Any, error: BaseException | None) -> None:
            if error is None:
                try:
                    _record(group, *told)
                except Exception as refusal:  # noqa: BLE001 - it is for `done` to hear
                    error = refusal
            done(error)

        self._batcher.add(group, answered)

    async def submit_batch(
        self,
        batch_id: str,
        drafts: Sequence[JobDraft],
        idempotency: Idempotency | None = None,
        places: Sequence[int] | None = None,
    ) -> Replay | None:
        """Accept all drafts, or none. Not None: the key was used before for the same request.

        `places` are kept: where in the request the drafts stood, if not all of it is here.
        Raises as `submit` does, and IdempotencyPendingError.
        """
        for draft in drafts:
            draft.batch_id = batch_id
        group = Group([pack(draft) for draft in drafts], batch_id, idempotency, places)
        bodies = any(job.body is not None for job in group.jobs)
        if bodies or group.weight > MOST_BYTES:
            return await self._submit_large(group)
        at, answer = await self._batcher.put(group)
        if answer[0] == 2:
            return await self._replay(group, answer)
        check(answer, group.jobs)
        for draft, status in zip(drafts, answer[1:], strict=True):
            draft.recorded(at, status.decode())
        return None

    async def recall(
        self, by: str, idempotency: Idempotency, draft: JobDraft | None = None
    ) -> Replay | None:
        """What became of the same request when it came first; None: it has not come yet.

        For who must know before the files are looked at that it names: they may be gone by now.
        A draft that is not of a batch is now the first job as it was then. Raises
        IdempotencyMismatchError, IdempotencyPendingError and QueueUnavailableError.
        """
        name = keys.idempotency(by, idempotency.key)

        async def look() -> Any:
            return await self._batch_lane.call(b"HMGET", name, *_RECALLED)

        found = await _within(self._give_up_seconds, self._give_up_seconds, look)
        fingerprint, pending, kept, *job = found
        if fingerprint is None:
            return None
        if fingerprint.decode() != idempotency.fingerprint:
            raise IdempotencyMismatchError
        first_id = job[0].decode()
        if pending is not None and await self._is_under_way(first_id):
            raise IdempotencyPendingError
        if draft is not None:
            become(draft, [2, *job])
        return Replay(first_id, None if kept is None else unpack_answer(kept))

    async def keep_answer(self, idempotency: Idempotency, by: str, answer: KeptAnswer) -> None:
        """Let who repeats the request have the same answer; without a word when that cannot be."""
        packed = pack_answer(answer)
        if len(packed) > MOST_KEPT_BYTES:
            return
        keeping = run_script(
            self._batch_lane, scripts.ANSWER,
            keys.idempotency_id(by, idempotency.key), idempotency.fingerprint, packed,
        )  # fmt: skip
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await keeping

    async def aclose(self) -> None:
        await self._batcher.aclose()
        await self._lane.close()
        await self._batch_lane.close()

    def _begin(
        self, groups: Sequence[Group], done: Callable[[Sequence[_Told] | None], None]
    ) -> bool:
        """The call that nearly all submissions take, without a coroutine; `_send` does the rest."""
        now = asyncio.get_running_loop().time()
        seconds = self._give_up_seconds - (now - groups[0].since)
        if seconds < LAST_TRY_SECONDS or self._memory_fault is not None or self._must_look(now):
            return False
        plain = plain_arguments(groups)
        if plain is None:
            return False

        def replied(reply: Any, error: Exception | None) -> None:
            self._is_unanswered = error is not None
            told = None
            if reply is not None:
                # What is no answer of ours is asked for again, by who can tell of it.
                with contextlib.suppress(TypeError, ValueError):
                    told = _told(reply)
            done(told)

        arguments = [*self._heading(), *plain]
        seconds = min(seconds, REPLY_SECONDS)
        return begin_script(self._lane, scripts.SUBMIT_PLAIN, arguments, seconds, replied)

    def _heading(self) -> list[Any]:
        if self._is_unanswered:
            self._is_unanswered = False
        else:
            self._seq += 1
        return [self._name, self._seq, *self._budgets]

    async def _send(self, groups: Sequence[Group]) -> Sequence[_Told]:
        was_sent, heading = self._is_unanswered, self._heading()
        left = self._give_up_seconds - (asyncio.get_running_loop().time() - groups[0].since)
        if left < LAST_TRY_SECONDS and not was_sent:
            self._check_line()
        plain = plain_arguments(groups)
        bodies = [job for group in groups for job in group.jobs if job.body is not None]

        async def send() -> Any:
            await self._check_memory()
            if plain is not None:
                done = await run_script(self._lane, scripts.SUBMIT_PLAIN, *heading, *plain)
                if done is not None:
                    return done
            for job in bodies:
                await run_script(
                    self._lane, scripts.STAGE, STAGED_SECONDS, 1, job.draft.id, 2, "data", job.body
                )
            return await run_script(self._lane, scripts.SUBMIT, *heading, *submit_arguments(groups))

        seconds = max(left, LAST_TRY_SECONDS)
        try:
            return _told(await _within(seconds, seconds, send))
        except QueueUnavailableError as error:
            self._refused_with = error.reason, error.retry_after_seconds
            self._refused_at = asyncio.get_running_loop().time()
            raise

    def _check_line(self) -> None:
        """Of those who have waited for the whole limit. Raises QueueUnavailableError."""
        if asyncio.get_running_loop().time() - self._refused_at < VAIN_SECONDS:
            raise QueueUnavailableError(*self._refused_with)

    async def _is_under_way(self, batch_id: str) -> bool:
        async def look() -> Any:
            return await self._batch_lane.call(b"EXISTS", keys.batch_todo(batch_id))

        return bool(await _within(self._give_up_seconds, self._give_up_seconds, look))

    async def _replay(self, group: Group, answer: list[Any]) -> Replay:
        first_id, is_kept, key = answer[1].decode(), answer[5], group.idempotency
        if not is_kept or key is None:
            return Replay(first_id)
        name = keys.idempotency(group.first.submitted_by or "", key.key)

        async def look() -> Any:
            return await self._batch_lane.call(b"HGET", name, b"answer")

        kept = await _within(self._give_up_seconds, self._give_up_seconds, look)
        return Replay(first_id, None if kept is None else unpack_answer(kept))

    async def _submit_large(self, group: Group) -> Replay | None:
        """Records first, with a TTL, then one script that makes them count."""
        lane = self._batch_lane
        commit = [
            *self._budgets, *group.batch_heading(), *group.heading(),
            *(job.draft.id for job in group.jobs),
        ]  # fmt: skip

        async def send() -> Any:
            await self._check_memory()
            for chunk in chunks(group.jobs):
                records = [part for job in chunk for part in job.record(group.batch_id)]
                await run_script(lane, scripts.STAGE, STAGED_SECONDS, len(chunk), *records)
            return await run_script(lane, scripts.COMMIT, *commit)

        now_us, answer = await _within(BATCH_SECONDS, self._give_up_seconds, send)
        if answer[0] == 2:
            return await self._replay(group, answer)
        check(answer, group.jobs)
        for job in group.jobs:
            job.draft.recorded(from_us(int(now_us)))
        await self._activate(group.batch_id)
        return None

    async def _activate(self, batch_id: str) -> None:
        """The batch is accepted; should Redis go away now, upkeep goes on with it."""
        try:
            while await run_script(
                self._batch_lane, scripts.ACTIVATE, batch_id, MOST_ITEMS, BROKEN_EXC
            ):
                pass
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, RedisError) and not is_away(error):
                raise

    async def _check_memory(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._must_look(now):
            self._memory_looked_at = now
            info = await self._lane.call(b"INFO", b"memory")
            self._memory_fault = server.memory_fault(server.facts_of(info))
        if self._memory_fault is not None:
            raise QueueUnavailableError(self._memory_fault, FULL_RETRY_SECONDS)

    def _must_look(self, now: float) -> bool:
        return now - self._memory_looked_at >= MEMORY_LOOK_SECONDS


def _told(reply: Any) -> list[_Told]:
    """What each group is answered by what the script was."""
    now_us, answers = reply
    if isinstance(answers, int):
        answers = [_QUEUED] * answers
    at = from_us(int(now_us))
    return [(at, answer) for answer in answers]


def _record(group: Group, at: datetime, answer: list[Any]) -> None:
    """Put on a lone draft what Redis recorded. Raises what a refusal means."""
    draft = group.first
    if answer[0] == 0:
        raise JobIdTakenError(draft.id)
    check(answer, group.jobs)
    draft.recorded(at, answer[1].decode())


async def _within(seconds: float, patience: float, send: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that is safe to repeat: it may take `seconds` in all, and begin anew for the
    first `patience` of them. Raises QueueUnavailableError.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    pause = 0.02
    refused = 0
    while True:
        try:
            async with asyncio.timeout_at(began + seconds):
                return await send()
        except (RedisError, OSError, TimeoutError) as error:
            refusal = server.refusal(error)
            refused += refusal is not None
            if isinstance(error, RedisError) and refusal is None and not is_away(error):
                raise
            # Once more on a new connection, where a Sentinel may know of another primary.
            if refused > 1 or refusal == server.FULL:
                raise QueueUnavailableError(str(refusal), FULL_RETRY_SECONDS) from error
            if loop.time() + pause >= began + patience:
                raise QueueUnavailableError(server.explain(error)) from error
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.5)
