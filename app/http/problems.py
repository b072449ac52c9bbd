"""What goes wrong, as RFC 9457 problems: one table turns an error's class into a status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.http.answers import Answer, RawHeaders, render
from app.http.faults import (
    ArtifactNotFoundError,
    BodyTooLargeError,
    CrossOriginError,
    ForeignRequestError,
    InvalidHeaderError,
    InvalidRequestError,
    MalformedFormError,
    MalformedJsonError,
    MalformedRequestError,
    MethodNotAllowedError,
    MissingScopeError,
    NotFoundError,
    OverloadedError,
    RangeNotSatisfiableError,
    RateLimitedError,
    ResultLinkError,
    ShuttingDownError,
    SlowBodyError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
    UploadNotFoundError,
)
from app.queue.errors import (
    IdempotencyMismatchError,
    IdempotencyPendingError,
    JobEndedError,
    JobNotEndedError,
    JobNotFailedError,
    JobNotFoundError,
    OperationEndedError,
    OperationNotFoundError,
    QueueUnavailableError,
    ScheduleExistsError,
    ScheduleFromFileError,
    ScheduleNotFoundError,
    TooManySchedulesError,
    TooManyUploadsError,
)
from app.storage import StorageFullError, StorageUnavailableError


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: what `/problems/<slug>` explains."""

    slug: str
    status: int
    title: str
    explanation: str


