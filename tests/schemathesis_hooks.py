"""What schemathesis has to know beyond the document: loaded by it, see test_schemathesis.py.

JSON Schema cannot say that a time lies in the future, or that a job exists. Where a request
is meant to be accepted, such values are replaced by possible ones; all else is left alone.
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies

# Where the rows of a data job come from, and how a file of them is read.
_SOURCE = ("upload_id", "job_id", "rows", "format", "delimiter", "quote", "decimal", "encoding",
           "header", "types", "date_format", "ragged")  # fmt: skip
_WORD = strategies.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True)
_ADDRESS = strategies.builds("{}@{}.example".format, _WORD, _WORD)
schemathesis.openapi.format(
    "mailbox", _ADDRESS | strategies.builds("{} <{}>".format, _WORD, _ADDRESS)
)

schemathesis.openapi.format(
    "cron", strategies.sampled_from(["*/7 * * * *", "0 3 * * MON-FRI", "30 2 L 1,7 *"])
)
schemathesis.openapi.format(
    "time-zone", strategies.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo"])
)


@schemathesis.hook
def before_call(
    _: schemathesis.HookContext, case: schemathesis.Case[Any], __: dict[str, Any]
) -> None:
    """Make possible what is meant to be accepted."""
    if case.operation.path.endswith("/events"):
        # The stream of a job that has not ended has no end either.
        case.headers["Accept"] = "application/json"
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.operation.path == "/v1/data" and case.media_type == "multipart/form-data":
        # Which fields there are depends on the operation; in each, what is no text is JSON.
        form: Any = {"operation": "profile", "file": "a,b\n1,2\n", "options": '{"delay": 60}'}
        case.body = form
    if case.operation.path.startswith("/v1/schedules") and isinstance(case.body, dict):
        _make_schedule_possible(case)
    for options in _options(case.body):
        _make_possible(options)
        if case.operation.path.endswith("/retry"):
            options.pop("expires_at", None)
    for source in _params(case.body):
        if "upload_id" in source or "job_id" in source or "rows" in source:
            # What is named has to be there.
            for name in _SOURCE:
                source.pop(name, None)
            source["rows"] = [{"a": 1}]
    for email in _params(case.body):
        if email.get("attachments"):
            # An upload has to be there, and base64 to be whole.
            email["attachments"] = [{"filename": "a.txt", "content": "aGVsbG8="}]
        if email.get("headers"):
            # Those that programs read take ASCII only, in words that fit a line.
            email["headers"] = {"List-Unsubscribe": "<https://shop.example/u/1>"}
    if case.operation.path.startswith("/v1/failures/") and isinstance(case.body, dict):
        # Only a preview gives selections.
        if case.body.pop("selection", None) is not None:
            case.body["fingerprint"] = "0" * 16
    elif case.operation.path.endswith("/preview"):
        _make_preview_possible(case)
    if "confirm" in case.query:
        case.query["confirm"] = case.path_parameters["name"]
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    # Only a list gives cursors, and the lists of this run are short.
    case.query.pop("cursor", None)


def _make_preview_possible(case: schemathesis.Case[Any]) -> None:
    """Which variables there are depends on the path, and so do the locales."""
    case.path_parameters["name"] = "password_reset"
    if isinstance(case.body, dict):
        case.body["variables"] = {
            "product": "Shop",
            "reset_url": "https://shop.example/",
            "expires_minutes": 30,
        }
        if case.body.get("locale") is not None:
            case.body["locale"] = "pt"


def _make_schedule_possible(case: schemathesis.Case[Any]) -> None:
    """Names that no other case has taken, and a job that can be run again and again."""
    body: Any = case.body
    body["job"] = {"type": "log.write", "params": {"message": "x"}}
    if case.operation.method.upper() == "POST":
        body["name"] = f"s{uuid.uuid4().hex}"
    else:
        body.pop("name", None)


def _params(body: Any) -> list[dict[str, Any]]:
    """The params of a job, or of each in a batch; bodies that are params, too."""
    if not isinstance(body, dict):
        return []
    jobs = body.get("jobs")
    holders = [body, *jobs] if isinstance(jobs, list) else [body]
    found = [each.get("params") for each in holders if isinstance(each, dict)]
    return [each for each in [body, *found] if isinstance(each, dict)]


def _options(body: Any) -> list[dict[str, Any]]:
    """The options of a job, or of each job of a batch."""
    if not isinstance(body, dict):
        return []
    jobs = body.get("jobs")
    holders = [body, *jobs] if isinstance(jobs, list) else [body]
    found = [each.get("options") for each in holders if isinstance(each, dict)]
    return [each for each in found if isinstance(each, dict)]


def _make_possible(options: dict[str, Any]) -> None:
    if isinstance(options.get("scheduled_at"), str):
        options["scheduled_at"] = _ahead(days=1)
    if isinstance(options.get("expires_at"), str):
        options["expires_at"] = _ahead(days=400)
    if isinstance(options.get("depends_on"), list):
        options["depends_on"] = [os.environ["RECADO_JOB"]]


def _ahead(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()
