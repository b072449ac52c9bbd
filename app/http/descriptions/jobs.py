"""Submitting and watching jobs, one by one or in batches."""

from __future__ import annotations

from app.http import shapes
from app.http.descriptions.parts import (
    BODY_PROBLEMS,
    JSON,
    NO_FIELDS,
    NOT_CHANGED,
    QUEUE,
    SUBMITTING,
    SUBMITTING_PROBLEMS,
    TEXT,
    Body,
    Description,
    Json,
    Reply,
    json_body,
)
from app.http.descriptions.templates import PASSWORD_RESET
from app.http.job_list import PARAMETERS as LIST_PARAMETERS

_TOLD = ("Location", "Idempotency-Replayed", "Preference-Applied")
_LINKS = ("show", "events", "cancel", "retry", "delete")
_ACCEPTED = Reply(
    "Redis has acknowledged the job; it runs as soon as a worker is free, or when it is due.",
    shapes.Job,
    headers=("Retry-After", *_TOLD),
    links=_LINKS,
)
_ENDED = Reply(
    "The job has ended, within the time that `Prefer` gave it; `status` says how.",
    shapes.Job,
    headers=_TOLD,
    links=_LINKS,
)
_EMAIL = {"to": "you@example.com", "subject": "Hello", "text": "It works."}
_LOG = {"type": "log.write", "params": {"message": "hi"}}
_SEES = "A key with only the scope `submit` sees the jobs that it submitted; others are 404."

_JOB_EXAMPLES: dict[str, Json] = {
    "log": {
        "summary": "A line in the worker's log, five seconds from now",
        "value": _LOG | {"options": {"delay": 5}},
    },
    "email": {
        "summary": "An e-mail that is built but not sent",
        "value": {"type": "email.send", "params": _EMAIL, "options": {"dry_run": True}},
    },
    "careful": {
        "summary": "Tags, few attempts, and one at a time",
        "value": _LOG
        | {
            "options": {
                "tags": {"shop": "42"},
                "max_attempts": 3,
                "backoff": {"initial": 5, "factor": 2},
                "concurrency": {"key": "shop-42", "limit": 1},
            }
        },
    },
}
_EMAIL_EXAMPLES: dict[str, Json] = {
    "text": {"summary": "A short text", "value": _EMAIL},
    "template": {
        "summary": "From a template",
        "value": {
            "to": "Ana <ana@example.com>",
            "template": "password_reset",
            "variables": PASSWORD_RESET,
            "locale": "pt-BR",
        },
    },
    "delayed": {
        "summary": "To several, later, and not tried often",
        "value": _EMAIL
        | {
            "to": ["you@example.com", "Ana <ana@example.com>"],
            "options": {"delay": 60, "max_attempts": 3},
        },
    },
}
_DATA_EXAMPLES: dict[str, Json] = {
    "query": {
        "summary": "Rows in the request, the answer by mail",
        "value": {
            "operation": "query",
            "rows": [{"city": "Lisboa", "sold": 3}, {"city": "Porto", "sold": 5}],
            "sql": "SELECT city, sold FROM input ORDER BY sold DESC",
            "options": {"notify": {"email": "you@example.com"}},
        },
    },
}
_BATCH_EXAMPLES: dict[str, Json] = {
    "strict": {"summary": "Both or none", "value": {"jobs": [_LOG, _LOG]}},
    "permissive": {
        "summary": "Each for itself",
        "value": {"jobs": [_LOG, {"type": "email.send", "params": _EMAIL}], "mode": "permissive"},
    },
}

