"""The transitions of a worker and of upkeep; those of new jobs are in submitting.py.

A job changes its state by these scripts and nowhere else.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.queue import scripts
from app.queue.batching import MOST_ITEMS, Batcher
from app.queue.calling import BROKEN_EXC, pack_traceback, run_script
from app.queue.connection import Lane, Reachability, until_answered
from app.queue.explaining import explain
from app.queue.keys import EXPIRES, PREFIX, SCHEDULES, job, queue, scheduled
from app.queue.reading import type_of
from app.queue.scripts import Script
from app.queue.workers import SILENCE_SECONDS

log = logging.getLogger("recado.worker")

# After so long an answer may be history.
FRESH_SECONDS = SILENCE_SECONDS / 2
# How long RQ's tools show a worker that stopped beating without a word.
WORKER_RECORD_SECONDS = 480
UPKEEP_MS = 20_000


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker now runs. `fields` are those of claim.lua, by name."""

    id: str
    execution: str
    queue: str
    attempt: int
    fields: dict[str, bytes]

    @property
    def composite(self) -> str:
        return f"{self.id}:{self.execution}"

    @property
    def type_name(self) -> str:
        """The type that our own submissions name; empty for a stock producer's."""
        return self.text("type")

    def text(self, name: str) -> str:
        return self.fields.get(name, b"").decode("utf-8", "replace")

    def number(self, name: str, default: int = 0) -> int:
        """A field as a whole number; the default when it is absent or none."""
        value = self.fields.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError:
            return default

    def json(self, name: str) -> Any:
        """A field as JSON; None when it is absent or none."""
        value = self.fields.get(name)
        if value is None:
            return None
        try:
            return json.loads(value)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Passed:
    """All up to this job in that queue is of the kind (`c`oroutine, `p`rocess) without a slot."""

    queue: str
    kind: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought. `state` `register`: the worker must be born again first.

    `has_more`: it stopped looking before it had seen all; the next one goes on from `passed`.
    """

    state: Literal["ok", "register", "suspended"]
    jobs: list[Claimed] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seq: int = 0
    has_more: bool = False
    passed: list[Passed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended. Strings are what RQ's result and our trail keep."""

    id: str
    execution: str
    queue: str
    # `postponed` is a retry that does not count; `blocked` one that pauses its queue besides.
    kind: Literal[
        "finished", "retry", "postponed", "blocked", "failed", "stopped", "interrupted",
        "abandoned",
    ]  # fmt: skip
    ttl_seconds: int
    delay_seconds: float = 0.0
    return_value: bytes = b""
    traceback: bytes = b""
    error_json: str = ""
    result_json: str = ""
    detail_json: str = ""
    retries_left: str = ""
    artifacts_json: str = ""
    progress_json: str = ""

    def arguments(self) -> list[Any]:
        return [
            self.id, self.execution, self.queue, self.kind, f"{self.delay_seconds:.3f}",
            self.ttl_seconds, self.return_value, self.traceback, self.error_json,
            self.result_json, self.detail_json, self.retries_left, self.artifacts_json,
            self.progress_json,
        ]  # fmt: skip

    @property
    def size(self) -> int:
        return (
            len(self.return_value) + len(self.traceback) + len(self.error_json)
            + len(self.result_json) + len(self.artifacts_json) + len(self.progress_json) + 200
        )  # fmt: skip


# claim.lua, FIELDS and STOCK_FIELDS
_FIELDS = (
    "status", "type", "data", "timeout", "exact_timeout", "attempt", "max_attempts",
    "failures", "abandoned", "backoff", "request_id", "dry_run", "result", "retries_left",
    "retry_intervals", "result_ttl", "failure_ttl", "created_at", "trail",
    "rate_limit_key", "interrupted", "expires", "stop", "origin",
    "success_callback_name", "failure_callback_name", "stopped_callback_name",
    "repeats_left", "group_id", "webhooks", "stock_type",
)  # fmt: skip
_CLAIM_BYTES = 1024 * 1024
# Half of the usual slots: one half runs while the server is at work for the other.
_CLAIM_JOBS = 32


