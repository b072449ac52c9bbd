"""What answers about schedules look like; see shapes.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from app.http.shapes import AnyJobId, Path, Shape


class ScheduledJob(Shape):
    """The job of each tick, as it was sent."""

    type: str
    params: Annotated[dict[str, JsonValue], Field(default_factory=dict)]
    options: Annotated[dict[str, JsonValue], Field(default_factory=dict)]


class SkippedTick(Shape):
    """A tick that made no job."""

    at: datetime
    reason: Annotated[
        Literal["missed", "overlap"],
        Field(description="`missed`: nobody was there; `overlap`: the job before had not ended."),
    ]


class ScheduleLinks(Shape):
    """Where to go on from here."""

    self: Path
    jobs: Annotated[Path, Field(description="All of its jobs that are kept.")]


class Schedule(Shape):
    """Work that is done again and again."""

    name: str
    cron: Annotated[str | None, Field(examples=["0 3 * * MON-FRI"])]
    interval: Annotated[float | None, Field(description="Seconds between two ticks.")]
    time_zone: Annotated[str, Field(description="In which `cron` is read.")]
    job: ScheduledJob
    missed: Literal["skip", "run_once"]
    overlap: Literal["skip", "enqueue"]
    source: Annotated[
        Literal["http", "file"], Field(description="`file`: it is changed there, not here.")
    ]
    created_by: Annotated[str, Field(description="The name of the API key that wrote it last.")]
    created_at: datetime
    updated_at: datetime
    next_runs: Annotated[list[datetime], Field(max_length=5)]
    last_runs: Annotated[
        list[AnyJobId],
        Field(max_length=20, description="Jobs of the last ticks, the latest first."),
    ]
    last_skip: SkippedTick | None
    warnings: Annotated[
        list[str], Field(description="Why a tick waits, and the truth about capacity.")
    ]
    links: ScheduleLinks


class SchedulePage(Shape):
    """Schedules, in order of name."""

    data: list[Schedule]
    next_cursor: str | None
