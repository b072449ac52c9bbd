"""What must hold of a job however its life was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from app.queue.records.views import JobView
from tests.crash_lives import GONE, Member
from tests.crash_stage import OWN_OUTCOMES, Point, Stage
from tests.harness import REQUEUED_SECONDS, journal, view

_PLACES = {"stopped": "failed"}  # as RQ has it
# Beside the jobs: of the service, and of queues.
_LASTING = {
    "queues", "recado:indexes", "recado:recovered_at", "recado:sweep_at", "recado:upkeep_at",
    "recado:upkeep_turn", "recado:walk_at", "recado:bytes", "recado:retained", "recado:errors",
    "recado:audit", "recado:failures", "recado:failed_seq", "recado:cleared", "recado:counts",
    "recado:operations",
}  # fmt: skip
_REGISTRIES = ("finished", "failed", "canceled")


def check_crash(point: Point) -> None:
    """Between the kill and the recovery: each job is in exactly one place, or quite gone."""
    for seen in point.seen.values():
        expected = 0 if seen.status == GONE else 1
        assert len(seen.places) == expected, f"{point}: {seen}"
        assert 0 <= seen.begun - seen.recorded <= 1, f"{point}: {seen}"


def check_end(stage: Stage, point: Point) -> int:
    """Each job ended once, in its place, with the runs that it needed. How many ran twice."""
    twice = 0
    for member, job_id in zip(point.life.members, point.job_ids, strict=True):
        runs = [line for line in journal(point.journal) if line[0] == job_id]
        begun = [attempt for _, word, attempt, _ in runs if word == point.life.begins]
        told = f"{point}: {member.job_type} {runs} {point.seen.get(job_id)}"
        assert len(set(begun)) == len(begun), told  # no attempt began twice
        if member.status == GONE:
            assert stage.status(job_id) == GONE, told
            assert stage.places(point.queue, job_id) == [], told
        else:
            found = view(stage.valkey.url, job_id)
            _check_record(stage, point, member, found, f"{told} {found}")
        extra = len(begun) - len(member.outcomes)
        _check_runs(point, member, job_id, len(begun), told)
        twice += extra > 0
    _check_notified(stage, point)
    return twice


def _check_notified(stage: Stage, point: Point) -> None:
    """One job tells of each outcome, and has done so."""
    told = stage.notified(point)
    assert len(told) == len(point.job_ids) * point.life.notify, f"{point}: {told}"
    for job_id in told:
        found = view(stage.valkey.url, job_id)
        assert found.status == "finished", f"{point}: {found}"
        assert found.result["dry_run"] is True, f"{point}: {found}"
        assert stage.places(point.queue, job_id) == ["finished"], f"{point}: {found}"


def _check_record(stage: Stage, point: Point, member: Member, job: JobView, told: str) -> None:
    trail = stage.trail(job.id)
    endings = [word for word in trail if word in {"finished", "failed", "stopped", "canceled"}]
    assert endings == [job.status] == trail[-1:], f"{told} {trail}"
    assert stage.places(point.queue, job.id) == [_PLACES.get(job.status, job.status)], told
    outcomes = [each.outcome for each in job.attempts]
    own = tuple(each for each in outcomes if each in OWN_OUTCOMES)
    if point.life.asked == "cancel":
        # Stopped while it ran, or taken out of the queue that it was given back to.
        assert job.status in {"stopped", "canceled"}, told
        assert own in {(), ("stopped",)}, told
    else:
        assert (job.status, own) == (member.status, member.outcomes), told
        assert len(outcomes) <= len(own) + 1, told  # one kill, one more attempt at most
    assert [each.number for each in job.attempts] == list(range(1, len(outcomes) + 1)), told
    assert job.attempt == len(outcomes), told
    for run, next_run in zip(job.attempts, job.attempts[1:], strict=False):
        assert run.ended_at is not None, told
        assert run.ended_at <= next_run.started_at, told


def _check_runs(point: Point, member: Member, job_id: str, begun: int, told: str) -> None:
    """A function begins again only where it had begun and its outcome was not recorded."""
    own = len(member.outcomes)
    seen = point.seen.get(job_id)
    if point.life.asked == "cancel":
        at_most = 1 if seen is None or point.victim == "valkey" else seen.begun + 1
        assert 1 <= begun <= max(at_most, 1), told
    elif seen is not None:
        assert begun == seen.begun + own - seen.recorded, told
    elif point.victim in {"child", "nursery"} and point.was_reached:
        assert own <= begun <= own + 1, told
    else:
        interrupted = point.life.asked == "leave"
        assert own <= begun <= own + interrupted, told


def check_keys(stage: Stage, points: Sequence[Point]) -> None:
    """Nothing is left but the ended jobs, for as long as they are kept, and their lists."""
    job_ids = {job_id for point in points for job_id in point.job_ids}
    job_ids |= {job_id for point in points for job_id in stage.notified(point)}
    queues = {point.queue for point in points}
    with redis.Redis.from_url(stage.valkey.url) as client:
        for key in sorted(each.decode() for each in client.scan_iter(count=1000)):
            _check_key(client, key, job_ids, queues)
        assert set(client.hvals("rq:recado:bytes")) <= {b"0"}
        assert {each.decode() for each in client.hkeys("rq:recado:errors")} <= job_ids


def _check_key(client: redis.Redis, key: str, job_ids: set[str], queues: set[str]) -> None:
    assert key.startswith("rq:"), key
    name = key.removeprefix("rq:")
    ttl: Any = client.ttl(key)
    if name in _LASTING or name.startswith(("recado:i:", "recado:failure:")):
        return
    kind, _, rest = name.partition(":")
    if kind in _REGISTRIES and rest in queues:
        return
    if kind in {"job", "results"}:
        job_id = rest.removeprefix(":").partition(":")[0]
        assert job_id in job_ids, key
        assert -1 != ttl <= 86400 + REQUEUED_SECONDS, f"{key} is kept for {ttl} s"
    elif kind == "worker":
        assert not rest.endswith(":executions"), key
        assert -1 != ttl <= 60, f"{key} is kept for {ttl} s"
    else:
        expiring = ("recado:submitter:", "recado:claimed:", "recado:batch:", "recado:counts:")
        assert name.startswith(expiring), key
        assert ttl != -1, key
