"""Plays the lives of jobs on a Valkey, and strikes at one request of each."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app.queue.connection import Reachability, connect
from app.queue.control import Control
from app.queue.errors import JobEndedError, JobNotFoundError, QueueUnavailableError
from app.queue.records.drafts import JobDraft, new_job_id
from app.queue.records.options import Concurrency, Notify
from tests.conftest import ValkeyServer, poll_until
from tests.crash_lives import GONE, LIVES, Life
from tests.crash_processes import alive_in, have_ended, kill
from tests.crash_proxy import At, CrashProxy, Moment, Then
from tests.crash_victims import Victims
from tests.harness import ENDED, children_of, draft, journal, submit, with_client

# The worker alone, whose children must go by themselves; all that it is; its job's process;
# the one that forks those; the server.
Victim = Literal["worker", "both", "child", "nursery", "valkey"]
_THEN: dict[Victim, Then] = {"child": "on", "nursery": "on", "valkey": "broken"}
CLIENT = "shop"
OWN_OUTCOMES = {"finished", "retry", "failed", "stopped"}


@dataclass(frozen=True)
class Seen:
    """A job right after its worker was killed: how often it was begun, and what is recorded."""

    status: str
    places: list[str]
    begun: int
    recorded: int


@dataclass
class Point:
    """One strike: at which request of which life, its jobs, and what they looked like then."""

    name: str
    victim: Victim
    at: At | None
    moment: Moment
    queue: str
    journal: Path
    job_ids: list[str] = field(default_factory=list)
    request: str = "never reached"
    requests: list[str] = field(default_factory=list)
    asked: bool = False
    # The worker's, and of those that fork its children and outlive it a little.
    sessions: list[int] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def life(self) -> Life:
        return LIVES[self.name]

    @property
    def was_reached(self) -> bool:
        return self.request != "never reached"

    def begun(self, job_id: str) -> int:
        word = self.life.begins
        return sum(line[:2] == (job_id, word) for line in journal(self.journal))

    def __str__(self) -> str:
        return f"{self.name}: {self.victim} killed {self.moment} {self.at} ({self.request})"


class Stage:
    """A Valkey, the victims, and the crash points that are played on them."""

    _numbers = count()

    def __init__(self, valkey: ValkeyServer, victims: Victims, folder: Path) -> None:
        self.valkey = valkey
        self._victims = victims
        self._folder = folder
        # The server is killed and comes back while we look.
        patient = Retry(ExponentialBackoff(cap=0.1, base=0.01), 100)
        self._client: redis.Redis = redis.Redis.from_url(valkey.url, retry=patient)

    def clear(self) -> None:
        self._client.flushall()

    def place(self, name: str, victim: Victim, at: At | None, moment: Moment) -> Point:
        """The life's jobs in a queue of their own, so that only their own victim takes them."""
        number = next(self._numbers)
        point = Point(name, victim, at, moment, f"q{number}", self._folder / f"journal-{number}")
        if point.life.paused:
            self._client.sadd("rq:recado:paused", point.queue)
        drafts = _drafts(point)
        point.job_ids = [each.id for each in drafts]
        if point.life.together == "batch":
            with_client(self.valkey.url, lambda s, _: s.submit_batch(new_job_id(), drafts))
        else:
            submit(self.valkey.url, *drafts)
        if point.life.expired:
            for each in drafts:
                self._client.hset(f"rq:job:{each.id}", "x_expires", 1)
                self._client.zadd("rq:recado:expires", {each.id: 1})
        return point

    def play(self, point: Point) -> None:
        """Let a worker have the jobs, and strike at the point."""
        pid: Future[int] = Future()
        proxy = CrashProxy(
            self.valkey.port, point.at, point.moment,
            strike=lambda: self._strike(point, pid.result()),
            then=_THEN.get(point.victim, "over"),
        )  # fmt: skip
        pid.set_result(self._fork(point, proxy.url))
        try:
            self._watch(point, proxy, pid.result())
        finally:
            kill(*alive_in(pid.result(), *point.sessions))
            proxy.close()
        point.requests = proxy.requests
        if point.victim not in _THEN and proxy.tripped.is_set():
            point.seen = {job_id: self._see(point, job_id) for job_id in point.job_ids}

    def _fork(self, point: Point, url: str) -> int:
        grace = "0" if point.life.asked == "leave" else "20"
        return self._victims.fork(
            url,
            arguments=[
                *("--queues", point.queue, "--grace", grace),
                *("--concurrency", "2", "--processes", "1"),
            ],
            has_nursery=point.life.needs_processes,
        )

    def _watch(self, point: Point, proxy: CrashProxy, pid: int) -> None:
        """Until it was killed, or has left when its jobs were done."""
        is_fatal = point.victim not in _THEN
        poll_until(
            lambda: (is_fatal and proxy.tripped.is_set()) or self._is_over(point, pid),
            seconds=60,
            what=f"the victim is killed, or done: {point}",
        )
        was_told_to_leave = point.asked and point.life.asked == "leave"
        if not (is_fatal and proxy.tripped.is_set()) and not was_told_to_leave:
            with suppress(ProcessLookupError):  # struck at last, in its first steps out
                os.kill(pid, signal.SIGTERM)  # its leaving has points too
        poll_until(
            lambda: have_ended(pid, *point.sessions), seconds=60, what=f"it has ended: {point}"
        )

    def finish(self, points: Sequence[Point]) -> None:
        """Another worker takes over from the dead, as after ten seconds of silence."""
        dead = age_beats(self._client)
        pid = self._victims.fork(
            self.valkey.url, arguments=["--queues", ",".join(point.queue for point in points)]
        )
        try:
            # All are asked about in each round: those that are to be stopped hold the slots.
            poll_until(
                lambda: not [point for point in points if not self._have_ended(point)],
                seconds=60,
                what=f"the jobs end: {[str(point) for point in points]}",
            )
            poll_until(
                lambda: not dead.intersection(self._client.zrange("rq:recado:beats", 0, -1)),
                what="the dead are buried",
            )
            os.kill(pid, signal.SIGTERM)
            poll_until(lambda: have_ended(pid), what="the second worker has ended")
            self._client.srem("rq:recado:paused", *(point.queue for point in points))
        finally:
            kill(*alive_in(pid))

    def places(self, queue: str, job_id: str) -> list[str]:
        """Where the job stands, at one moment."""
        zsets = ("scheduled", "deferred", "finished", "failed", "canceled", "wip", "ready")
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.lrange(f"rq:queue:{queue}", 0, -1)
            pipeline.zrange(f"rq:rl:{CLIENT}:{queue}:rate_limited", 0, -1)
            for name in zsets:
                pipeline.zrange(f"rq:{name}:{queue}", 0, -1)
            found: list[list[bytes]] = pipeline.execute()
        names = ("queued", "rate_limited", *zsets)
        ids = [[each.decode().partition(":")[0] for each in members] for members in found]
        return [
            name
            for name, members in zip(names, ids, strict=True)
            for each in members
            if each == job_id
        ]

    def status(self, job_id: str) -> str:
        status: Any = self._client.hget(f"rq:job:{job_id}", "status")
        return GONE if status is None else str(status.decode())

    def trail(self, job_id: str) -> list[str]:
        """The words of the job's trail, oldest first."""
        text: Any = self._client.hget(f"rq:job:{job_id}", "x_trail")
        return [line.split('"')[1] for line in (text or b"").decode().splitlines()]

    def _is_over(self, point: Point, pid: int) -> bool:
        if point.life.asked == "leave":
            self._ask(point, pid)
            return have_ended(pid)
        return self._have_ended(point)

    def _have_ended(self, point: Point) -> bool:
        if point.life.asked == "cancel":
            self._ask(point, 0)
        ended = {*ENDED, GONE}
        if not all(self.status(job_id) in ended for job_id in point.job_ids):
            return False
        return all(self.status(job_id) in ended for job_id in self.notified(point))

    def notified(self, point: Point) -> list[str]:
        """The jobs that tell of the outcomes of these; each that there is, made twice or not."""
        if not point.life.notify:
            return []
        told = []
        for key in self._client.scan_iter("rq:job:*", count=1000):
            if self._client.type(key) == b"hash":
                parent: Any = self._client.hget(key, "x_notifies")
                if parent is not None and parent.decode() in point.job_ids:
                    told.append(key.decode().removeprefix("rq:job:"))
        return told

    def _ask(self, point: Point, pid: int) -> None:
        if point.asked or not point.begun(point.job_ids[0]):
            return
        if point.life.asked == "cancel":
            point.asked = _cancel(self.valkey.url, point.job_ids[0])
        else:
            point.asked = True
            with suppress(ProcessLookupError):  # struck meanwhile
                os.kill(pid, signal.SIGTERM)

    def _see(self, point: Point, job_id: str) -> Seen:
        trail = self.trail(job_id)
        status = self.status(job_id)
        words = ("finished", "retry_scheduled", "failed", "stopped")
        recorded = sum(word in words for word in trail)
        return Seen(
            status=status,
            places=self.places(point.queue, job_id),
            begun=point.begun(job_id),
            recorded=1 if status == GONE else recorded,
        )

    def _strike(self, point: Point, pid: int) -> None:
        nurseries = children_of(pid)
        point.sessions = [pid, *nurseries]
        targets = {
            "worker": [pid],
            "both": alive_in(*point.sessions),
            "nursery": nurseries,
            "child": [child for each in nurseries for child in children_of(each)],
            "valkey": [],
        }[point.victim]
        kill(*targets)
        if point.victim == "valkey":
            self.valkey.kill()
            self.valkey.start()
        if targets or point.victim == "valkey":
            point.request = "reached"


