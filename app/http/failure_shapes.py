"""What answers about failures, operations and the audit trail look like; see shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from app.http.shapes import AnyJobId, Count, JobId, Path, Shape


class FailureCause(Shape):
    """What jobs failed of."""

    error_class: Annotated[str, Field(alias="class")]
    message: Annotated[str, Field(description="`…` in place of what differs from run to run.")]


class FailureTrend(Shape):
    """Failures for good, whether or not those jobs are still there."""

    last_hour: Annotated[Count, Field(alias="1h")]
    last_day: Annotated[Count, Field(alias="24h")]
    last_week: Annotated[Count, Field(alias="7d")]


class FailureGroup(Shape):
    """Failed jobs that look alike."""

    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    state: Annotated[
        Literal["open", "regressed"],
        Field(
            description="`regressed`: its last job had been retried or discarded, and then the"
            " same failure came back."
        ),
    ]
    count: Annotated[int, Field(ge=1, description="Failed jobs now.")]
    type: str
    queue: str
    error: FailureCause
    first_seen: datetime
    last_seen: datetime
    trend: FailureTrend
    samples: Annotated[list[AnyJobId], Field(description="Those that failed last.")]


class FailurePage(Shape):
    """Groups, that which failed last first."""

    data: list[FailureGroup]
    next_cursor: str | None


class FailurePreview(Shape):
    """What a filter finds."""

    count: Annotated[int, Field(ge=0)]
    sample: Annotated[list[AnyJobId], Field(max_length=10, description="Some of them.")]
    selection: Annotated[
        JobId,
        Field(description="Names exactly these jobs, for an hour; not those that fail later."),
    ]


class OperationLinks(Shape):
    """Where to go on from here."""

    self: Path
    pause: Path
    resume: Path
    stop: Path


class Operation(Shape):
    """Something that is done to many failed jobs, as a job of the same id."""

    id: JobId
    action: Literal["retry", "discard"]
    state: Annotated[
        Literal["queued", "running", "paused", "finished", "stopped", "failed"],
        Field(description="`failed`: it could not go on, and why is on the job of its id."),
    ]
    filter: Annotated[
        dict[str, str],
        Field(
            description="What was asked for; nothing of it: all that had failed.",
            examples=[{"fingerprint": "5f2b1c0d9e8a7b64"}],
        ),
    ]
    total: Annotated[int, Field(ge=0, description="Jobs in the selection.")]
    done: Annotated[int, Field(ge=0, description="Those that were retried or discarded.")]
    failed: Annotated[int, Field(ge=0, description="Those that could not be.")]
    skipped: Annotated[
        int,
        Field(ge=0, description="Those that somebody else had moved before; known at the end."),
    ]
    stopped_by: Annotated[
        str | None,
        Field(description="The fingerprint that came back, or the key that stopped it."),
    ]
    pace: Annotated[float | None, Field(description="Jobs per second; null: as they come.")]
    canary: bool
    waits_for: Annotated[
        list[AnyJobId],
        Field(max_length=10, description="Canaries whose end it waits for."),
    ]
    created_by: Annotated[str, Field(description="The name of the API key.")]
    created_at: datetime
    finished_at: datetime | None
    warnings: Annotated[list[str], Field(description="The truth about capacity.")]
    links: OperationLinks


class Act(Shape):
    """Something that somebody did."""

    at: datetime
    key: Annotated[str, Field(description="The name of the API key.")]
    action: Annotated[str, Field(examples=["retry", "cancel", "pause"])]
    target: Annotated[str, Field(description="Where that is.", examples=["/v1/queues/email"])]
    detail: Annotated[dict[str, JsonValue], Field(description="Facts of it.")]


class ActPage(Shape):
    """What was done, the latest first."""

    data: list[Act]
    next_cursor: str | None


class OperationPage(Shape):
    """Operations, the newest first."""

    data: list[Operation]
    next_cursor: str | None
