"""The web's side, killed right before and right after each send to Redis; and Redis under it.

A request is accepted whole or not at all, and who was told of it finds it there.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import redis

from app.queue.records.drafts import new_job_id
from tests.conftest import ValkeyServer, poll_until
from tests.crash_processes import have_ended, kill
from tests.crash_proxy import CrashProxy, Moment
from tests.crash_stage import Stage
from tests.crash_victims import Victims
from tests.harness import draft, journal, submit, view
from tests.heart_scene import scene_on

LARGE_BODY = 300_000


@dataclass(frozen=True)
class Request:
    """What a client asks for, and in which state its jobs then are."""

    act: Literal["submit", "submit_batch", "cancel", "retry"] = "submit"
    count: int = 1
    size: int = 10
    delay_seconds: float | None = None
    has_parent: bool = False
    slot: str = ""
    key: str = ""
    state: str = "queued"


REQUESTS = {
    "queued": Request(),
    "scheduled": Request(delay_seconds=60.0, state="scheduled"),
    "large": Request(size=LARGE_BODY),  # its body goes ahead in a call of its own
    "repeatable": Request(key="k"),
    "dependent": Request(has_parent=True, state="deferred"),
    "slot": Request(slot="k"),
    "batch": Request("submit_batch", count=3),
    "repeatable batch": Request("submit_batch", count=3, key="k"),
    # Records first, then one script that makes them count, then several that queue them.
    "large batch": Request("submit_batch", count=70, key="k"),
    "cancel": Request("cancel", state="canceled"),
    "retry": Request("retry"),
}
# What these do to a job that is there: where it is before, and after.
CHANGES = {"cancel": ("queued", "canceled"), "retry": ("failed", "queued")}


@dataclass
class Ask:
    """One request by one victim: at which of its sends it was struck, and what it asked for."""

    request: Request
    at: int | None
    moment: Moment
    returned: Path
    journal: Path
    queue: str = field(default_factory=lambda: f"s{new_job_id()}")
    parent: str = ""
    batch_id: str = field(default_factory=new_job_id)
    job_ids: list[str] = field(default_factory=list)
    struck: str = "never reached"

    def __str__(self) -> str:
        return f"{self.moment} {self.at} ({self.struck})"

    def order(self) -> dict[str, Any]:
        self.job_ids = self.job_ids or [new_job_id() for _ in range(self.request.count)]
        drafts = [
            {
                "id": job_id,
                "queue": self.queue,
                "delay_seconds": self.request.delay_seconds,
                "depends_on": [self.parent] if self.parent else [],
                "slot": self.request.slot and self.queue,
                "params": {"message": "x" * self.request.size, "journal": str(self.journal)},
            }
            for job_id in self.job_ids
        ]
        # Each case has a Valkey that others may have used before: its key is its own.
        key = self.request.key and f"{self.request.key} {self.queue}"
        return {
            "act": self.request.act, "drafts": drafts, "batch_id": self.batch_id,
            "key": key, "returned": str(self.returned),
        }  # fmt: skip


class Asking:
    """A Valkey, and processes that ask it for something and are killed."""

    def __init__(self, valkey: ValkeyServer, victims: Victims, folder: Path) -> None:
        self.valkey = valkey
        self.stage = Stage(valkey, victims, folder)
        self._victims = victims
        self._folder = folder

    def prepare(self, request: Request, at: int | None, moment: Moment) -> Ask:
        number = new_job_id()
        asked = Ask(request, at, moment, self._folder / f"returned-{number}", self._folder / number)
        if request.has_parent:
            parent = draft("test.note")
            parent.queue = f"{asked.queue}p"
            (asked.parent,) = submit(self.valkey.url, parent)
        if request.act in CHANGES:
            notes = str(asked.journal)
            waiting = draft("test.note", message="x" * request.size, journal=notes)
            waiting.queue = asked.queue
            asked.job_ids = submit(self.valkey.url, waiting)
        if request.act == "retry":
            asyncio.run(_fail_one(self.valkey.url, asked.queue))
        return asked

    def play(self, asked: Ask, *, kills_server: bool = False) -> int:
        """Ask, and strike at the point. How many requests it sent."""
        pid: Future[int] = Future()
        proxy = CrashProxy(
            self.valkey.port, asked.at, asked.moment,
            strike=self.restart if kills_server else lambda: kill(pid.result()),
            then="broken" if kills_server else "over",
        )  # fmt: skip
        pid.set_result(self._victims.fork(proxy.url, ask=asked.order()))
        poll_until(lambda: have_ended(pid.result()), what=f"the client has ended: {asked}")
        proxy.close()
        asked.struck = proxy.request
        return len(proxy.requests)

    def restart(self) -> None:
        self.valkey.kill()
        self.valkey.start()

    def is_accepted(self, asked: Ask) -> bool:
        with redis.Redis.from_url(self.valkey.url) as client:
            return bool(client.ttl(f"rq:job:{asked.job_ids[0]}") == -1)

    def check(self, asked: Ask) -> bool:
        """Whole or not at all, each job in exactly one place. True when it was accepted."""
        with redis.Redis.from_url(self.valkey.url) as client:
            ttls: list[Any] = [client.ttl(f"rq:job:{job_id}") for job_id in asked.job_ids]
        told = f"{asked}: TTLs {ttls}"
        if asked.request.act in CHANGES:
            (job_id,) = asked.job_ids
            before, after = CHANGES[asked.request.act]
            done = self.stage.status(job_id) == after
            assert self.stage.places(asked.queue, job_id) == [after if done else before]
            assert done or not asked.returned.exists(), told
            return done
        accepted = self.is_accepted(asked)
        assert accepted or not asked.returned.exists(), told  # nobody was told that it is there
        if not accepted:
            assert all(ttl == -2 or 0 < ttl <= 60 for ttl in ttls), told
            assert all(self.stage.places(asked.queue, each) == [] for each in asked.job_ids), told
            return False
        assert set(ttls) == {-1}, told
        for job_id in asked.job_ids:
            found = view(self.valkey.url, job_id)
            assert found.status == asked.request.state, told
            assert found.params is not None, told
            assert len(found.params["message"]) == asked.request.size, told
            places = self.stage.places(asked.queue, job_id)
            # The jobs of a large batch that was just accepted are queued by whoever comes by.
            assert places == [asked.request.state] or (asked.request.count > 64 and not places), (
                told
            )
        return True

    def repeat(self, asked: Ask) -> None:
        """The client knows nothing of its first request and sends it again, under its key."""
        again = replace(asked, at=None, batch_id=new_job_id(), job_ids=[])
        self.play(again)
        if not self.is_accepted(asked):
            asked.job_ids = again.job_ids

    def check_runs(self, asks: list[Ask]) -> None:
        """What was accepted runs, once each; nothing else does."""
        with redis.Redis.from_url(self.valkey.url) as client:
            client.set("rq:recado:recovered_at", client.time()[0] * 1000)
        queues = [name for each in asks for name in (each.queue, f"{each.queue}p")]
        pid = self._victims.fork(self.valkey.url, arguments=["--queues", ",".join(queues)])
        for asked in asks:
            poll_until(
                lambda: {self.stage.status(each) for each in asked.job_ids} == {"finished"},  # noqa: B023
                seconds=30,
                what=f"its jobs finish: {asked}",
            )
            runs = sorted(line[0] for line in journal(asked.journal))
            assert runs == sorted(asked.job_ids), str(asked)
        os.kill(pid, signal.SIGTERM)
        poll_until(lambda: have_ended(pid), what="the worker has ended")


async def _fail_one(url: str, queue: str) -> None:
    """The queue's job is run, and fails for good."""
    async with scene_on(url) as scene:
        actor = await scene.worker(queue)
        await actor.fail(await actor.take())
        await actor.transitions.death()


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("submissions")
    victims = Victims(folder / "victims.log")
    server = ValkeyServer(folder, "--appendfsync", "always")
    server.start()
    yield Asking(server, victims, folder)
    victims.close()
    server.kill()


