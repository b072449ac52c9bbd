"""What a schedule is when it comes in, over HTTP or from a file; and the job of a tick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic_core import to_json, to_jsonable_python

from app.http.faults import Fault, InvalidRequestError
from app.http.schemas import MAX_TAGS, YEAR_SECONDS, Number, faults_of
from app.http.submissions import Origin, Terms, draft_job, pointer_of
from app.queue.records.drafts import JobDraft
from app.schedule import MAX_CRON, TAG, Schedule, check_cron, check_time_zone

SCHEDULE_NAME = "^[a-z0-9][a-z0-9._-]{0,63}$"
# What the jobs of a schedule can be found by.
ONE_TIMING = "one of cron and interval says when"
OUTLIVES = "means nothing for a schedule, which goes on"
NAMES_FILE = "may be gone before the schedule is: say what the job needs in its params"
# What a tick carries to Redis in one step; a larger body would need two.
MOST_PARAMS_BYTES = 192 * 1024
TOO_LARGE = f"has {MOST_PARAMS_BYTES} bytes at most in a schedule"
TAKEN_TAG = "is the tag of the schedule's own name"
FULL_TAGS = f"has {MAX_TAGS - 1} tags at most: one is the schedule's own"
_ONCE = ("scheduled_at", "expires_at", "depends_on", "allow_failure")


def _checked_cron(value: str) -> str:
    check_cron(value)
    return " ".join(value.split())


def _checked_zone(value: str) -> str:
    check_time_zone(value)
    return value


_TIMED: JsonDict = {
    "oneOf": [
        {"required": ["cron"], "properties": {"cron": {"type": "string"}}},
        {"required": ["interval"], "properties": {"interval": {"type": "number"}}},
    ]
}


class WrittenSchedule(BaseModel):
    """When, and which job: the body of PUT. null is the same as absent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_TIMED)

    name: Annotated[
        str | None,
        Field(strict=True, pattern=SCHEDULE_NAME, description="That of the path, if given."),
    ] = None
    cron: Annotated[
        str | None,
        Field(strict=True, max_length=MAX_CRON, json_schema_extra={"format": "cron"}),
        AfterValidator(lambda value: None if value is None else _checked_cron(value)),
    ] = None
    interval: Annotated[
        Number | None, Field(ge=1, le=YEAR_SECONDS, description="Seconds, to the millisecond.")
    ] = None
    time_zone: Annotated[
        str,
        Field(strict=True, max_length=64, json_schema_extra={"format": "time-zone"}),
        AfterValidator(_checked_zone),
    ] = "UTC"
    # Checked by itself, as a submission is; openapi_schemas.py says so there.
    job: dict[str, Any]
    missed: Literal["skip", "run_once"] = "skip"
    overlap: Literal["skip", "enqueue"] = "skip"

    @model_validator(mode="after")
    def _check_timing(self) -> WrittenSchedule:
        if (self.cron is None) == (self.interval is None):
            raise ValueError(ONE_TIMING)
        return self


class NewSchedule(WrittenSchedule):
    """The body of POST, and an entry of the schedules' file."""

    name: Annotated[str, Field(strict=True, pattern=SCHEDULE_NAME)]


def read_schedule(body: Any, terms: Terms, origin: Origin, name: str | None = None) -> Schedule:
    """A schedule, the one of `name` where that is known. Raises InvalidRequestError with all
    that is wrong, its job's faults included.
    """
    if not isinstance(body, dict):
        raise InvalidRequestError([Fault("", "must be an object")])
    faults: list[Fault] = []
    written = None
    try:
        model = NewSchedule if name is None else WrittenSchedule
        written = model.model_validate(body)
        if name is not None and written.name not in {None, name}:
            faults.append(Fault("/name", "is not that of the path"))
    except ValidationError as error:
        faults += faults_of(error, body)
    job = body.get("job")
    if isinstance(job, dict):
        faults += _job_faults(job, terms, origin)
    if faults or written is None:
        raise InvalidRequestError(faults)
    return Schedule(
        name=name if name is not None else str(written.name),
        job=to_jsonable_python(job),
        cron=written.cron,
        interval_ms=None if written.interval is None else round(written.interval * 1000),
        time_zone=written.time_zone,
        missed=written.missed,
        overlap=written.overlap,
    )


def tick_job(schedule: Schedule, terms: Terms, origin: Origin, job_id: str) -> JobDraft:
    """The job of a tick. Raises InvalidRequestError: what was right once may not be now."""
    options = schedule.job.get("options") or {}
    tags = (options.get("tags") or {}) | {TAG: schedule.name}
    draft = draft_job(schedule.job | {"options": options | {"tags": tags}}, terms, origin)
    draft.id = job_id
    if draft.notifying is not None:
        draft.notifying.params["job_id"] = job_id
    return draft


def _job_faults(job: Mapping[str, Any], terms: Terms, origin: Origin) -> list[Fault]:
    """Of a submission, and of what a single one may say and a repeated one may not."""
    faults = []
    options = job.get("options")
    options = options if isinstance(options, dict) else {}
    for name in _ONCE:
        if options.get(name) is not None:
            faults.append(Fault(f"/job/options/{name}", OUTLIVES))
    tags = options.get("tags")
    if isinstance(tags, dict) and TAG in tags:
        faults.append(Fault(f"/job/options/tags/{TAG}", TAKEN_TAG))
    elif isinstance(tags, dict) and len(tags) >= MAX_TAGS:
        faults.append(Fault("/job/options/tags", FULL_TAGS))
    try:
        draft = draft_job(dict(job), terms, origin)
    except InvalidRequestError as error:
        told = {fault.pointer for fault in faults}
        return faults + [each for each in error.below("/job").faults if each.pointer not in told]
    if len(to_json(draft.params)) > MOST_PARAMS_BYTES:
        faults.append(Fault("/job/params", TOO_LARGE))
    named = draft.files.named if draft.files is not None else ()
    return faults + [Fault("/job" + pointer_of(draft, each.place), NAMES_FILE) for each in named]
