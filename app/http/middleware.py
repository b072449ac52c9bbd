"""What every request passes: an id of its own, and errors turned into problems.

Plain ASGI: Starlette's BaseHTTPMiddleware would cost more than all the rest of a submission.
"""

from __future__ import annotations

import logging
import random
import re
from contextvars import ContextVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.http.answers import RawHeaders
from app.http.auth import ALLOWANCE, KEY, rate_headers
from app.http.bodies import header
from app.http.problems import from_starlette, instance, problem_answer
from app.http.streams import has_unread_body, refuse

log = logging.getLogger("recado.http")

REQUEST_ID = "recado.request_id"
# Behind it stands a link of a mail, which is a key to one result.
RESULTS = "/v1/results/"
# Where browsers may call, an answer passes an edge inside the CORS middleware and one outside.
_SIGNATURE = {b"x-request-id", b"ratelimit", b"ratelimit-policy"}
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def new_request_id() -> bytes:
    """Unique, and no secret: need not cost a call of the kernel."""
    return b"%024x" % random.getrandbits(96)


class Edge:
    """What every request passes first and every answer last.

    It gives the request an id, the client's own when it is sane, and sends that back; answers any
    error as a problem; and logs what an operator has to know.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = identify(scope)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = signed(message["headers"], scope)
            await send(message)

        token = _current_request_id.set(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            logs.event(log, "client_gone", logging.DEBUG, path=_logged(scope))
        except Exception as error:  # the edge: nothing may leave as a traceback
            if isinstance(error, HTTPException):
                error = from_starlette(error)
            answer = problem_answer(error, scope, request_id)
            _report(error, answer.status, scope)
            if started:
                # Too late for another status: a cut connection says that it is not whole.
                raise
            if has_unread_body(scope):
                await refuse(answer, receive, send_with_id)
            else:
                await answer(scope, receive, send_with_id)
        finally:
            _current_request_id.reset(token)


def identify(scope: Scope) -> str:
    """The request's id, left in its scope: the client's own when it is sane."""
    if REQUEST_ID in scope:  # from an edge further out
        known: str = scope[REQUEST_ID]
        return known
    given = header(scope, b"x-request-id")
    raw = given if given is not None and _SANE_ID.fullmatch(given) else new_request_id()
    request_id = scope[REQUEST_ID] = raw.decode()
    return request_id


def signed(headers: RawHeaders, scope: Scope) -> RawHeaders:
    """The headers of an answer, with what every answer tells."""
    told = [pair for pair in headers if pair[0] not in _SIGNATURE]
    told.append((b"x-request-id", scope[REQUEST_ID].encode()))
    allowance = scope.get(ALLOWANCE)
    if allowance is not None:
        told += rate_headers(allowance)
    return told


def _report(error: Exception, status: int, scope: Scope) -> None:
    if status < 500 and status not in {401, 403}:
        return
    key = scope.get(KEY)
    fields = {
        "status": status,
        "method": scope["method"],
        "path": _logged(scope),
        "reason": str(error) if status != 500 else type(error).__name__,
        "request_id": scope[REQUEST_ID],
    }
    if key is not None:
        fields["key"] = key.name
    log.log(
        logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR,
        "request_failed" if status >= 500 else "request_refused",
        exc_info=error if status == 500 else None,
        extra={"fields": fields},
    )


def _logged(scope: Scope) -> str:
    """The path, without what opens a result to whoever reads it."""
    path = instance(scope)
    return f"{RESULTS}…" if path.startswith(RESULTS) else path


class RequestIdFilter(logging.Filter):
    """Puts the id of the request being answered on every log line written meanwhile."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = _current_request_id.get()
        if request_id is not None:
            fields = getattr(record, "fields", None)
            if not isinstance(fields, dict):
                record.fields = {"request_id": request_id}
            elif "request_id" not in fields:
                record.fields = fields | {"request_id": request_id}
        return True