_LIST = [
    ProblemType(
        "malformed-request", 400, "This is not HTTP",
        "The head of the request cannot be read as HTTP/1.1, or has more than 64 KiB.",
    ),
    ProblemType(
        "malformed-json", 400, "The body is not JSON",
        "The body must be one JSON value in UTF-8, without NaN, Infinity or numbers too large"
        " for a double, and not nested deeper than 200 levels. `detail` says where it broke.",
    ),
    ProblemType(
        "invalid-header", 400, "A header cannot be understood",
        "`detail` names it. `Idempotency-Key` has 1 to 255 printable ASCII characters, quoted or"
        " bare, and stands once.",
    ),
    ProblemType(
        "malformed-form", 400, "The body is not a form",
        "A `multipart/form-data` body (RFC 7578) must name its boundary in `Content-Type` and end"
        " with it. `detail` says where it broke.",
    ),
    ProblemType(
        "unauthenticated", 401, "No valid API key",
        "Send the header `Authorization: Bearer <key>`. Keys are configured by whoever runs"
        " this service, who keeps only their digests.",
    ),
    ProblemType(
        "missing-scope", 403, "The API key may not do this",
        "Each key has scopes: `submit`, `read`, `operate`. `detail` names the one this"
        " request needs.",
    ),
    ProblemType(
        "cross-origin", 403, "A page of another site may not act here",
        "Who is signed in to the console or the dashboard acts from their own pages only: the"
        " browser says in `Origin` and `Sec-Fetch-Site` where a request comes from, and this one"
        " came from elsewhere, or did not say. A program sends its key as Bearer.",
    ),
    ProblemType(
        "local-only", 403, "Only this machine is answered",
        "No API keys are configured, so only requests that come from this machine, and not"
        " through a proxy or another site's page, are answered. Set API_KEYS to open the"
        " service to others.",
    ),
    ProblemType(
        "not-found", 404, "Nothing is here",
        "No such path, or no such job, upload or artifact. A key with only the scope `submit`"
        " sees only what it submitted. Uploads and ended jobs are kept for a time only.",
    ),
    ProblemType(
        "overloaded", 503, "Too many connections",
        "As many connections as this process takes are open. Try again after `Retry-After`"
        " seconds, and keep few connections open.",
    ),
    ProblemType(
        "shutting-down", 503, "The process is about to end",
        "It was told to end while the request was under way, and has waited for the rest of it as"
        " long as it may. Try again after `Retry-After` seconds: another answers then.",
    ),
    ProblemType(
        "method-not-allowed", 405, "The method does not work here",
        "The header `Allow` lists the methods that do.",
    ),
    ProblemType(
        "slow-body", 408, "The body did not arrive",
        "The body stopped arriving, or only dripped, before it was complete. No job was made."
        " Send it again.",
    ),
    ProblemType(
        "idempotency-pending", 409, "The first request is still being accepted",
        "Another request with this `Idempotency-Key` has come first and has no answer yet. Send"
        " it again after `Retry-After` seconds.",
    ),
    ProblemType(
        "job-ended", 409, "The job has ended already",
        "A job that is finished, failed, canceled or stopped cannot be canceled.",
    ),
    ProblemType(
        "job-not-ended", 409, "The job has not ended yet",
        "Only a finished, failed, canceled or stopped job can be deleted; cancel it first.",
    ),
    ProblemType(
        "job-not-failed", 409, "The job has not failed",
        "Only a job that failed, or was stopped, can be retried. One that has not ended goes on by"
        " itself; submit a finished or canceled one anew.",
    ),
    ProblemType(
        "operation-ended", 409, "The operation has ended already",
        "What is finished, or was stopped, cannot be paused, resumed or stopped; begin another.",
    ),
    ProblemType(
        "schedule-exists", 409, "A schedule of this name is there already",
        "Replace it with `PUT /v1/schedules/{name}`, or take another name.",
    ),
    ProblemType(
        "schedule-from-file", 409, "The schedule stands in a file",
        "Whoever runs this service has written it into SCHEDULES_FILE, and changes it there.",
    ),
    ProblemType(
        "too-many-schedules", 409, "There are too many schedules",
        "Delete schedules that nobody needs any more. `detail` says how many there may be.",
    ),
    ProblemType(
        "body-too-large", 413, "The body is too large",
        "`detail` says how many bytes are taken. Larger files are sent as uploads.",
    ),
    ProblemType(
        "unsupported-media-type", 415, "The content type is not taken",
        "Send `Content-Type: application/json`, in UTF-8 and not compressed; an upload under"
        " any `type/subtype`.",
    ),
    ProblemType(
        "range-not-satisfiable", 416, "The range is not in the file",
        "The header `Range` asks for bytes behind the end; `Content-Range` says how many there"
        " are.",
    ),
    ProblemType(
        "invalid-request", 422, "The request does not fit",
        "The body is JSON but not what this path takes: `errors` has a JSON Pointer"
        " (RFC 6901) to each bad field, or the name of a bad query parameter. Unknown fields"
        " are refused, so that a typo never passes silently.",
    ),
    ProblemType(
        "idempotency-mismatch", 422, "The idempotency key was used for another request",
        "The same `Idempotency-Key` came with another method, path or body within 24 hours. Take"
        " a new key for each new request, and send a repeated one unchanged.",
    ),
    ProblemType(
        "rate-limited", 429, "Too many requests",
        "The API key has sent more requests than it may. Wait for `Retry-After` seconds;"
        " `RateLimit-Policy` says how many are allowed, `RateLimit` how many remain.",
    ),
    ProblemType(
        "internal-error", 500, "Something broke on our side",
        "It has been logged under `request_id`. A job may or may not have been made.",
    ),
    ProblemType(
        "storage-unavailable", 503, "Files cannot be stored or read now",
        "The storage that is configured does not answer or cannot be written; `detail` says why."
        " Nothing was kept.",
    ),
    ProblemType(
        "storage-full", 507, "There is no room for this file",
        "The storage is full: its disk, its quota, or the part of Redis that files may take."
        " Nothing was kept. Whoever runs this service has to make"
        " room; expired uploads make some by themselves.",
    ),
    ProblemType(
        "too-many-uploads", 507, "The API key has too many uploads",
        "Delete uploads that no job needs any more, or wait until some have expired. `detail`"
        " says how many a key may have at once.",
    ),
    ProblemType(
        "queue-unavailable", 503, "The queue cannot take the job now",
        "Redis is down, full or too slow, or the queue is as deep as it may become. Try again"
        " after `Retry-After` seconds.",
    ),
]  # fmt: skip
TYPES: dict[str, ProblemType] = {kind.slug: kind for kind in _LIST}


def _nothing(_: Any) -> RawHeaders:
    return []


def _retry_after(seconds: int) -> tuple[bytes, bytes]:
    return b"retry-after", b"%d" % max(1, seconds)


@dataclass(frozen=True, slots=True)
class _Row:
    """How one class of error is told. `detail` and the rest read the error's facts."""

    slug: str
    detail: Callable[[Any], str] = str
    headers: Callable[[Any], RawHeaders] = _nothing
    errors: Callable[[Any], list[dict[str, str]]] = field(default=lambda _: [])


_CLOSE = (b"connection", b"close")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="recado"')

