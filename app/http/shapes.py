"""What the answers look like: the models behind the responses in /openapi.json.

`schemas.py` builds the answers, quickly and by hand; a test holds both against each other.
A field without a default is always there. Fields may be added, so clients skip unknown ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.queue.records.names import Priority, Status
from jobs.errors import CODES

JobId = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9_-]{20,40}$",
        description="Cannot be guessed, and sorts by creation time.",
        examples=["06512f3ad9a1c81b26c2d6a0f5b3e49d712"],
    ),
]
# As a reference: what is read back may have been made by another producer of RQ jobs.
AnyJobId = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,128}$")]
Path = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
Count = Annotated[int, Field(ge=0)]


class Shape(BaseModel):
    """An object in an answer."""

    model_config = ConfigDict(populate_by_name=True)


class ProblemFault(Shape):
    """One bad field, or one bad query parameter."""

    pointer: Annotated[
        str, Field(default_factory=str, description="A JSON Pointer (RFC 6901) into the body.")
    ]
    parameter: Annotated[str, Field(default_factory=str)]
    detail: str


class Problem(Shape):
    """What went wrong, as RFC 9457 has it."""

    type: Annotated[Path, Field(description="Stable; the page there explains it.")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="The path of the request.")]
    request_id: Annotated[str, Field(description="The same as in the header X-Request-Id.")]
    errors: Annotated[
        list[ProblemFault], Field(default_factory=list, description="Every bad field at once.")
    ]


class JobError(Shape):
    """Why a run, or the job, failed."""

    code: Annotated[
        str,
        Field(
            description="A stable word; job types of a deployment's own may add to these: "
            + "; ".join(f"`{code}`: {meaning}" for code, meaning in CODES.items())
            + ".",
            examples=["smtp_permanent"],
        ),
    ]
    message: str
    error_class: Annotated[str, Field(alias="class")]
    retryable: bool
    fingerprint: Annotated[
        str | None, Field(description="Equal for failures that look alike; null while unknown.")
    ]


class Attempt(Shape):
    """One run of a job. `outcome` is null while it runs."""

    number: Annotated[int, Field(description="From 1; each run counts.")]
    worker: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: Annotated[
        Literal["finished", "failed", "retry", "stopped", "interrupted", "abandoned"] | None,
        Field(
            description="`interrupted`: a shutdown; `abandoned`: its worker died, or its process"
            " was killed."
        ),
    ]
    error: JobError | None


class Progress(Shape):
    """How far the run is, as the job tells it."""

    current: float
    total: float | None
    unit: str
    message: str


class Artifact(Shape):
    """A file that the job made."""

    name: str
    size: Annotated[int, Field(ge=0, description="Bytes.")]
    content_type: str
    sha256: str
    href: Path


class JobLinks(Shape):
    """Where to go on from here."""

    self: Path
    events: Path
    cancel: Path
    retry: Path


class Backoff(Shape):
    """The wait before another attempt, in seconds; `jitter` is the share that is random."""

    initial: float
    factor: float
    max: float
    jitter: float


class ShownConcurrency(Shape):
    """At most `limit` jobs of this key run at once."""

    key: str
    limit: int


class ShownNotify(Shape):
    """Who hears of which outcomes; `locale` null: the default one."""

    email: list[str]
    on: list[str]
    locale: str | None


class ShownOptions(Shape):
    """The options in force, with `?include=options`."""

    scheduled_at: datetime | None
    expires_at: datetime | None
    priority: Priority
    max_attempts: int
    backoff: Backoff | None
    timeout: Annotated[float | None, Field(description="Seconds one run may take.")]
    retention: Annotated[float | None, Field(description="Seconds a finished job is kept.")]
    dry_run: bool
    depends_on: list[str]
    allow_failure: bool
    concurrency: ShownConcurrency | None
    notify: ShownNotify | None
    tags: dict[str, str]


class Job(Shape):
    """A job as it stands. Every field is there; null or empty says that nothing is known."""

    id: AnyJobId
    type: Annotated[str, Field(examples=["email.send"])]
    queue: Annotated[str, Field(examples=["email"])]
    status: Status
    priority: Priority
    attempt: Annotated[int, Field(description="The latest run's number; 0 before the first.")]
    max_attempts: Annotated[
        int, Field(description="How many runs may end by the job's own error or time-out.")
    ]
    created_at: datetime
    scheduled_at: datetime | None
    enqueued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    next_attempt_at: Annotated[
        datetime | None, Field(description="Set while a `scheduled` job waits for another attempt.")
    ]
    position: Annotated[
        int | None,
        Field(
            description="1: next in its queue. null: it does not wait there, or too far back to"
            " count: behind the first 100,000, in a list behind the first 1,000. Not counted in"
            " the answer to a submission.",
        ),
    ]
    eta_seconds: Annotated[float | None, Field(description="From recent throughput.")]
    progress: Progress | None
    result: Annotated[JsonValue, Field(description="What the job type says it leaves.")]
    artifacts: list[Artifact]
    error: JobError | None
    attempts: list[Attempt]
    reason: Annotated[
        str | None,
        Field(
            description="Why it was canceled or stopped.",
            examples=["requested", "expired", "parent_failed"],
        ),
    ]
    batch_id: str | None
    parent_ids: list[str]
    tags: dict[str, str]
    request_id: str | None
    submitted_by: Annotated[str | None, Field(description="The name of the API key.")]
    warnings: Annotated[
        list[str],
        Field(
            description="The truth about capacity.",
            examples=[["no live worker listens to queue email"]],
        ),
    ]
    links: JobLinks
    params: Annotated[
        dict[str, JsonValue] | None,
        Field(default_factory=dict, description="Only with `?include=params`."),
    ]
    options: Annotated[
        ShownOptions,
        Field(default_factory=dict, description="Only with `?include=options`."),
    ]
    traceback: Annotated[
        str | None,
        Field(default_factory=str, description="Only with `?include=traceback`."),
    ]


class JobPage(Shape):
    """Jobs, newest first."""

    data: list[Job]
    next_cursor: Annotated[str | None, Field(description="null: there are no more.")]


class Event(Shape):
    """Something that happened to a job. `detail` has the facts, and who did it."""

    id: Annotated[str, Field(description="In order, for each job.")]
    event: Annotated[
        Literal[
            "queued", "scheduled", "deferred", "started", "progress", "retry_scheduled",
            "interrupted", "recovered", "finished", "failed", "canceled", "stopped", "late",
        ],
        Field(description="`late`: a run told its outcome after another had taken over."),
    ]  # fmt: skip
    at: datetime
    detail: dict[str, JsonValue]


class EventList(Shape):
    """A job's trail, oldest first."""

    data: list[Event]


