"""What operators do: failures, operations, and who did what."""

from __future__ import annotations

from app.http import failure_shapes as shapes
from app.http.descriptions.parts import NO_FIELDS, QUEUE, Body, Description, Reply, json_body
from app.http.shapes import Job

_EDIT = json_body(
    "RetryRequest",
    {
        "as it is": {"summary": "As it is", "value": {}},
        "longer": {"summary": "With more time", "value": {"options": {"timeout": 300}}},
    },
)

_ALIKE = {"fingerprint": "5f2b1c0d9e8a7b64"}
_STARTED = Reply(
    "It has begun.", shapes.Operation, headers=("Location", "Retry-After"), links=("operation",)
)
_EXACTLY = (
    "Exactly the jobs of a selection, or those that fit a filter now: what fails meanwhile is left"
    " alone. The answer comes at once; the operation goes on as a job, and survives the death of"
    " the worker that runs it: each job is touched once."
)


def _acting(operation_id: str, summary: str, text: str) -> Description:
    return Description(
        operation_id, "failures", summary, text,
        {200: Reply("As it stands.", shapes.Operation)},
        parameters=("operation",), problems=("operation-ended", *QUEUE), body=NO_FIELDS,
    )  # fmt: skip


OPERATING: dict[tuple[str, str], Description] = {
    ("POST", "/v1/jobs/{id}/retry"): Description(
        "retryJob", "failures", "Retry a failed job",
        "A job that failed, or was stopped, runs again under its id, with `max_attempts` new"
        " attempts; those that it had stay in its trail, and the numbering goes on. `params` and"
        " `options` take the place of the job's own, as a whole: an option that is absent then has"
        " its type's default. Both are checked as in a submission; `expires_at` is not taken.",
        {202: Reply("It waits for a worker, or until it is due.", Job,
                    headers=("Location", "Retry-After"))},
        parameters=("id",),
        problems=("job-not-failed", "storage-unavailable", "storage-full", *QUEUE),
        body=Body(_EDIT.content, _EDIT.problems, required=False, examples=_EDIT.examples),
    ),
    ("GET", "/v1/failures"): Description(
        "listFailures", "failures", "List failures by cause",
        "Failed jobs grouped by fingerprint: type, class of the error, its message without what"
        " differs from run to run, and where in the job's code it was. What failed last comes"
        " first.",
        {200: Reply("A page.", shapes.FailurePage, headers=("Link",))},
        parameters=("limit", "cursor"), problems=QUEUE,
    ),
    ("POST", "/v1/failures/preview"): Description(
        "previewFailures", "failures", "Preview a selection",
        "How many failed jobs fit a filter, some of them, and a name for exactly these.",
        {200: Reply("What it finds.", shapes.FailurePreview)},
        problems=QUEUE, body=json_body("FailureFilters", {"alike": {"value": _ALIKE}}),
    ),
    ("POST", "/v1/failures/retry"): Description(
        "retryFailures", "failures", "Retry many failed jobs", _EXACTLY,
        {202: _STARTED},
        problems=QUEUE,
        body=json_body(
            "Retrying",
            {"careful": {"summary": "One, then ten, then the rest",
                         "value": _ALIKE | {"canary": True, "pace": 50}}},
        ),
    ),
    ("POST", "/v1/failures/discard"): Description(
        "discardFailures", "failures", "Discard many failed jobs",
        f"They are removed for good. {_EXACTLY}",
        {202: _STARTED},
        problems=QUEUE, body=json_body("Discarding", {"alike": {"value": _ALIKE}}),
    ),
    ("GET", "/v1/operations"): Description(
        "listOperations", "failures", "List operations",
        "What was begun on many failed jobs, the newest first; each is kept for 30 days.",
        {200: Reply("A page.", shapes.OperationPage, headers=("Link",))},
        parameters=("limit", "cursor"), problems=QUEUE,
    ),
    ("GET", "/v1/operations/{id}"): Description(
        "showOperation", "failures", "Show an operation",
        "How far it is. It is kept for 30 days.",
        {200: Reply("As it stands.", shapes.Operation)},
        parameters=("operation",), problems=QUEUE,
    ),
    ("POST", "/v1/operations/{id}/pause"): _acting(
        "pauseOperation", "Pause an operation", "What it has retried goes on; no more is touched.",
    ),
    ("POST", "/v1/operations/{id}/resume"): _acting(
        "resumeOperation", "Resume an operation", "It goes on where it was.",
    ),
    ("POST", "/v1/operations/{id}/stop"): _acting(
        "stopOperation", "Stop an operation", "For good. What it has not come to stays as it is.",
    ),
    ("GET", "/v1/audit"): Description(
        "listActs", "service", "Who did what",
        "Each act of a key on jobs, queues, failures and addresses, the latest first; kept for 90"
        " days, and of the last 100,000 at least.",
        {200: Reply("A page.", shapes.ActPage, headers=("Link",))},
        parameters=("limit", "cursor"), problems=QUEUE,
    ),
}  # fmt: skip
