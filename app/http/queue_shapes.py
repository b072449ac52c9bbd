"""What answers about queues and workers look like; see shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.http.shapes import Count, Shape

Rate = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class QueueState(Shape):
    """Whether a queue is paused."""

    name: str
    paused: bool


class Emptied(Shape):
    """A queue from which was taken what waited there."""

    name: str
    canceled: Annotated[int, Field(ge=0, description="How many jobs were canceled.")]
    is_complete: Annotated[
        bool,
        Field(description="false: there was no time for all of them; ask again for the rest."),
    ]


class Queue(Shape):
    """A queue, all of its priorities together."""

    name: Annotated[str, Field(examples=["email"])]
    depth: Annotated[
        int,
        Field(
            ge=0,
            description="Jobs that wait for a worker; those that wait for a place of their"
            " `concurrency` key are not counted.",
        ),
    ]
    oldest_age: Annotated[
        Seconds | None,
        Field(
            description="Seconds that the job has waited that has waited longest, by the first"
            " five of each priority; null: none waits."
        ),
    ]
    running: Count
    scheduled: Annotated[
        int, Field(ge=0, description="Waiting for their time, or for their next attempt.")
    ]
    deferred: Annotated[int, Field(ge=0, description="Waiting for the jobs they depend on.")]
    failed: Annotated[
        int, Field(ge=0, description="In RQ's failed registry: failed ones, and stopped ones.")
    ]
    rate_in: Annotated[
        Rate | None,
        Field(
            description="Jobs accepted a second, over about the last minute; null: nothing is"
            " known of it yet."
        ),
    ]
    rate_out: Annotated[Rate | None, Field(description="Jobs ended a second, likewise.")]
    workers: Annotated[int, Field(ge=0, description="Live workers that listen to it.")]
    paused: bool
    pause_reason: Annotated[
        str | None, Field(description="Why it paused itself; null where an operator did it.")
    ]
    bytes: Annotated[int, Field(ge=0, description="What its waiting and running jobs take.")]


class QueueList(Shape):
    """Every queue, in order of name."""

    data: list[Queue]


class Quantiles(Shape):
    """Of how long something took, in seconds; estimated from a histogram, null without any."""

    count: Count
    p50: Seconds | None
    p95: Seconds | None


class QueueMinute(Shape):
    """What happened in about a minute: `seconds` says how long it was."""

    at: datetime
    seconds: Seconds
    accepted: Count
    finished: Count
    failed: Count
    canceled: Count
    stopped: Count
    retried: Count
    wait: Annotated[Quantiles, Field(description="From the queue to the beginning of a run.")]
    run: Annotated[Quantiles, Field(description="Runs, however they ended.")]


class QueueMoment(Shape):
    """What waited at a moment."""

    at: datetime
    depth: Count
    oldest_age: Seconds | None


class QueueHour(Queue):
    """A queue and what happened in it in the last hour."""

    minutes: Annotated[
        list[QueueMinute],
        Field(description="Oldest first; minutes in which nobody was there are told as one."),
    ]
    waiting: Annotated[
        list[QueueMoment],
        Field(description="Oldest first, about once a minute, while a worker was there."),
    ]


class Worker(Shape):
    """A worker process, of this service or a stock one."""

    name: str
    queues: list[str]
    state: Annotated[str, Field(examples=["busy", "idle"], description="As it last told.")]
    is_alive: Annotated[
        bool,
        Field(description="false: nothing was heard of it for too long; it will be struck off."),
    ]
    running: Annotated[
        list[str], Field(max_length=100, description="Ids of jobs that it runs, up to a hundred.")
    ]
    running_count: Count
    slots: Annotated[
        int | None, Field(description="Jobs that it runs at once; null: it does not say.")
    ]
    heartbeat_age: Annotated[
        Seconds | None, Field(description="Seconds since it was last heard of.")
    ]
    started_at: datetime | None
    pid: int | None
    host: str | None
    version: Annotated[str | None, Field(description="Of RQ.")]
    successful_count: Count
    failed_count: Count
    mail_fault: Annotated[
        str | None,
        Field(
            description="What it finds wrong with the mail server: that it is not let in, or"
            " that each of its last recipients was refused for good."
        ),
    ]


class WorkerList(Shape):
    """Every worker that has not said good-bye, in order of name."""

    data: list[Worker]