TABLE: dict[type[Exception], _Row] = {
    MalformedRequestError: _Row("malformed-request", headers=lambda _: [_CLOSE]),
    OverloadedError: _Row(
        "overloaded",
        lambda _: "Too many connections are open.",
        lambda _: [(b"retry-after", b"2"), _CLOSE],
    ),
    ShuttingDownError: _Row(
        "shutting-down",
        lambda _: "This process ends, and the request had not arrived or was not done.",
        lambda _: [(b"retry-after", b"5"), _CLOSE],
    ),
    MalformedJsonError: _Row("malformed-json"),
    MalformedFormError: _Row("malformed-form"),
    UnauthenticatedError: _Row("unauthenticated", headers=lambda _: [_CHALLENGE]),
    MissingScopeError: _Row("missing-scope"),
    ForeignRequestError: _Row("local-only"),
    CrossOriginError: _Row("cross-origin"),
    NotFoundError: _Row("not-found", lambda error: str(error) or "There is nothing at this path."),
    JobNotFoundError: _Row("not-found", lambda _: "There is no job of this id."),
    UploadNotFoundError: _Row("not-found", lambda _: "There is no upload of this id."),
    ArtifactNotFoundError: _Row("not-found", lambda _: "The job has no artifact of this name."),
    ResultLinkError: _Row("not-found", lambda _: "This link does not work, or not any more."),
    MethodNotAllowedError: _Row(
        "method-not-allowed",
        headers=lambda error: [(b"allow", ", ".join(error.allowed).encode())],
    ),
    SlowBodyError: _Row("slow-body", headers=lambda _: [_CLOSE]),
    BodyTooLargeError: _Row("body-too-large"),
    UnsupportedMediaTypeError: _Row(
        "unsupported-media-type",
        headers=lambda error: [(b"accept", error.accepted.encode())] if error.accepted else [],
    ),
    RangeNotSatisfiableError: _Row(
        "range-not-satisfiable",
        headers=lambda error: [(b"content-range", b"bytes */%d" % error.size_bytes)],
    ),
    StorageFullError: _Row("storage-full"),
    TooManyUploadsError: _Row("too-many-uploads"),
    StorageUnavailableError: _Row(
        "storage-unavailable", headers=lambda _: [(b"retry-after", b"10")]
    ),
    InvalidRequestError: _Row(
        "invalid-request", errors=lambda error: [fault.as_json() for fault in error.listed]
    ),
    InvalidHeaderError: _Row("invalid-header"),
    IdempotencyMismatchError: _Row(
        "idempotency-mismatch",
        lambda _: "This Idempotency-Key was used for another request; nothing was accepted.",
    ),
    IdempotencyPendingError: _Row(
        "idempotency-pending",
        lambda _: "The first request with this Idempotency-Key has no answer yet.",
        lambda _: [_retry_after(1)],
    ),
    JobEndedError: _Row("job-ended", lambda error: f"The job is {error.status}."),
    JobNotEndedError: _Row("job-not-ended", lambda error: f"The job is {error.status}."),
    JobNotFailedError: _Row("job-not-failed", lambda error: f"The job is {error.status}."),
    OperationEndedError: _Row("operation-ended", lambda error: f"The operation is {error.state}."),
    OperationNotFoundError: _Row("not-found", lambda _: "There is no operation of this id."),
    ScheduleNotFoundError: _Row("not-found", lambda _: "There is no schedule of this name."),
    ScheduleExistsError: _Row("schedule-exists", lambda error: f"{error} is there already."),
    ScheduleFromFileError: _Row(
        "schedule-from-file", lambda error: f"{error} stands in the schedules' file."
    ),
    TooManySchedulesError: _Row("too-many-schedules"),
    RateLimitedError: _Row(
        "rate-limited", headers=lambda error: [_retry_after(error.allowance.reset_seconds)]
    ),
    QueueUnavailableError: _Row(
        "queue-unavailable",
        lambda error: error.reason,
        lambda error: [_retry_after(error.retry_after_seconds)],
    ),
}
_UNEXPECTED = _Row("internal-error", lambda _: "The service failed to answer this request.")


def problem_answer(error: Exception, scope: Scope, request_id: str) -> Answer:
    """The response for any error; one that is in no table is a 500 that tells nothing."""
    row = _row(error)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *row.headers(error),
    ]
    return Answer(TYPES[row.slug].status, render(problem(error, scope, request_id)), headers)


def problem(error: Exception, scope: Scope, request_id: str) -> dict[str, Any]:
    """The error as RFC 9457 has it."""
    row = _row(error)
    kind = TYPES[row.slug]
    content: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": row.detail(error),
        "instance": instance(scope),
        "request_id": request_id,
    }
    errors = row.errors(error)
    if errors:
        content["errors"] = errors
    return content


def _row(error: Exception) -> _Row:
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    return _UNEXPECTED


def instance(scope: Scope) -> str:
    """The path as the client wrote it, still percent-encoded: a URI reference."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return str(scope["path"])
    return raw.partition(b"?")[0].decode("latin-1")


def from_starlette(error: HTTPException) -> Exception:
    """Starlette's own errors as ours: it raises them for what no route of ours answers."""
    if error.status_code == 404:
        return NotFoundError(error.detail) if error.detail != "Not Found" else NotFoundError()
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowedError([word.strip() for word in allowed.split(",")])
    return error
