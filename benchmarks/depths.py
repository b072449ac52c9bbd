"""What a queue's depth costs: claims, ends and submissions beside 1,000 jobs or 500,000.

The heart alone, by the calls that web process and worker make of it, 32 jobs a call. Each
depth has a Valkey of its own, and they take turns, so that all see the same machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import redis

from app.queue.connection import Reachability, connect
from app.queue.records.drafts import new_job_id
from app.queue.submitting import Submitter
from app.queue.transitions import Claimed, Outcome, WorkerTransitions
from benchmarks import processes
from benchmarks.bursts import BurstError
from benchmarks.ours import DAY_SECONDS, draft
from jobs.catalog import load

# What one claim takes at most.
BATCH = 32
# Submissions under way at once while a queue is filled: several calls' worth.
FILLING = 256


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs a second at one depth, medians over all calls, and what a queued job takes."""

    depth: int
    submits: float
    claims: float
    ends: float
    bytes_a_job: float


@dataclass(slots=True)
class _Level:
    """One depth: its server, and both sides of the heart."""

    depth: int
    client: redis.Redis
    submitter: Submitter
    worker: WorkerTransitions
    bytes_a_job: float = 0.0
    submitting: list[float] = field(default_factory=list)
    claiming: list[float] = field(default_factory=list)
    ending: list[float] = field(default_factory=list)

    async def fill(self) -> None:
        await self.submitter.submit(draft("mail", self.depth))  # the server learns the script
        before = used_bytes(self.client)
        numbers = iter(range(self.depth))
        await asyncio.gather(*(self._submit_each(numbers) for _ in range(FILLING)))
        self.bytes_a_job = (used_bytes(self.client) - before) / self.depth
        await self.worker.birth({"hostname": "benchmark"})

    async def turn(self) -> None:
        """Submit some, claim as many, end them: the depth stays."""
        drafts = [draft("mail", number) for number in range(BATCH)]
        begin = time.perf_counter()
        await asyncio.gather(*(self.submitter.submit(each) for each in drafts))
        submitted = time.perf_counter()
        claim = await self.worker.claim(
            coroutines=BATCH, processes=0, queues=["email.high", "email", "email.low"],
            process_types=[],
        )  # fmt: skip
        claimed = time.perf_counter()
        if len(claim.jobs) != BATCH:
            raise BurstError(f"a claim at depth {self.depth} brought {len(claim.jobs)} jobs")
        answers = await asyncio.gather(*(self.worker.end(_outcome(each)) for each in claim.jobs))
        ended = time.perf_counter()
        if set(answers) != {"done"}:
            raise BurstError(f"ends at depth {self.depth} were answered {set(answers)}")
        self.submitting.append(submitted - begin)
        self.claiming.append(claimed - submitted)
        self.ending.append(ended - claimed)

    def result(self) -> Depth:
        submits, claims, ends = (
            BATCH / median(each) for each in (self.submitting, self.claiming, self.ending)
        )
        return Depth(self.depth, submits, claims, ends, self.bytes_a_job)

    async def _submit_each(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self.submitter.submit(draft("mail", number))


def used_bytes(client: redis.Redis) -> int:
    """What the server's data takes, its own bookkeeping for it included."""
    memory = client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])


def measure(depths: Sequence[int], turns: int, folder: Path) -> list[Depth]:
    """One result a depth; `turns` calls of each kind at each."""
    load()
    with ExitStack() as stack:
        servers = []
        for depth in depths:
            home = folder / f"depth-{depth}"
            home.mkdir()
            servers.append(stack.enter_context(processes.valkey(home, "everysec")))
        return asyncio.run(_measure(depths, turns, [server.port for server in servers]))


async def _measure(depths: Sequence[int], turns: int, ports: Sequence[int]) -> list[Depth]:
    levels = [_level(depth, port) for depth, port in zip(depths, ports, strict=True)]
    try:
        for level in levels:
            await level.fill()
        for _ in range(turns):
            for level in levels:
                await level.turn()
    finally:
        for level in levels:
            await level.submitter.aclose()
            await level.worker.aclose()
    return [level.result() for level in levels]


def _level(depth: int, port: int) -> _Level:
    client = connect(f"redis://127.0.0.1:{port}/0")
    reachability = Reachability()
    name = f"benchmark.1.{new_job_id()[-10:]}"
    return _Level(
        depth, redis.Redis(port=port), Submitter(client, reachability),
        WorkerTransitions(client, reachability, name=name, queues=["email"]),
    )  # fmt: skip


def _outcome(claimed: Claimed) -> Outcome:
    return Outcome(
        claimed.id, claimed.execution, claimed.queue, "finished", ttl_seconds=DAY_SECONDS,
        detail_json='{"attempt":1}',
    )  # fmt: skip
