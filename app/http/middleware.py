"""What every request passes: a request id around it, and errors turned into problems.

Plain ASGI: Starlette's BaseHTTPMiddleware would cost more than all the rest of a submission.
"""

from __future__ import annotations

import logging
import os
import re
from contextvars import ContextVar

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.http.auth import ALLOWANCE, KEY, rate_headers
from app.http.bodies import header
from app.http.problems import instance, problem_answer
from app.http.streams import has_unread_body, refuse

log = logging.getLogger("recado.http")

REQUEST_ID = "recado.request_id"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def new_request_id() -> bytes:
    return os.urandom(12).hex().encode()


class RequestId:
    """Gives each request an id, the client's own when it is sane, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        raw = given if given is not None and _SANE_ID.fullmatch(given) else new_request_id()
        request_id = raw.decode()
        scope[REQUEST_ID] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                headers.append((b"x-request-id", raw))
                allowance = scope.get(ALLOWANCE)
                if allowance is not None:
                    headers += rate_headers(allowance)
                message["headers"] = headers
            await send(message)

        token = _current_request_id.set(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current_request_id.reset(token)


class Errors:
    """Answers any error as a problem, and logs what an operator has to know."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            logs.event(log, "client_gone", logging.DEBUG, path=instance(scope))
        except Exception as error:  # the edge: nothing may leave as a traceback
            answer = problem_answer(error, scope, scope[REQUEST_ID])
            _report(error, answer.status, scope)
            if started:
                # Too late for another status: a cut connection says that it is not whole.
                raise
            if has_unread_body(scope):
                await refuse(answer, receive, send)
            else:
                await answer(scope, receive, send)


def _report(error: Exception, status: int, scope: Scope) -> None:
    if status < 500 and status not in {401, 403}:
        return
    key = scope.get(KEY)
    fields = {
        "status": status,
        "method": scope["method"],
        "path": instance(scope),
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
