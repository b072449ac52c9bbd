"""rq-dashboard behind its entrance.

The dashboard itself is a WSGI application made by `app.queue.dashboard`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

from a2wsgi import WSGIMiddleware
from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.auth import acting_key
from app.http.entrance import SAFE_METHODS, Entrance
from app.http.faults import MalformedRequestError
from app.keyring import ApiKey, Keyring
from app.logs import event

log = logging.getLogger("recado.dashboard")

WORKERS = 4
# For what is inside, in the ASGI scope, which no header of a client's can reach.
ACTING_AS = "recado.acting_as"

WSGI = Callable[[dict[str, Any], Any], Iterable[bytes]]


def routes(dashboard: ASGIApp) -> list[BaseRoute]:
    """The dashboard at /dashboard, with a redirect for who leaves the last slash out."""

    async def add_slash(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/dashboard/", 307)

    return [Route("/dashboard", add_slash, methods=["GET"]), Mount("/dashboard", app=dashboard)]


class Dashboard:
    """An ASGI application, to be mounted, for keys of the scope `operate`."""

    def __init__(
        self,
        wsgi: Any,
        keyring: Keyring,
        *,
        session_secret: bytes,
        session_seconds: int,
        secure_cookie: bool,
        local_key: ApiKey | None,
    ) -> None:
        self._wsgi = cast("ASGIApp", WSGIMiddleware(cast("Any", wsgi), workers=WORKERS))
        self._entrance = Entrance(
            self._show,
            keyring,
            any_of=("operate",),
            session_secret=session_secret,
            session_seconds=session_seconds,
            secure_cookie=secure_cookie,
            local_key=local_key,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entrance(scope, receive, send)

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.method not in SAFE_METHODS:
            send = _noting(send, request, acting_key(request))
        if not scope["query_string"].isascii():
            raise MalformedRequestError("The query has bytes that belong in no URL.")
        scope = {**scope, ACTING_AS: acting_key(request).name}
        await self._wsgi(scope, receive, send)


def _noting(send: Send, request: Request, key: ApiKey) -> Send:
    """Logs an act with its key's name, once it is answered."""

    async def send_noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            path = get_route_path(request.scope)
            event(log, "dashboard_act", path=path, status=message["status"], key=key.name)
        await send(message)

    return send_noting
