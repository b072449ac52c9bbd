"""Every key name, RQ's and ours; all under RQ's prefix, so that services can share a Redis."""

from __future__ import annotations

import hashlib
from typing import Literal

from app.queue.rq_prefix import rq_prefix

PREFIX = rq_prefix()
# What RQ has no place for.
OURS = f"{PREFIX}:recado:"

QUEUES = f"{PREFIX}:queues"
WORKERS = f"{PREFIX}:workers"
BEATS = f"{OURS}beats"
WAKE = f"{OURS}wake"
SECRET = f"{OURS}secret"
BROKEN = f"{OURS}broken:"
# Ids of jobs that must start before a time, by that time.
EXPIRES = f"{OURS}expires"
PAUSED = f"{OURS}paused"
# By queue, the error for which it has paused itself; of an operator's pause there is none.
PAUSED_WHY = f"{OURS}paused_why"
# Addresses that were refused for good, by the ms when that is forgotten; and what was said.
SUPPRESSED = f"{OURS}suppressed"
SUPPRESSIONS = f"{OURS}suppressions"
# Ids of uploads, by the time when they expire.
UPLOADS = f"{OURS}uploads"
INDEX = f"{OURS}i:"
# By id, where each job's error is listed: JSON with `error` and `fingerprint`.
ERRORS = f"{OURS}errors"
# Names of the files that are kept in Redis; equal scores, so that they are in order of name.
FILE_NAMES = f"{OURS}files:names"
# Causes of failures that have failed jobs, by the microsecond of the last one.
FAILURES = f"{OURS}failures"
# The number of the last failure.
FAILED_SEQ = f"{OURS}failed_seq"
# Ids of the operations that are kept; equal scores, so that they are in order of id.
OPERATIONS = f"{OURS}operations"
# Names of schedules, by the ms when they are to be looked at.
SCHEDULES = f"{OURS}schedules"
# Names of schedules whose tick waits because its job could not be made.
SCHEDULES_PUT_OFF = f"{OURS}schedules_put_off"
# Who did what, a stream.
AUDIT = f"{OURS}audit"
# What has happened since ever, by queue and type; and the same as it was in a minute.
COUNTS = f"{OURS}counts"
# Bytes that wait, by queue without priority.
BYTES = f"{OURS}bytes"
# How long submissions took, told by the web processes.
SUBMISSIONS = f"{OURS}submissions"
SUSPENDED = f"{PREFIX}:suspended"


def job(job_id: str) -> str:
    return f"{PREFIX}:job:{job_id}"


def results(job_id: str) -> str:
    return f"{PREFIX}:results:{job_id}"


def queue(name: str) -> str:
    return f"{PREFIX}:queue:{name}"


def worker(name: str) -> str:
    return f"{PREFIX}:worker:{name}"


def held(worker_name: str) -> str:
    """The executions that a worker holds."""
    return f"{PREFIX}:worker:{worker_name}:executions"


def commands(worker_name: str) -> str:
    """The channel on which stock tools send commands to a worker."""
    return f"{PREFIX}:pubsub:{worker_name}"


def scheduled(queue_name: str) -> str:
    return f"{PREFIX}:scheduled:{queue_name}"


def registry(kind: str, queue_name: str) -> str:
    """A sorted set of RQ's: `wip`, `scheduled`, `deferred`, `finished`, `failed`, `canceled`."""
    return f"{PREFIX}:{kind}:{queue_name}"


def minute_counts(minute: int) -> str:
    """What COUNTS was in that minute since 1970."""
    return f"{COUNTS}:{minute}"


def minute_waiting(minute: int) -> str:
    """What waited in that minute since 1970."""
    return f"{COUNTS}:{minute}:waiting"


def claimed(queue_name: str, minute: int) -> str:
    """How many jobs left that queue in that minute since 1970."""
    return f"{OURS}claimed:{queue_name}:{minute}"


def batch(batch_id: str) -> str:
    return f"{OURS}batch:{batch_id}"


def batch_todo(batch_id: str) -> str:
    """Jobs of a large batch that is accepted and not queued yet."""
    return f"{batch(batch_id)}:todo"


def idempotency(by: str, key: str) -> str:
    return f"{OURS}idempotency:{idempotency_id(by, key)}"


def idempotency_id(by: str, key: str) -> str:
    """A client's key among those of its API key; of a length that we choose."""
    return hashlib.sha256(f"{by}\0{key}".encode()).hexdigest()[:40]


def upload(upload_id: str) -> str:
    return f"{OURS}upload:{upload_id}"


def uploads_of(owner: str) -> str:
    """Ids of the uploads of an API key, by the time when they expire."""
    return f"{OURS}uploads:by:{owner}"


def upload_holders(upload_id: str) -> str:
    """The jobs that were accepted with this upload."""
    return f"{OURS}upload:{upload_id}:jobs"


def file(name: str) -> str:
    """A file that is kept in Redis, by its name in storage."""
    return f"{OURS}file:{name}"


def file_piece(file_id: str, number: int) -> str:
    """Its bytes, piece by piece, from 1."""
    return f"{OURS}file-piece:{file_id}:{number}"


def failure(fingerprint: str, part: Literal["", ":jobs", ":trend"] = "") -> str:
    """A cause: what it is, the ids of its failed jobs, how often it came when (groups.lua)."""
    return f"{OURS}failure:{fingerprint}{part}"


def selection(selection_id: str) -> str:
    return f"{OURS}selection:{selection_id}"


def operation(operation_id: str) -> str:
    return f"{OURS}operation:{operation_id}"


def schedule(name: str, part: Literal["", ":runs"] = "") -> str:
    """A schedule: what it is and what it waits for; the jobs of its last ticks, latest first."""
    return f"{OURS}schedule:{name}{part}"


def events(job_id: str) -> str:
    """The channel on which a job's trail is told as it grows."""
    return f"{OURS}job:{job_id}"
