"""What each operation is for, in words, and what it answers: one entry for each line of
`routes.py`, which a test compares. `openapi.py` makes the document of both.

What can be read off the route is not said here: scopes, the problems that come with them and
with a body, query parameters' refusal, the request id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from app.http import shapes

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One way an operation goes well. `headers` name entries of HEADERS; `links`, of LINKS."""

    text: str
    model: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ("application/json",)
    example: Any = None


@dataclass(frozen=True, slots=True)
class Description:
    """One operation. `body` names a schema; `parameters`, entries of PARAMETERS.

    `problems` are the slugs of what else it may answer.
    """

    operation_id: str
    tag: str
    summary: str
    text: str
    replies: Mapping[int, Reply]
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    body: str | None = None
    examples: Mapping[str, Json] = field(default_factory=dict)


TAGS = {
    "jobs": "Hand work in, and watch it.",
    "service": "Is it up, is it ready, and what is here.",
    "problems": "What went wrong means.",
}

PARAMETERS: dict[str, Json] = {
    "id": {
        "name": "id", "in": "path", "required": True,
        "description": "The job's id.",
        "schema": {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_-]{1,128}$"},
    },
    "slug": {
        "name": "slug", "in": "path", "required": True,
        "description": "The last part of a problem's `type`.",
        "schema": {"type": "string", "minLength": 1, "pattern": "^[a-z-]+$"},
        "example": "invalid-request",
    },
    "include": {
        "name": "include", "in": "query", "style": "form", "explode": False,
        "description": "What to show besides; `traceback` needs the scope `operate`.",
        "schema": {
            "type": "array", "minItems": 1,
            "items": {"type": "string", "enum": ["params", "options", "traceback"]},
        },
    },
    "if_none_match": {
        "name": "If-None-Match", "in": "header",
        "description": "An `ETag` seen before: 304 while nothing has changed (RFC 9110).",
        "schema": {"type": "string"},
    },
    "request_id": {
        "name": "X-Request-Id", "in": "header",
        "description": "Sent back, and kept on the job and in the logs, when it is up to 64"
        " letters, digits, `.`, `_`, `-`; otherwise the service makes one.",
        "schema": {"type": "string"},
    },
}  # fmt: skip

HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "Names this request in the logs and on the job.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Location": {
        "description": "Where to watch it.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "ETag": {
        "description": "Equal as long as the answer is; for `If-None-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
    },
    "Accept": {
        "description": "The media type that is taken.",
        "required": True,
        "schema": {"type": "string"},
    },
}

# Headers that a problem comes with, by slug.
PROBLEM_HEADERS: dict[str, tuple[str, ...]] = {
    "unauthenticated": ("WWW-Authenticate",),
    "unsupported-media-type": ("Accept",),
    "queue-unavailable": ("Retry-After",),
}

LINKS: dict[str, Json] = {
    "show": {
        "operationId": "showJob",
        "parameters": {"id": "$response.body#/id"},
        "description": "Watch the job.",
    },
}

_QUEUE = ("queue-unavailable",)
_ACCEPTED = Reply(
    "Redis has acknowledged the job; it runs as soon as a worker is free, or when it is due.",
    shapes.Job,
    headers=("Location", "Retry-After"),
    links=("show",),
)
_EMAIL = {"to": "you@example.com", "subject": "Hello", "text": "It works."}

DESCRIPTIONS: dict[tuple[str, str], Description] = {
    ("POST", "/v1/jobs"): Description(
        "submitJob", "jobs", "Submit a job",
        "A job of one of the registered types. The answer comes once Redis holds the job,"
        " never earlier.",
        {202: _ACCEPTED},
        problems=_QUEUE,
        body="JobSubmission",
        examples={
            "log": {
                "summary": "A line in the worker's log, five seconds from now",
                "value": {
                    "type": "log.write", "params": {"message": "hi"}, "options": {"delay": 5}
                },
            },
            "email": {
                "summary": "An e-mail that is built but not sent",
                "value": {"type": "email.send", "params": _EMAIL, "options": {"dry_run": True}},
            },
        },
    ),
    ("GET", "/v1/jobs/{id}"): Description(
        "showJob", "jobs", "Show a job",
        "Status, attempts, result or error. A key with only the scope `submit` sees the jobs"
        " that it submitted; others are 404.",
        {
            200: Reply("The job as it stands.", shapes.Job, headers=("ETag",)),
            304: Reply("Nothing has changed.", headers=("ETag",), media_types=()),
        },
        parameters=("id", "include", "if_none_match"),
        problems=_QUEUE,
    ),
    ("POST", "/v1/emails"): Description(
        "submitEmail", "jobs", "Send an e-mail",
        "The params of `email.send`, with `options` among them: the same as a job of that type.",
        {202: _ACCEPTED},
        problems=_QUEUE,
        body="EmailSubmission",
        examples={
            "text": {"summary": "A short text", "value": _EMAIL},
            "delayed": {
                "summary": "To several, later, and not for long",
                "value": _EMAIL | {
                    "to": ["you@example.com", "Ana <ana@example.com>"],
                    "options": {"delay": 60, "max_attempts": 3},
                },
            },
        },
    ),
    ("GET", "/v1/job-types"): Description(
        "listJobTypes", "jobs", "List the job types",
        "Each with its defaults and the JSON Schema of its params.",
        {200: Reply("Every job type, in order of name.", shapes.JobTypeList)},
    ),
    ("GET", "/healthz"): Description(
        "health", "service", "Is the process up?",
        "Asks nobody else: route traffic on this one.",
        {200: Reply("It is.", shapes.Alive)},
    ),
    ("GET", "/readyz"): Description(
        "readiness", "service", "Are jobs taken and run?",
        "Whether Redis answers, workers live for every queue, and the mail server can be"
        " reached, as the workers report it: for alerts and deploys.",
        {
            200: Reply("They are.", shapes.Readiness),
            503: Reply("They are not, for these reasons.", shapes.Readiness),
        },
    ),
    ("GET", "/problems"): Description(
        "listProblems", "problems", "List the problems",
        "Every kind of problem that this service answers with; a page for browsers.",
        {
            200: Reply(
                "All of them.", shapes.ProblemKindList,
                media_types=("application/json", "text/html; charset=utf-8"),
            )
        },
    ),
    ("GET", "/problems/{slug}"): Description(
        "explainProblem", "problems", "Explain a problem",
        "What the `type` of a problem points at; a page for browsers.",
        {
            200: Reply(
                "What it means.", shapes.ProblemKind,
                media_types=("application/json", "text/html; charset=utf-8"),
            )
        },
        parameters=("slug",),
    ),
    ("GET", "/openapi.json"): Description(
        "describe", "service", "This description",
        "OpenAPI 3.1, made from the models that check what comes in.",
        {
            200: Reply("The document.", headers=("ETag",)),
            304: Reply("Nothing has changed.", headers=("ETag",), media_types=()),
        },
        parameters=("if_none_match",),
    ),
    ("GET", "/"): Description(
        "index", "service", "What is here",
        "The addresses of the rest.",
        {200: Reply("The addresses.", shapes.Index)},
    ),
}  # fmt: skip

# Pages for people, which a program has no use for.
UNDESCRIBED = {"/docs", "/docs/{name}"}