def _cases(*quick: str) -> list[Any]:
    """The quick ones by name, the others as slow: many sends, or a restart of Redis for each."""
    marks = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=marks) for name in REQUESTS]


@pytest.mark.parametrize("name", _cases(*(REQUESTS.keys() - {"large batch"})))
def test_request_of_a_killed_web_process_is_accepted_whole_or_not_at_all(
    asking: Asking, name: str
) -> None:
    request = REQUESTS[name]
    whole = asking.prepare(request, None, "before")
    length = asking.play(whole)
    assert asking.check(whole)
    accepted = [whole]
    points = [(at, moment) for at in range(1, length + 1) for moment in get_args(Moment)]
    for at, moment in points:
        asked = asking.prepare(request, at, moment)
        asking.play(asked)
        is_accepted = asking.check(asked)
        if request.key:
            asking.repeat(asked)
        if is_accepted or request.key:
            accepted.append(asked)
    if request.state in {"queued", "deferred"}:
        asking.check_runs(accepted)
    print(f"\n{name}: {len(points)} points, {len(accepted)} accepted, 0 lost, 0 run twice")


@pytest.mark.parametrize("name", _cases("queued"))
def test_request_during_which_redis_is_killed_is_accepted_once(asking: Asking, name: str) -> None:
    request = REQUESTS[name]
    length = asking.play(asking.prepare(request, None, "before"))
    points = [(at, moment) for at in range(1, length + 1) for moment in get_args(Moment)]
    played = [asking.prepare(request, at, moment) for at, moment in points]
    for asked in played:
        asking.play(asked, kills_server=True)
        is_done = asking.check(asked)
        # What changes a job is not repeated for the client, who hears 503 and may ask again.
        assert (is_done and asked.returned.exists()) or request.act in CHANGES, str(asked)
    if request.act not in CHANGES and request.state in {"queued", "deferred"}:
        asking.check_runs(played)
    print(f"\n{name}: {len(points)} restarts of Redis, 0 lost, 0 run twice")