JOBS: dict[tuple[str, str], Description] = {
    ("POST", "/v1/jobs"): Description(
        "submitJob", "jobs", "Submit a job",
        "A job of one of the registered types. The answer comes once Redis holds the job,"
        " never earlier.",
        {202: _ACCEPTED, 200: _ENDED},
        parameters=SUBMITTING, problems=SUBMITTING_PROBLEMS,
        body=json_body("JobSubmission", _JOB_EXAMPLES),
    ),
    ("GET", "/v1/jobs"): Description(
        "listJobs", "jobs", "List jobs",
        "Newest first, a page at a time. A page may be short and still have a `next_cursor`:"
        " what it costs does not grow with the number of jobs. A key with only the scope"
        " `submit` sees the jobs that it submitted. Jobs that stock RQ code enqueued are in the"
        " lists once a worker has begun them or upkeep has passed by, mostly within 20 seconds.",
        {200: Reply("A page.", shapes.JobPage, headers=("Link",))},
        parameters=LIST_PARAMETERS, problems=QUEUE,
    ),
    ("GET", "/v1/jobs/{id}"): Description(
        "showJob", "jobs", "Show a job",
        f"Status, attempts, result or error. {_SEES}",
        {
            200: Reply("The job as it stands.", shapes.Job,
                       headers=("ETag", "Preference-Applied")),
            304: NOT_CHANGED,
        },
        parameters=("id", "include", "prefer", "if_none_match"), problems=QUEUE,
    ),
    ("DELETE", "/v1/jobs/{id}"): Description(
        "deleteJob", "jobs", "Delete a job",
        "Removes an ended job and its artifacts. For the key that submitted it, or `operate`.",
        {204: Reply("It is gone.")},
        parameters=("id",), problems=("job-not-ended", *QUEUE),
    ),
    ("GET", "/v1/jobs/{id}/events"): Description(
        "watchJob", "jobs", "Follow a job's events",
        "A stream of its trail and of what happens from then on, up to the job's end; or, with"
        " `Accept: application/json`, its trail so far. A stream that broke goes on behind"
        f" `Last-Event-ID`. {_SEES}",
        {
            200: Reply("The trail, or a stream of server-sent events.", shapes.EventList,
                       besides={"text/event-stream": TEXT}),
            204: Reply("The stream that comes back has seen the end: it need not come again."),
        },
        parameters=("id", "last_event_id"), problems=QUEUE,
    ),
    ("POST", "/v1/jobs/{id}/cancel"): Description(
        "cancelJob", "jobs", "Cancel or stop a job",
        "Before it runs it is canceled; while it runs it is asked to stop, and stopped within"
        " five seconds. For the key that submitted it, or `operate`.",
        {
            200: Reply("It will not run.", shapes.Job),
            202: Reply("It runs, and has been asked to stop.", shapes.Job),
        },
        parameters=("id",), problems=("job-ended", *QUEUE), body=NO_FIELDS,
    ),
    ("POST", "/v1/emails"): Description(
        "submitEmail", "jobs", "Send an e-mail",
        "The params of `email.send`, with `options` among them: the same as a job of that type.",
        {202: _ACCEPTED, 200: _ENDED},
        parameters=SUBMITTING, problems=SUBMITTING_PROBLEMS,
        body=json_body("EmailSubmission", _EMAIL_EXAMPLES),
    ),
    ("POST", "/v1/data"): Description(
        "submitData", "jobs", "Work on data",
        "The params of a `data.*` job with its `operation`, and `options` among them. As a form,"
        " the file comes in the same request: streamed to storage, and removed again when the job"
        " is refused.",
        {202: _ACCEPTED, 200: _ENDED},
        parameters=SUBMITTING, problems=("malformed-form", *SUBMITTING_PROBLEMS),
        body=Body(
            {
                JSON: {"$ref": "#/components/schemas/DataSubmission"},
                "multipart/form-data": {"$ref": "#/components/schemas/DataForm"},
            },
            ("malformed-json", *BODY_PROBLEMS, "invalid-request"),
            examples=_DATA_EXAMPLES,
        ),
    ),
    ("GET", "/v1/job-types"): Description(
        "listJobTypes", "jobs", "List the job types",
        "Each with its defaults and the JSON Schema of its params.",
        {200: Reply("Every job type, in order of name.", shapes.JobTypeList)},
    ),
    ("POST", "/v1/batches"): Description(
        "submitBatch", "batches", "Submit a batch",
        "Up to 1,000 jobs. `strict`: all are accepted or none, and the 422 points at each bad"
        " one. `permissive`: each is answered for itself, in order: 422 for one that does not"
        " fit, 503 for one whose queue has no room. When there is room for none of them, the"
        " whole is 503.",
        {
            202: Reply("Redis has acknowledged all of the jobs.", shapes.Batch,
                       headers=("Retry-After", *_TOLD), links=("batch",)),
            200: Reply("All have ended, within the time that `Prefer` gave them.", shapes.Batch,
                       headers=_TOLD, links=("batch",)),
            207: Reply("What became of each, when the batch is permissive.", shapes.BatchResults,
                       headers=("Location-Of-Accepted", "Idempotency-Replayed",
                                "Preference-Applied")),
        },
        parameters=SUBMITTING, problems=SUBMITTING_PROBLEMS,
        body=json_body("BatchSubmission", _BATCH_EXAMPLES),
    ),
    ("GET", "/v1/batches/{id}"): Description(
        "showBatch", "batches", "Show a batch",
        "How many of its jobs are where, and the first ten that failed. A key with only the"
        " scope `submit` sees the batches that it submitted; others are 404.",
        {
            200: Reply("The batch as it stands.", shapes.Batch,
                       headers=("ETag", "Preference-Applied")),
            304: NOT_CHANGED,
        },
        parameters=("batch", "prefer", "if_none_match"), problems=QUEUE,
    ),
}  # fmt: skip
