"""The way into pages for operators: who may see them, from which origin, under which policy.

Nothing behind it is reached without a key of the right scope: as a Bearer, or in a session from
the sign-in page. A session that began at one entrance is good at every other that its key may
pass. Every response leaves with the headers below, whoever made it.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.auth import KEY, LocalOnly
from app.http.faults import (
    BodyTooLargeError,
    CrossOriginError,
    ForeignRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    MissingScopeError,
    SlowBodyError,
    UnauthenticatedError,
)
from app.http.problems import problem_answer
from app.http.sessions import Sessions, is_cross_origin
from app.http.sign_in import SignIn, sign_in_path
from app.keyring import ApiKey, Keyring
from app.keyring import Scope as KeyScope

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# For the page to show, in the ASGI scope, which no header of a client's can reach.
SIGNED_IN_AS = "recado.signed_in_as"
# `data:` for the icons in Bootstrap's style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_REFUSALS = (
    BodyTooLargeError,
    CrossOriginError,
    ForeignRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    MissingScopeError,
    SlowBodyError,
    UnauthenticatedError,
)


class Entrance:
    """An ASGI application before another, to be mounted; what is inside finds its key in the scope.

    `any_of`: which scopes suffice. `local_key` is set when no keys are configured; then this
    machine's own requests are let in without signing in.
    """

    def __init__(
        self,
        inside: ASGIApp,
        keyring: Keyring,
        *,
        any_of: Sequence[KeyScope],
        session_secret: bytes,
        session_seconds: int,
        secure_cookie: bool,
        local_key: ApiKey | None,
    ) -> None:
        self._keyring = keyring
        self._any_of = any_of
        self._sessions = Sessions(
            keyring, session_secret, session_seconds, secure=secure_cookie, any_of=any_of
        )
        self._sign_in = SignIn(keyring, self._sessions, any_of)
        self._local_key = local_key
        self._inside = inside
        self._entrance: ASGIApp = self._enter if local_key is None else LocalOnly(self._enter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        send = _hardened(send)
        try:
            await self._entrance(scope, receive, send)
        except _REFUSALS as error:
            answer = problem_answer(error, scope, scope.get("recado.request_id", ""))
            await answer(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = get_route_path(scope)
        if request.method not in SAFE_METHODS:
            _refuse_cross_origin(request, by_cookie=False)
        if path in {"/sign-in", "/sign-out"}:
            response = await self._session(request, path)
            await response(scope, receive, send)
            return
        key, by_cookie = self._acting_key(request)
        if key is None:
            response = RedirectResponse(_to_sign_in(request), 303)
            await response(scope, receive, send)
            return
        if request.method not in SAFE_METHODS:
            _refuse_cross_origin(request, by_cookie=by_cookie)
        scope = {**scope, KEY: key, SIGNED_IN_AS: key.name if by_cookie else None}
        await self._inside(scope, receive, send)

    def _acting_key(self, request: Request) -> tuple[ApiKey | None, bool]:
        """The key, and whether a session brought it; None for a browser that has to sign in.

        Raises UnauthenticatedError, MissingScopeError.
        """
        if self._local_key is not None:
            return self._local_key, False
        authorization = request.headers.get("authorization")
        if authorization is not None:
            return self._bearer(authorization), False
        key = self._sessions.of(request)
        if key is not None:
            return key, True
        wants_page = "text/html" in request.headers.get("accept", "")
        if request.method in {"GET", "HEAD"} and wants_page:
            return None, False
        raise UnauthenticatedError("Send a key as Bearer, or sign in with a browser.")

    def _bearer(self, authorization: str) -> ApiKey:
        kind, _, presented = authorization.partition(" ")
        key = self._keyring.find(presented.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise UnauthenticatedError("This key is not known.")
        if key.scopes.isdisjoint(self._any_of):
            raise MissingScopeError(" or ".join(self._any_of))
        return key

    async def _session(self, request: Request, path: str) -> Response:
        root = request.scope.get("root_path", "")
        if path == "/sign-out":
            if request.method != "POST":
                raise MethodNotAllowedError(["POST"])
            response = RedirectResponse(sign_in_path(root), 303)
            self._sessions.end(response)
            return response
        if request.method not in {"GET", "HEAD", "POST"}:
            raise MethodNotAllowedError(["GET", "HEAD", "POST"])
        if self._local_key is not None:
            return RedirectResponse(f"{root}/", 303)
        if request.method == "POST":
            return await self._sign_in.submit(request)
        return self._sign_in.form(request)


def _to_sign_in(request: Request) -> str:
    root = request.scope.get("root_path", "")
    path = request.scope["path"]
    return sign_in_path(root, None if path.removeprefix(root) in {"", "/"} else path)


def _refuse_cross_origin(request: Request, *, by_cookie: bool) -> None:
    if is_cross_origin(request, by_cookie=by_cookie):
        raise CrossOriginError("A state change must come from a page of this service itself.")


def _hardened(send: Send) -> Send:
    """Adds the headers, and lets a client that went away not hold up a worker for ever.

    a2wsgi 1.10 waits for each piece to be sent; were sending to fail, its thread would wait
    for good.
    """
    gone = False

    async def send_hardened(message: Message) -> None:
        nonlocal gone
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", POLICY)
            headers.setdefault("Cache-Control", "no-store")
            message = {**message, "headers": headers.raw}
        if gone:
            return
        try:
            await send(message)
        except OSError:
            gone = True

    return send_hardened
