"""From what clients see, what runs left behind and what was done: what became of each job."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import redis

from tests.chaos.cast import Hit
from tests.chaos.jobs import QUEUES

AT_ONCE = 4
# The driver notes a hit right after it, the server an attempt's start a moment later.
SLACK_SECONDS = 0.5
CUT_SHORT = {"abandoned", "interrupted"}
ENDED = {"finished", "failed", "canceled", "stopped"}


@dataclass(frozen=True)
class Run:
    """One line of the journal: a function began, or came to its end, in that process."""

    word: str
    attempt: int
    pid: int
    shifted_by: int


@dataclass
class Verdict:
    """Counts, and a sentence for each thing that must not be."""

    acknowledged: int = 0
    ended: int = 0
    interrupted: int = 0
    run_again: int = 0
    recoveries: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def blame(self, job_id: str, what: str) -> None:
        self.faults.append(f"{job_id}: {what}")

    @property
    def slowest_recovery(self) -> float:
        return max(self.recoveries, default=0.0)


def read_journal(path: Path) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = defaultdict(list)
    for line in path.read_text().splitlines():
        job_id, word, attempt, pid, shifted_by = line.split()
        runs[job_id].append(Run(word, int(attempt), int(pid), int(shifted_by)))
    return runs


async def fetch(client: httpx2.AsyncClient, job_ids: Iterable[str]) -> dict[str, Any]:
    """Each job as its client sees it; None for one that is gone."""
    found: dict[str, Any] = {}
    ids = iter(list(job_ids))

    async def work() -> None:
        for job_id in ids:
            answer = await client.get(f"/v1/jobs/{job_id}")
            found[job_id] = answer.json() if answer.status_code == 200 else None

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return found


def judge(
    jobs: Mapping[str, Any],
    types: Mapping[str, str],
    runs: Mapping[str, list[Run]],
    hits: list[Hit],
    unattended: list[float],
) -> Verdict:
    """`jobs` and `types` are those acknowledged; a recovery counts while somebody attends."""
    verdict = Verdict(acknowledged=len(jobs))
    for job_id in runs.keys() - jobs.keys():
        verdict.blame(job_id, "ran and was never acknowledged")
    for job_id, job in jobs.items():
        if job is None or job["status"] not in ENDED:
            verdict.blame(job_id, "lost" if job is None else f"never ended: {job}")
            continue
        verdict.ended += 1
        _judge_end(verdict, job, types[job_id])
        _judge_runs(verdict, job, runs.get(job_id, []))
        _judge_interruptions(verdict, job, runs.get(job_id, []), hits, unattended)
    return verdict


def _judge_end(verdict: Verdict, job: Any, job_type: str) -> None:
    outcomes = [each["outcome"] for each in job["attempts"]]
    own = [each for each in outcomes if each not in CUT_SHORT]
    expected = ["retry", "finished"] if job_type == "chaos.second" else ["finished"]
    if job["status"] != "finished" or own != expected or outcomes[-1] != "finished":
        verdict.blame(job["id"], f"{job['status']} after {outcomes}")


def _judge_runs(verdict: Verdict, job: Any, runs: list[Run]) -> None:
    """An attempt is one run at most, and one that was told of has been made to its end."""
    began = Counter(run.attempt for run in runs if run.word == "began")
    ended = Counter(run.attempt for run in runs if run.word == "ended")
    for attempt in job["attempts"]:
        number = attempt["number"]
        if began.pop(number, 0) > 1:
            verdict.blame(job["id"], f"attempt {number} was run twice")
        if attempt["outcome"] not in CUT_SHORT and ended[number] != 1:
            verdict.blame(job["id"], f"attempt {number} never ran: {attempt}")
    if began:
        verdict.blame(job["id"], f"runs that no attempt tells of: {dict(began)}")


def _judge_interruptions(
    verdict: Verdict, job: Any, runs: list[Run], hits: list[Hit], unattended: list[float]
) -> None:
    """Whatever was cut short was hit, and went on soon."""
    pids = {run.attempt: run.pid for run in runs}
    attempts = job["attempts"]
    cut_short = [number for number, each in enumerate(attempts) if each["outcome"] in CUT_SHORT]
    verdict.interrupted += bool(cut_short)
    verdict.run_again += sum(attempts[number]["number"] in pids for number in cut_short)
    for number in cut_short:
        attempt = attempts[number]
        processes = {pids.get(attempt["number"]), _worker_pid(attempt["worker"])}
        hit = _hit_on(processes, attempt, hits)
        if hit is None:
            verdict.blame(job["id"], f"cut short for no reason: {attempt}")
            continue
        since = max(hit.at, _seconds(attempt["started_at"]))
        if hit.kind == "asked to leave" and hit.left_at is not None:
            since = min(hit.left_at, _seconds(attempt["ended_at"]))  # it had its grace
        if number + 1 < len(attempts):
            again = _seconds(attempts[number + 1]["started_at"])
            attended = max((at for at in unattended if since < at < again), default=since)
            verdict.recoveries.append(again - attended)


def _hit_on(processes: set[int | None], attempt: Any, hits: list[Hit]) -> Hit | None:
    begin = _seconds(attempt["started_at"]) - SLACK_SECONDS
    end = _seconds(attempt["ended_at"]) + SLACK_SECONDS
    for hit in hits:
        # The last claim of a dead worker may reach the server after its death.
        lasting = hit.kind == "killed" or begin <= max(hit.at, hit.left_at or 0.0)
        if hit.pids & processes and lasting and hit.at <= end:
            return hit
    return None


def leftovers(url: str, job_ids: Iterable[str]) -> list[str]:
    """What stands in Redis besides ended jobs: each in the finished registry and nowhere else."""
    found = []
    with redis.Redis.from_url(url, decode_responses=True) as client:
        finished: list[str] = []
        for queue in QUEUES:
            finished += client.zrange(f"rq:finished:{queue}", 0, -1)
            for name in ("wip", "scheduled", "deferred", "failed", "canceled", "ready"):
                left = client.zcard(f"rq:{name}:{queue}")
                found += [f"{left} in {name} of {queue}"] if left else []
            left = client.llen(f"rq:queue:{queue}")
            found += [f"{left} in queue {queue}"] if left else []
        if sorted(finished) != sorted(job_ids):
            found.append(f"{len(finished)} in the finished registries")
        found += [str(key) for key in client.scan_iter("rq:execution*")]
        found += [str(key) for key in client.smembers("rq:workers")]
        found += [str(name) for name in client.zrange("rq:recado:beats", 0, -1)]
    return found


def _worker_pid(name: str) -> int:
    """`host.pid.random`"""
    return int(name.split(".")[-2])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