class WorkerTransitions:
    """The transitions of one worker. Each call repeats until Redis has answered.

    `name` ends in a random word after the last dot, which its executions carry too.
    """

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        *,
        name: str,
        queues: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._clock = clock
        self._queues = queues
        self._reachability = reachability
        self._claim_lane = Lane(client, reachability)
        self._end_lane = Lane(client, reachability)
        self._claim_seq = 0
        self._end_seq = 0
        self._ends: Batcher[Outcome, str | Exception] = Batcher(self._send_ends, lambda o: o.size)
        # What is being claimed may fail rather than wait for Redis.
        self.stop_claiming = False
        self._has_given_up = False

    async def birth(self, fields: dict[str, str]) -> None:
        flat = [part for pair in fields.items() for part in pair]
        await self._repeat(
            scripts.BIRTH,
            self.name, WORKER_RECORD_SECONDS, ",".join(self._queues), *flat,
        )  # fmt: skip

    async def death(self) -> None:
        """Leave. Raises when Redis does not answer: silence then says the same.

        A connection that ended while it was idle says nothing of Redis: a new one is tried.
        """
        await until_answered(
            lambda: run_script(self._claim_lane, scripts.DEATH, self.name, BROKEN_EXC),
            stop=lambda: self._reachability.is_away,
        )

    async def claim(
        self,
        *,
        coroutines: int,
        processes: int,
        queues: Sequence[str],
        process_types: Sequence[str],
        floor: int = 0,
        floor_jobs: int = 0,
        passed: Sequence[Passed] = (),
    ) -> Claim:
        """Take jobs for the free slots, in order of `queues`.

        From the first `floor` of them `floor_jobs` at most. `passed` is what earlier claims
        of this worker said of what lies in front.
        """
        self._claim_seq += 1
        seq = self._claim_seq
        arguments = claim_arguments(
            self.name, seq,
            coroutines=coroutines, processes=processes, queues=queues,
            process_types=process_types, floor=floor, floor_jobs=floor_jobs, passed=passed,
        )  # fmt: skip
        answer = await self._ask_for_jobs(arguments)
        state = answer[0].decode()
        if state != "ok":
            return Claim(state)
        jobs = [_claimed(each) for each in answer[1]]
        for each in jobs:
            if "data" not in each.fields:
                await self._fetch_body(each)
        strangers = [each for each in jobs if not (each.type_name or each.text("stock_type"))]
        if strangers:
            types = _types((each.id, each.fields.get("data", b"")) for each in strangers)
            await self._repeat(scripts.ADOPT, *types)
        dropped, broken = ([_text(each) for each in ids] for ids in answer[2:4])
        now_passed = [Passed(*map(_text, each)) for each in answer[5]]
        return Claim("ok", jobs, dropped, broken, seq, bool(answer[4]), now_passed)

    async def _ask_for_jobs(self, arguments: Sequence[Any]) -> Any:
        """An answer that is fresh. A worker that was stopped while it waited may have lost what it
        was given, and another runs it: asked once more, the script gives what is still ours.
        """
        while True:
            asked = self._clock()
            answer = await self._repeat(scripts.CLAIM, *arguments)
            if self._clock() - asked < FRESH_SECONDS:
                return answer

    async def has_waiting(self, queues: Sequence[str]) -> bool:
        """Whether any of these queues has an entry: one command, for who looks in vain."""
        answer = await until_answered(
            lambda: self._claim_lane.call(b"EXISTS", *map(queue, queues)),
            stop=lambda: self.stop_claiming,
        )
        return bool(answer)

    async def end(self, outcome: Outcome) -> str:
        """Report how an execution ended: `done`, or `late` when it is no longer ours."""
        answer = await self._ends.put(outcome)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def give_up(self) -> None:
        """Whatever waits for an answer fails now, and the outcomes that are still to be told."""
        self.stop_claiming = self._has_given_up = True
        self._claim_lane.interrupt()
        self._end_lane.interrupt()

    async def aclose(self) -> None:
        await self._ends.aclose()
        await self._claim_lane.close()
        await self._end_lane.close()

    async def _send_ends(self, batch: Sequence[Outcome]) -> Sequence[str | Exception]:
        """The answers; after a fault that nobody foresaw, each by itself, and whose it is."""
        try:
            return await self._send_together(batch)
        except (RedisError, OSError):
            raise
        except Exception:
            if len(batch) == 1:
                raise
            log.exception("ends_broke")
        answers: list[str | Exception] = []
        for outcome in batch:
            try:
                answers += await self._send_together([outcome])
            except (RedisError, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - `end` raises it
                answers.append(error)
        return answers

    async def _send_together(self, batch: Sequence[Outcome]) -> Sequence[str]:
        if self._has_given_up:
            raise ConnectionError("the worker is leaving")
        self._end_seq += 1
        arguments: list[Any] = [self.name, self._end_seq, BROKEN_EXC, len(batch)]
        for outcome in batch:
            arguments += outcome.arguments()
        answers = await until_answered(
            lambda: run_script(self._end_lane, scripts.END, *arguments),
            stop=lambda: self._has_given_up,
        )
        return [answer.decode() for answer in answers]

    async def _fetch_body(self, claimed: Claimed) -> None:
        body = await until_answered(
            lambda: self._claim_lane.call(b"HGET", job(claimed.id), b"data"),
            stop=lambda: self.stop_claiming,
        )
        if body is not None:
            claimed.fields["data"] = body

    async def _repeat(self, script: Script, *arguments: Any) -> Any:
        return await until_answered(
            lambda: run_script(self._claim_lane, script, *arguments),
            stop=lambda: self.stop_claiming,
        )


def claim_arguments(
    worker: str,
    seq: int,
    *,
    coroutines: int,
    processes: int,
    queues: Sequence[str],
    process_types: Sequence[str] = (),
    floor: int = 0,
    floor_jobs: int = 0,
    passed: Sequence[Passed] = (),
) -> list[Any]:
    """What the claim script takes."""
    marks = [part for each in passed for part in (each.queue, each.kind, each.job_id)]
    return [
        worker, seq, coroutines, processes, min(_CLAIM_JOBS, coroutines + processes),
        _CLAIM_BYTES, BROKEN_EXC, floor, floor_jobs,
        len(queues), *queues, len(marks), *marks, *process_types,
    ]  # fmt: skip


def _text(name: bytes) -> str:
    """A name to be told; stock tools and other languages may have written any bytes."""
    return name.decode("utf-8", "replace")


def _types(bodies: Iterable[tuple[str, bytes]]) -> list[str]:
    """What the script `adopt` takes: ids and types of stock producers' jobs."""
    return [part for job_id, data in bodies for part in (job_id, type_of(data))]


def _claimed(answer: list[Any]) -> Claimed:
    job_id, execution, queue, attempt, values = answer
    fields = {
        name: value for name, value in zip(_FIELDS, values, strict=False) if value is not None
    }
    return Claimed(job_id.decode(), execution.decode(), queue.decode(), int(attempt), fields)


def beat_arguments(
    worker: str, arrived_claim: int, mail_report: str, composites: Sequence[str]
) -> list[Any]:
    """What the beat script takes; sent by a thread of its own, see worker.py."""
    return [
        PREFIX, worker, WORKER_RECORD_SECONDS, arrived_claim, mail_report, BROKEN_EXC, *composites
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recovered:
    """A job that a silent worker held, and what became of it."""

    id: str
    type: str
    queue: str
    attempt: int
    fate: Literal["requeued", "failed", "stopped"]
    worker: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """A job whose time has come."""

    id: str
    type: str
    queue: str
    attempt: int
    request_id: str


class Caretaker:
    """promote and recover: harmless to call, by anybody, as often as one likes."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        *,
        abandoned_limit: int,
        failure_retention_seconds: int,
    ) -> None:
        self._lane = Lane(client, reachability)
        self._timed = [EXPIRES, SCHEDULES]
        self._queues: list[str] = []
        self._abandoned_limit = abandoned_limit
        self._failure_retention_seconds = failure_retention_seconds
        self._abandoned_exc = pack_traceback(
            "AbandonedJobError: the worker of this job died each time that it ran"
        )

    async def promote(self) -> tuple[list[Promoted], float | None]:
        """Queue what is due. Returns those jobs, and seconds until the next one is due."""
        _, wait_ms, jobs, queues = await run_script(self._lane, scripts.PROMOTE, 200, BROKEN_EXC)
        self._queues = [_text(each) for each in queues]
        self._timed = [EXPIRES, SCHEDULES, *map(scheduled, self._queues)]
        promoted = [
            Promoted(_text(job_id), _text(kind), _text(name), attempt, _text(request_id))
            for job_id, kind, name, attempt, request_id in jobs
        ]
        return promoted, None if wait_ms < 0 else wait_ms / 1000

    async def explain(self) -> int:
        """Give causes to jobs that stock tools have failed, in the queues that `promote` saw last;
        some at a time. Returns how many."""
        return await explain(self._lane, self._queues)

    async def has_scheduled(self) -> bool:
        """Whether anything has a time, in the queues that `promote` saw last: one command."""
        return bool(await self._lane.call(b"EXISTS", *self._timed))

    async def recover(self) -> tuple[list[Recovered], bool]:
        """Take over from silent workers, and tidy. True: there is more to do at once."""
        _gap, more, fates, activating, strangers = await run_script(
            self._lane, scripts.RECOVER,
            int(SILENCE_SECONDS * 1000), self._abandoned_limit, self._failure_retention_seconds,
            self._abandoned_exc, UPKEEP_MS,
        )  # fmt: skip
        recovered = [
            Recovered(
                id=_text(fate[0]), type=_text(fate[1]), queue=_text(fate[2]),
                attempt=fate[3], fate=fate[4].decode(), worker=_text(fate[5]),
                request_id=_text(fate[6]),
            )
            for fate in fates
        ]  # fmt: skip
        if strangers:
            types = _types((each.decode(), data) for each, data in strangers)
            await run_script(self._lane, scripts.ADOPT, *types)
        for batch_id in activating:
            # Its web process died between accepting the batch and queueing all of it.
            more = (
                await run_script(self._lane, scripts.ACTIVATE, batch_id, MOST_ITEMS, BROKEN_EXC)
                or more
            )
        return recovered, bool(more)

    async def aclose(self) -> None:
        await self._lane.close()
