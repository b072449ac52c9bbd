"""The heart alone on a stage: submitter, workers and caretaker, and the server they share.

Nothing runs a job here: a test claims, waits and ends as the worker's loop would, in the order
that it wants to see.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import redis
import redis.asyncio as async_redis

from app.queue import scripts
from app.queue.calling import encode_result, run_script
from app.queue.connection import Lane, Reachability, connect
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.packing import pack
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from app.queue.retry import Failure
from app.queue.submitting import Submitter
from app.queue.transitions import (
    Caretaker,
    Claim,
    Claimed,
    Outcome,
    Passed,
    Recovered,
    WorkerTransitions,
    beat_arguments,
)
from app.queue.views import Views
from app.queue.workers import SILENCE_SECONDS
from tests.harness import draft

BEATS = "rq:recado:beats"
RECOVERED_AT = "rq:recado:recovered_at"
UPKEEP_AT = "rq:recado:upkeep_at"
SILENCE_MS = int(SILENCE_SECONDS * 1000)
_numbers = itertools.count(1)


class LossyNetwork:
    """Between a client and the server: passes all, but loses replies on demand.

    The command has arrived and is carried out; then the connection breaks.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._to_lose = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def lose_replies(self, count: int = 1) -> None:
        self._to_lose = count

    def freeze(self) -> None:
        """Connections that are open now stay so, and nothing comes through them any more."""
        self._frozen |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        writers = {writer, server_writer}
        self._writers |= writers
        sending = asyncio.create_task(self._forward(reader, server_writer))
        try:
            while reply := await server_reader.read(65536):
                if self._to_lose:
                    self._to_lose -= 1
                    break
                if writer in self._frozen:
                    continue
                writer.write(reply)
                await writer.drain()
        except OSError:
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            for each in writers:
                each.close()
            self._writers -= writers
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            if writer in self._frozen:
                continue
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for each in list(self._writers):
            each.close()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()


class Actor:
    """One worker's transitions, as its loop and its heart call them."""

    def __init__(self, scene: Scene, queues: list[str]) -> None:
        self.name = f"host.{next(_numbers)}.{next(_numbers):010x}"
        self.queues = queues
        self.scene = scene
        self.transitions = WorkerTransitions(
            scene.client, scene.reachability, name=self.name, queues=queues
        )
        self.seq = 0
        self.passed: list[Passed] = []

    async def claim(
        self, coroutines: int = 8, processes: int = 0, process_types: tuple[str, ...] = ()
    ) -> Claim:
        claim = await self.transitions.claim(
            coroutines=coroutines,
            processes=processes,
            queues=self.queues,
            process_types=process_types,
            passed=self.passed,
        )
        self.seq = max(self.seq, claim.seq)
        self.passed = claim.passed or self.passed
        return claim

    async def take(self) -> Claimed:
        """The one job that a claim brings."""
        claim = await self.claim()
        assert len(claim.jobs) == 1, f"{len(claim.jobs)} jobs, broken: {claim.broken}"
        return claim.jobs[0]

    async def beat(self, *held: Claimed, arrived: int | None = None) -> Any:
        """The answer to a beat that names what this worker holds."""
        composites = [each.composite for each in held]
        arguments = beat_arguments(
            self.name, self.seq if arrived is None else arrived, "", composites
        )
        return await run_script(self.scene.lane, scripts.BEAT, *arguments[1:])

    async def finish(self, claimed: Claimed, value: Any = None, *, ttl: int = 3600) -> str:
        return await self.transitions.end(
            Outcome(
                claimed.id, claimed.execution, claimed.queue, "finished", ttl,
                return_value=b"" if value is None else encode_result(value),
            )
        )  # fmt: skip

    async def fail(
        self, claimed: Claimed, message: str = "refused", *, ttl: int = 3600, code: str = "refused"
    ) -> str:
        failure = Failure(code, message, "PermanentError", retryable=False)
        ended = Ended("error", failure=failure)
        outcome = outcome_of(claimed, ended, Limits(5, 3600, ttl), lambda: 0.5)
        assert outcome is not None
        return await self.transitions.end(replace(outcome, ttl_seconds=ttl))

    async def retry(self, claimed: Claimed, delay: float) -> str:
        return await self.transitions.end(
            Outcome(claimed.id, claimed.execution, claimed.queue, "retry", -1, delay_seconds=delay)
        )