class BatchLinks(Shape):
    """Where to go on from here."""

    self: Path
    jobs: Path


class Batch(Shape):
    """A batch as it stands."""

    id: JobId
    size: Annotated[int, Field(ge=1, le=1000)]
    counts: Annotated[
        dict[Status, Count], Field(description="Jobs by status; a status without any is absent.")
    ]
    failures: Annotated[list[Job], Field(max_length=10, description="The first that failed.")]
    created_at: datetime
    finished_at: Annotated[datetime | None, Field(description="When the last job ended.")]
    submitted_by: str | None
    job_ids: list[AnyJobId]
    links: BatchLinks


class AcceptedResult(Shape):
    """A job of a permissive batch that was accepted; `status` 200 when it has ended."""

    status: Literal[200, 202]
    job: Job


class RefusedResult(Shape):
    """A job of a permissive batch that was not."""

    status: Annotated[Literal[422, 503], Field(description="503: its queue has no room.")]
    problem: Problem


class BatchResults(Shape):
    """What became of each job, in order."""

    id: Annotated[JobId | None, Field(description="null: nothing was accepted.")]
    results: list[AcceptedResult | RefusedResult]


class Upload(Shape):
    """A file that was handed in."""

    id: JobId
    size: Annotated[int, Field(ge=0, description="Bytes.")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    content_type: str
    filename: str | None
    expires_at: Annotated[datetime, Field(description="Until then it is kept.")]


class TemplateVariable(Shape):
    """What a template has to be given."""

    name: str
    type: Literal["string", "integer", "number", "boolean", "time"]
    required: bool
    format: Annotated[
        Literal["uri"],
        Field(default_factory=str, description="Of a string: http:// or https:// only."),
    ]


class ShownTemplate(Shape):
    """An e-mail that is written once and filled in often."""

    name: Annotated[str, Field(examples=["password_reset"])]
    locales: Annotated[list[str], Field(min_length=1, description="The default one first.")]
    variables: list[TemplateVariable]


class TemplateList(Shape):
    """Every template, in order of name."""

    data: list[ShownTemplate]


class TemplatePreview(Shape):
    """What a template and its variables make."""

    subject: str
    text: str
    html: str


class Suppression(Shape):
    """An address that a mail server refused for good: nothing is sent to it until then."""

    address: str
    since: datetime | None
    until: datetime
    code: Annotated[int | None, Field(description="The server's reply code.")]
    reply: str | None


class SuppressionPage(Shape):
    """Suppressed addresses, the latest first."""

    data: list[Suppression]
    next_cursor: str | None


class ShownJobType(Shape):
    """A kind of work, its defaults, and the JSON Schema of its params."""

    name: Annotated[str, Field(examples=["email.send"])]
    description: str
    queue: str
    max_attempts: int
    timeout: Annotated[float, Field(description="Seconds one run may take.")]
    backoff: Backoff
    params: Annotated[dict[str, Any], Field(description="JSON Schema, draft 2020-12.")]


class JobTypeList(Shape):
    """Every job type, in order of name."""

    data: list[ShownJobType]


class ProblemKind(Shape):
    """One kind of problem, explained."""

    type: Path
    title: str
    status: int
    explanation: str


class ProblemKindList(Shape):
    """Every kind of problem that this service answers with."""

    data: list[ProblemKind]


class Alive(Shape):
    """The process is up."""

    status: Literal["ok"]


class Readiness(Shape):
    """Whether jobs are taken and run, and why not."""

    status: Literal["ok", "unavailable"]
    reasons: list[str]


class Index(Shape):
    """What is here."""

    name: Literal["Recado"]
    links: dict[str, Path]