def age_beats(client: redis.Redis) -> set[bytes]:
    """As if the dead had been silent for a minute, while others kept watching. Their names."""
    seconds, _ = client.time()
    names: Any = client.zrange("rq:recado:beats", 0, -1)
    for name in names:
        client.zadd("rq:recado:beats", {name.decode(): (seconds - 60) * 1000})
    client.set("rq:recado:recovered_at", seconds * 1000)
    return set(names)


def _drafts(point: Point) -> list[JobDraft]:
    drafts: list[JobDraft] = []
    for member in point.life.members:
        made = draft(member.job_type, journal=str(point.journal), **member.params)
        made.queue, made.submitted_by = point.queue, CLIENT
        if member.status == GONE:
            made.retention_seconds = 0
        if member.backoff is not None:
            made.backoff = member.backoff
        if point.life.notify:
            _ask_for_a_mail(made)
        if member.after is not None:
            made.depends_on = [drafts[member.after].id]
        if point.life.together == "slot":
            made.concurrency = Concurrency(point.queue, 1)
        drafts.append(replace(made, id=new_job_id()))
    return drafts


def _ask_for_a_mail(made: JobDraft) -> None:
    """In the same queue, where the victim takes it too; it is built, and sent to nobody."""
    mail = draft("log.write")
    mail.type, mail.queue, mail.submitted_by, mail.dry_run = (
        "email.notify",
        made.queue,
        CLIENT,
        True,
    )
    mail.params = {
        "from": "us@example.test", "to": ["ana@example.test"], "job_id": "0" * 20,
        "job_type": made.type,
    }  # fmt: skip
    made.notify, made.notifying = Notify(["ana@example.test"], ["finished", "failed"], None), mail


def _cancel(url: str, job_id: str) -> bool:
    """As a client does. False: Redis did not answer."""

    async def run() -> None:
        client = connect(url)
        control = Control(client, Reachability())
        try:
            await control.cancel(job_id, "ops")
        finally:
            await control.aclose()
            await client.aclose()

    try:
        asyncio.run(run())
    except QueueUnavailableError:
        return False
    except (JobEndedError, JobNotFoundError):
        pass
    return True
