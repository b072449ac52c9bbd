"""A worker, and a submission, killed right before and right after each single send to Redis.

Whatever the moment, the job ends once, in one place, and nothing of the dead is left.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pytest
import redis

from app.queue.records import JobView, new_job_id
from tests.conftest import ValkeyServer, poll_until
from tests.crash_proxy import CrashProxy, Moment
from tests.crash_victims import Victims
from tests.harness import ENDED, draft, journal, submit, view

# So many victims at once: they wait for Redis and for each other more than they compute.
AT_ONCE = 4


@dataclass(frozen=True)
class Life:
    """One job's way, and how it must end however often its worker is killed."""

    job_type: str
    status: str = "finished"
    outcomes: tuple[str, ...] = ("finished",)
    params: dict[str, Any] = field(default_factory=dict)


LIVES = {
    "finished": Life("test.note"),
    "process": Life("test.note_process"),
    "retry": Life("test.fail_once", outcomes=("retry", "finished")),
    "failed": Life("test.permanent", status="failed", outcomes=("failed",)),
    # Long enough for a heartbeat, a promote and a recover while it runs.
    "long": Life("test.nap", params={"seconds": 2.2}),
    "long process": Life("test.nap_process", params={"seconds": 2.2}),
}


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Victims]:
    made = Victims(tmp_path / "victims.log")
    yield made
    made.close()


@dataclass
class Point:
    """One crash: which request, the job, and the file that its runs or its 202 leave."""

    at: int | None
    moment: Moment
    job_id: str
    queue: str
    journal: Path
    request: str = "never reached"

    def __str__(self) -> str:
        return f"{self.moment} request {self.at} ({self.request})"


class Stage:
    """A Valkey, the victims, and the crash points that were played on them."""

    def __init__(self, valkey: ValkeyServer, victims: Victims, folder: Path) -> None:
        self.valkey = valkey
        self._victims = victims
        self._folder = folder
        self._numbers = count()

    def place(self, life: Life, at: int | None, moment: Moment) -> Point:
        """A job in a queue of its own, so that only its own victim takes it."""
        number = next(self._numbers)
        path = self._folder / f"journal-{number}"
        made = draft(life.job_type, journal=str(path), **life.params)
        made.queue = f"q{number}"
        submit(self.valkey.url, made)
        return Point(at, moment, made.id, made.queue, path)

    def play(self, point: Point) -> list[str]:
        """Let a worker have the job, and kill it at the point. What it sent until then."""
        proxy = CrashProxy(self.valkey.port, point.at, point.moment)
        pid = self._victims.fork(
            proxy.url,
            arguments=["--queues", point.queue, "--concurrency", "2", "--processes", "1"],
        )
        proxy.kill = lambda: _kill_tree(pid)
        with redis.Redis.from_url(self.valkey.url) as client:
            poll_until(
                lambda: proxy.tripped.is_set() or _status(client, point.job_id) in ENDED,
                seconds=40,
                what=f"the victim is killed {point}, or done",
            )
        if not proxy.tripped.is_set():
            os.kill(pid, signal.SIGTERM)  # its leaving has crash points too
        poll_until(lambda: _has_ended(pid), seconds=40, what="the victim has ended")
        proxy.close()
        if proxy.tripped.is_set():
            point.request = proxy.requests[-1]
        return proxy.requests

    def finish(self, points: list[Point]) -> None:
        """Another worker takes over from the dead, as after ten seconds of silence."""
        with redis.Redis.from_url(self.valkey.url) as client:
            _age_beats(client)
            pid = self._victims.fork(
                self.valkey.url,
                arguments=["--queues", ",".join(point.queue for point in points)],
            )
            for point in points:
                poll_until(
                    lambda: _status(client, point.job_id) in ENDED,  # noqa: B023
                    seconds=30,
                    what=f"the job ends after a crash {point}",
                )
        os.kill(pid, signal.SIGTERM)
        poll_until(lambda: _has_ended(pid), what="the second worker has ended")


def _age_beats(client: redis.Redis) -> None:
    """As if the dead had been silent for a minute, while others kept watching."""
    seconds, _ = client.time()
    names: Any = client.zrange("rq:recado:beats", 0, -1)
    for name in names:
        client.zadd("rq:recado:beats", {name.decode(): (seconds - 60) * 1000})
    client.set("rq:recado:recovered_at", seconds * 1000)


