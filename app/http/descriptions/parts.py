"""What descriptions are made of: replies and bodies, and the parameters and headers by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from app.http.job_list import DEFAULT_LIMIT, MAX_LIMIT, STATUSES
from app.http.schedule_bodies import SCHEDULE_NAME
from app.http.schemas import JOB_ID_PATTERN

Json = dict[str, Any]
JSON = "application/json"
TEXT: Json = {"type": "string"}
BINARY: Json = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One way an operation goes well.

    `model` is what stands in its JSON; `besides`, other media types with their schemas.
    `headers` name entries of HEADERS, `links` of LINKS.
    """

    text: str
    model: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    besides: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """What an operation takes: schemas by media type, and what can be wrong with it."""

    content: Mapping[str, Json]
    problems: tuple[str, ...]
    required: bool = True
    examples: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """One operation. `parameters` name entries of PARAMETERS.

    `problems` are the slugs of what else it may answer.
    """

    operation_id: str
    tag: str
    summary: str
    text: str
    replies: Mapping[int, Reply]
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    body: Body | None = None


def json_body(schema: str, examples: Mapping[str, Json] | None = None) -> Body:
    """A body of JSON, as the named schema has it."""
    return Body(
        {JSON: {"$ref": f"#/components/schemas/{schema}"}},
        ("malformed-json", *BODY_PROBLEMS, "invalid-request"),
        examples=examples if examples is not None else {},
    )


BODY_PROBLEMS = ("slow-body", "body-too-large", "unsupported-media-type")
NO_FIELDS = Body(
    {JSON: {"type": "object", "maxProperties": 0}},
    ("malformed-json", *BODY_PROBLEMS, "invalid-request"),
    required=False,
)
QUEUE = ("queue-unavailable",)
SUBMITTING = ("idempotency_key", "prefer")
SUBMITTING_PROBLEMS = (
    "invalid-header", "idempotency-pending", "idempotency-mismatch", "queue-unavailable",
    "storage-unavailable", "storage-full", "too-many-uploads",
)  # fmt: skip
NOT_CHANGED = Reply("Nothing has changed.", headers=("ETag",))


def _path(name: str, text: str, pattern: str, **more: Any) -> Json:
    schema = {"type": "string", "minLength": 1, "pattern": pattern}
    return {
        "name": name, "in": "path", "required": True, "description": text, "schema": schema,
    } | more  # fmt: skip