def submit_arguments(*drafts: JobDraft, seq: int = 1) -> list[Any]:
    """What the script `submit` takes, for one request of these drafts."""
    by = drafts[0].submitted_by or ""
    packed = [part for each in drafts for part in pack(each).arguments()]
    return ["client", seq, 10**6, 10**12, 1, len(drafts), by, *[""] * 6, *packed]


class Scene:
    """`redis` looks at what is stored, as a stock tool would; the rest acts."""

    def __init__(
        self, url: str, network: LossyNetwork | None = None, give_up_seconds: float = 30.0
    ) -> None:
        self.url = url
        self.client: async_redis.Redis = connect(url if network is None else network.url)
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.reachability = Reachability()
        self.lane = Lane(self.client, self.reachability)
        self.submitter = Submitter(self.client, self.reachability, give_up_seconds)
        self.views = Views(self.client, self.reachability)
        self.caretaker = self.new_caretaker()
        self._actors: list[Actor] = []

    def new_caretaker(self, abandoned_limit: int = 3) -> Caretaker:
        return Caretaker(
            self.client, self.reachability,
            abandoned_limit=abandoned_limit, failure_retention_seconds=3600,
        )  # fmt: skip

    async def worker(self, *queues: str) -> Actor:
        actor = Actor(self, list(queues) or ["default"])
        self._actors.append(actor)
        await actor.transitions.birth({"pid": "1", "hostname": "host"})
        return actor

    async def submit(self, job_type: str = "test.note", **changes: Any) -> str:
        """One job with the type's defaults, or as `changes` of the draft's fields say."""
        prepared = replace(draft(job_type), **changes)
        await self.submitter.submit(prepared)
        return prepared.id

    async def submit_overdue(self, at: datetime, **changes: Any) -> str:
        """A scheduled job whose time came at `at`: it lay there while nobody looked."""
        job_id = await self.submit(delay_seconds=3600.0, **changes)
        queue = str(changes.get("queue", "default"))
        self.redis.zadd(f"rq:scheduled:{queue}", {job_id: at.timestamp()})
        return job_id

    async def submit_many(self, count: int, **changes: Any) -> list[str]:
        drafts = [replace(draft("test.note"), **changes) for _ in range(count)]
        await asyncio.gather(*(self.submitter.submit(each) for each in drafts))
        return [each.id for each in drafts]

    def silence(self, *actors: Actor, milliseconds: int = SILENCE_MS + 1000) -> None:
        """As if they had not been heard of for so long."""
        for actor in actors:
            self.redis.zadd(BEATS, {actor.name: self.now_ms() - milliseconds})

    async def recover(self, caretaker: Caretaker | None = None) -> tuple[list[Recovered], bool]:
        """One call of recover, asked regularly and with its upkeep due."""
        self.redis.set(RECOVERED_AT, self.now_ms() - 2000)
        self.redis.delete(UPKEEP_AT)
        return await (caretaker or self.caretaker).recover()

    async def view(self, job_id: str) -> JobView:
        found = await self.views.job(job_id)
        assert found is not None, f"job {job_id} is gone"
        return found

    def status(self, job_id: str) -> str | None:
        found: str | None = self.redis.hget(f"rq:job:{job_id}", "status")
        return found

    def queued(self, queue: str = "default") -> list[str]:
        return list(self.redis.lrange(f"rq:queue:{queue}", 0, -1))

    def members(self, registry: str, queue: str = "default") -> list[str]:
        return list(self.redis.zrange(f"rq:{registry}:{queue}", 0, -1))

    def stored(self) -> set[str]:
        return set(self.redis.keys("*"))

    def trail(self, job_id: str) -> list[str]:
        """The words of the job's trail, oldest first."""
        text = self.redis.hget(f"rq:job:{job_id}", "x_trail") or ""
        return [line.split('"')[1] for line in text.splitlines()]

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def aclose(self) -> None:
        for actor in self._actors:
            await actor.transitions.aclose()
        await self.caretaker.aclose()
        await self.submitter.aclose()
        await self.views.aclose()
        await self.lane.close()
        await self.client.aclose()
        self.redis.close()


@asynccontextmanager
async def scene_on(url: str, network: LossyNetwork | None = None) -> AsyncIterator[Scene]:
    scene = Scene(url, network)
    try:
        yield scene
    finally:
        await scene.aclose()