def _kill_tree(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _status(client: redis.Redis, job_id: str) -> str:
    status: Any = client.hget(f"rq:job:{job_id}", "status")
    return str(status.decode()) if status is not None else ""


def play_life(stage: Stage, name: str, choose: Callable[[int], range]) -> None:
    """Play the chosen points of a life and assert what must hold after each."""
    life = LIVES[name]
    whole = stage.place(life, None, "before")
    length = len(stage.play(whole))
    points = [stage.place(life, at, moment) for at in choose(length) for moment in get_args(Moment)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(stage.play, points))
    points = [whole, *points]
    stage.finish(points)
    twice = 0
    for point in points:
        found = view(stage.valkey.url, point.job_id)
        twice += check_job(life, point, found)
    check_places(stage, {point.job_id for point in points}, life)
    reached = sum(point.request != "never reached" for point in points)
    print(f"\n{name}: {length} requests, {reached} points, 0 lost, {twice} run twice")


def check_job(life: Life, point: Point, job: JobView) -> bool:
    """True when its function ran more often than the job asked for."""
    told = f"killed {point}: {job}"
    assert job.status == life.status, told
    outcomes = [each.outcome for each in job.attempts]
    own = [each for each in outcomes if each not in {"abandoned", "interrupted"}]
    assert own == list(life.outcomes), told
    assert len(outcomes) <= len(own) + 1, told  # one kill, one more attempt at most
    assert [each.number for each in job.attempts] == list(range(1, len(outcomes) + 1)), told
    assert job.attempt == len(outcomes), told
    for run, next_run in zip(job.attempts, job.attempts[1:], strict=False):
        assert run.ended_at is not None, told
        assert run.ended_at <= next_run.started_at, told
    runs = [line for line in journal(point.journal) if line[1] == "ran"]
    numbers = [attempt for _, _, attempt, _ in runs]
    assert len(set(numbers)) == len(numbers), told  # no attempt ran twice
    assert set(numbers) <= set(range(1, len(outcomes) + 1)), told
    assert len(runs) >= len(own), told
    return len(runs) > len(own)


def check_places(stage: Stage, job_ids: set[str], life: Life) -> None:
    """Each job in its registry and nowhere else; nothing of the dead is left."""
    with redis.Redis.from_url(stage.valkey.url) as client:
        places: dict[str, list[str]] = {job_id: [] for job_id in job_ids}
        for key in (each.decode() for each in client.scan_iter("rq:*", count=1000)):
            assert not key.startswith(("rq:execution", "rq:wip:", "rq:queue:")), key
            assert not key.endswith(":executions"), key
            for job_id, holders in places.items():
                if _holds(client, key, job_id):
                    holders.append(key)
        for holders in places.values():
            assert {_state_of(key) for key in holders} - {None} == {life.status}, holders
        assert set(client.hvals("rq:recado:bytes")) <= {b"0"}
        assert client.smembers("rq:workers") == set()
        assert client.zcard("rq:recado:beats") == 0
        assert list(client.scan_iter("rq:workers:*")) == []
        for worker in client.scan_iter("rq:worker:*"):
            assert 0 < client.ttl(worker) <= 60, worker


def _state_of(key: str) -> str | None:
    """The state that standing in this key means; None where it is the same in any state."""
    if key.startswith("rq:recado:i:status:"):
        return key.removeprefix("rq:recado:i:status:")
    return None if key.startswith("rq:recado:i:") else key.split(":")[1]


def _holds(client: redis.Redis, key: str, job_id: str) -> bool:
    kind = client.type(key)
    if kind == b"list":
        return client.lpos(key, job_id) is not None
    if kind == b"zset":
        return client.zscore(key, job_id) is not None
    return kind == b"set" and bool(client.sismember(key, job_id))


@pytest.fixture
def stage(valkey: ValkeyServer, victims: Victims, tmp_path: Path) -> Stage:
    return Stage(valkey, victims, tmp_path)


@pytest.mark.parametrize(
    ("name", "first"), [("finished", 1), ("process", 2), ("retry", 3), ("failed", 4)]
)
def test_killed_worker_loses_no_job_at_sampled_points(stage: Stage, name: str, first: int) -> None:
    play_life(stage, name, lambda length: range(first, length + 1, 7))


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVES)
def test_killed_worker_loses_no_job_at_any_point(stage: Stage, name: str) -> None:
    play_life(stage, name, lambda length: range(1, length + 1))


SUBMISSIONS: dict[str, tuple[int, float | None]] = {
    "queued": (10, None),
    "scheduled": (10, 60.0),
    "large": (300_000, None),  # its body goes ahead in a call of its own
}


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_killed_submission_is_there_whole_or_not_at_all(
    stage: Stage, victims: Victims, tmp_path: Path, name: str
) -> None:
    def point(at: int | None, moment: Moment) -> Point:
        returned = tmp_path / f"returned-{at}-{moment}"
        return Point(at, moment, new_job_id(), f"s{new_job_id()}", returned)

    whole = point(None, "before")
    length = play_submission(stage.valkey, victims, name, whole)
    assert whole.journal.exists()
    points = [point(at, moment) for at in range(1, length + 1) for moment in get_args(Moment)]
    for each in points:
        play_submission(stage.valkey, victims, name, each)
    print(f"\n{name}: {length} requests, {len(points)} points")


def play_submission(valkey: ValkeyServer, victims: Victims, name: str, point: Point) -> int:
    """Kill a process that submits at the point, and look. How many requests it sent."""
    size, delay_seconds = SUBMISSIONS[name]
    proxy = CrashProxy(valkey.port, point.at, point.moment)
    asked = {
        "id": point.job_id, "queue": point.queue, "delay_seconds": delay_seconds,
        "params": {"message": "x" * size}, "returned": str(point.journal),
    }  # fmt: skip
    pid = victims.fork(proxy.url, submit=asked)
    proxy.kill = lambda: _kill_tree(pid)
    poll_until(lambda: _has_ended(pid), what="the submitter has ended")
    proxy.close()
    point.request = proxy.requests[-1]
    check_submission(valkey.url, point, "scheduled" if delay_seconds else "queued", size)
    return len(proxy.requests)


def check_submission(url: str, point: Point, place: str, size: int) -> None:
    with redis.Redis.from_url(url) as client:
        status = _status(client, point.job_id)
        lists = {
            "queued": client.lrange(f"rq:queue:{point.queue}", 0, -1),
            "scheduled": client.zrange(f"rq:scheduled:{point.queue}", 0, -1),
        }
        ttl = client.ttl(f"rq:job:{point.job_id}")
    told = f"killed {point}: {status!r} {lists}"
    empty: dict[str, list[bytes]] = {"queued": [], "scheduled": []}
    if not status:
        assert lists == empty, told
        assert not point.journal.exists(), told  # nobody was told that it is there
        assert ttl == -2 or 0 < ttl <= 60, told
        return
    assert lists == empty | {place: [point.job_id.encode()]}, told
    assert ttl == -1, told
    found = view(url, point.job_id)
    assert found.status == place, told
    assert found.params is not None, told
    assert len(found.params["message"]) == size, told