def _query(name: str, text: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _header(name: str, text: str, **schema: Any) -> Json:
    shown = {"type": "string"} | schema
    return {"name": name, "in": "header", "description": text, "schema": shown}


_TEXT_FILTER = {"type": "string", "minLength": 1, "maxLength": 500}

PARAMETERS: dict[str, Json] = {
    "id": _path("id", "The job's id.", JOB_ID_PATTERN),
    "batch": _path("id", "The batch's id.", JOB_ID_PATTERN),
    "upload": _path("id", "The upload's id.", "^[A-Za-z0-9_-]{20,40}$"),
    "operation": _path("id", "The operation's id.", JOB_ID_PATTERN),
    "artifact": _path("name", "The artifact's name.", "^[A-Za-z0-9._-]{1,100}$"),
    "result_token": _path("token", "The job's id, and a signature.", "^[A-Za-z0-9._-]{1,100}$"),
    "queue_name": _path(
        "name", "The queue; all of its priorities are meant.", "^[a-z][a-z0-9_.-]*$",
        example="email",
    ),
    "confirm": _query("confirm", "The queue's name once more, so that none is emptied by mistake.",
                      type="string", minLength=1, example="email") | {"required": True},
    "schedule": _path("name", "The schedule's name.", SCHEDULE_NAME, example="nightly-report"),
    "template": _path("name", "The template's name.", "^[a-z][a-z0-9_]{0,49}$",
                      example="password_reset"),
    "slug": _path("slug", "The last part of a problem's `type`.", "^[a-z-]+$",
                  example="invalid-request"),
    "suppressed": _path("address", "The address, percent-encoded.", "^.{3,1000}$",
                        example="nobody@example.com"),
    "address": _query("address", "Only this one.", type="string", minLength=1, maxLength=1000),
    "include": {
        "name": "include", "in": "query", "style": "form", "explode": False,
        "description": "What to show besides; `traceback` needs the scope `operate`.",
        "schema": {
            "type": "array", "minItems": 1,
            "items": {"type": "string", "enum": ["params", "options", "traceback"]},
        },
    },
    "status": _query("status", "Only jobs of this status.", type="string", enum=[*STATUSES]),
    "type": _query("type", "Only jobs of this type.", **_TEXT_FILTER),
    "queue": _query("queue", "Only jobs of this queue.", **_TEXT_FILTER),
    "error": _query("error", "Only jobs with this `error.code`.", **_TEXT_FILTER),
    "fingerprint": _query("fingerprint", "Only failures that look alike.", **_TEXT_FILTER),
    "batch_id": _query("batch_id", "Only jobs of this batch.", **_TEXT_FILTER),
    "tag": _query("tag", "Only jobs with this tag, as `key:value`.",
                  type="string", pattern="^[^:]+:"),
    "created_after": _query("created_after", "Only jobs created later than this.",
                            type="string", format="date-time"),
    "created_before": _query("created_before", "Only jobs created earlier than this.",
                             type="string", format="date-time"),
    "limit": _query("limit", "How many at most; a page may be shorter and still go on.",
                    type="integer", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
    "cursor": _query("cursor", "The `next_cursor` of the page before.",
                     type="string", format="cursor"),
    "if_none_match": _header(
        "If-None-Match", "An `ETag` seen before: 304 while nothing has changed (RFC 9110).",
    ),
    "request_id": _header(
        "X-Request-Id",
        "Sent back, and kept on the job and in the logs, when it is up to 64 letters, digits,"
        " `.`, `_`, `-`; otherwise the service makes one.",
    ),
    "idempotency_key": _header(
        "Idempotency-Key",
        "Your name for this request, quoted or bare: sent again with it, the same request makes"
        " nothing new and gets the first answer. Kept for 24 hours, for each API key.",
        pattern=r'^([!#-~][ -~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$',
    ),
    "prefer": _header(
        "Prefer",
        "`wait=10` holds the answer until the end, for up to so many seconds, 25 at most"
        " (RFC 7240).",
    ),
    "last_event_id": _header(
        "Last-Event-ID", "The last event seen; the stream goes on behind it.",
    ),
    "range": _header("Range", "A part of the file, like `bytes=0-999` (RFC 9110)."),
    "if_range": _header("If-Range", "The `ETag` that the range is of."),
    "content_disposition": _header(
        "Content-Disposition", "Names the file: `attachment; filename=\"a.csv\"` (RFC 6266).",
    ),
}  # fmt: skip


def _told(text: str, *, required: bool = True, **schema: Any) -> Json:
    return {"description": text, "required": required, "schema": {"type": "string"} | schema}


HEADERS: dict[str, Json] = {
    "X-Request-Id": _told(
        "Names this request in the logs and on the job.", pattern="^[A-Za-z0-9._-]{1,64}$"
    ),
    "Location": _told("Where to watch it.", format="uri-reference"),
    "Location-Of-Accepted": _told(
        "Where to watch it, when anything was accepted.", required=False, format="uri-reference"
    ),
    "Retry-After": _told("Seconds to wait before asking again.", type="integer", minimum=0),
    "ETag": _told("Equal as long as the content is.", pattern='^"[^"]+"$'),
    "WWW-Authenticate": _told("How to authenticate (RFC 6750)."),
    "Accept": _told("What is taken, when it can be said.", required=False),
    "Link": _told('The next page, as `rel="next"` (RFC 8288).', required=False),
    "Idempotency-Replayed": _told(
        "`true`: this was said before, and nothing new was made.", required=False, const="true"
    ),
    "Preference-Applied": _told(
        "How long the answer would have been held (RFC 7240).", required=False,
        pattern="^wait=[0-9]+$",
    ),
    "RateLimit": _told("What remains to the key, when there is a limit.", required=False),
    "RateLimit-Policy": _told("How much a key may ask, when there is a limit.", required=False),
    "Content-Disposition": _told("The file's name."),
    "Content-Range": _told("Which bytes of how many."),
    "Accept-Ranges": _told("`bytes`.", const="bytes"),
}  # fmt: skip
# Entries that are headers of another name, required elsewhere.
ALIASES = {"Location-Of-Accepted": "Location"}
# What a limited key is told with every answer.
RATE_HEADERS = ("RateLimit", "RateLimit-Policy")

# Headers that a problem comes with, by slug.
PROBLEM_HEADERS: dict[str, tuple[str, ...]] = {
    "unauthenticated": ("WWW-Authenticate",),
    "unsupported-media-type": ("Accept",),
    "queue-unavailable": ("Retry-After",),
    "storage-unavailable": ("Retry-After",),
    "idempotency-pending": ("Retry-After",),
    "rate-limited": ("Retry-After", *RATE_HEADERS),
    "range-not-satisfiable": ("Content-Range",),
}


def _link(operation_id: str, text: str) -> Json:
    parameters = {"id": "$response.body#/id"}
    return {"operationId": operation_id, "parameters": parameters, "description": text}


def _named(operation_id: str, text: str) -> Json:
    return _link(operation_id, text) | {"parameters": {"name": "$response.body#/name"}}


LINKS: dict[str, Json] = {
    "show": _link("showJob", "Watch the job."),
    "events": _link("watchJob", "Follow its events."),
    "cancel": _link("cancelJob", "Cancel or stop it."),
    "retry": _link("retryJob", "Run it again once it has failed."),
    "delete": _link("deleteJob", "Remove it once it has ended."),
    "schedule": _named("showSchedule", "Look at it."),
    "delete_schedule": _named("deleteSchedule", "Remove it."),
    "operation": _link("showOperation", "Watch the operation."),
    "batch": _link("showBatch", "Watch the batch."),
    "upload": _link("showUpload", "What is stored."),
    "delete_upload": _link("deleteUpload", "Remove it."),
}
