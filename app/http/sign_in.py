"""The sign-in page: an API key for a session. No script, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.http.bodies import SILENCE_SECONDS
from app.http.faults import BodyTooLargeError, SlowBodyError
from app.http.sessions import Sessions
from app.keyring import Keyring, Scope
from app.logs import event

log = logging.getLogger("recado.sign_in")

_PAGE = (Path(__file__).parent / "pages" / "sign_in.html").read_text(encoding="utf-8")
_STYLE = _PAGE.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
BODY_BYTES = 4096
WRONG_KEYS = 10
WINDOW_SECONDS = 60.0
CLIENTS_REMEMBERED = 1024
_SAFE_PATH = re.compile(r"/[A-Za-z0-9_.~%/-]*")


class Guesses:
    """Wrong keys of the last minute, by client address, in this process.

    A key cannot be guessed; this keeps one client from making us try all day.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, client: str) -> bool:
        times = self._wrong.get(client)
        while times and times[0] <= self._clock() - WINDOW_SECONDS:
            times.popleft()
        return times is not None and len(times) >= WRONG_KEYS

    def note(self, client: str) -> None:
        self._wrong.setdefault(client, deque(maxlen=WRONG_KEYS)).append(self._clock())
        self._wrong.move_to_end(client)
        if len(self._wrong) > CLIENTS_REMEMBERED:
            self._wrong.popitem(last=False)


class SignIn:
    """The form and its answer, for whatever is mounted at `request.scope["root_path"]`."""

    def __init__(
        self, keyring: Keyring, sessions: Sessions, any_of: Sequence[Scope] = ("operate",)
    ) -> None:
        self._keyring = keyring
        self._sessions = sessions
        self._any_of = any_of
        self._guesses = Guesses()

    def form(self, request: Request) -> Response:
        return self._form(request)

    async def submit(self, request: Request) -> Response:
        """303 with a session; 401 for a wrong key, 403 without its scope, 429 after ten wrong ones.

        Raises BodyTooLargeError, SlowBodyError.
        """
        client = request.client.host if request.client is not None else ""
        if self._guesses.too_many(client):
            error = "Too many wrong keys. Wait a minute, then try again."
            headers = {"Retry-After": str(int(WINDOW_SECONDS))}
            return self._form(request, error, status=429, headers=headers)
        key = self._keyring.find(await _presented(request))
        if key is None:
            self._guesses.note(client)
            event(log, "sign_in_refused", logging.WARNING, reason="unknown_key")
            return self._form(
                request, "This key is not known. Check that it is complete.", status=401
            )
        if key.scopes.isdisjoint(self._any_of):
            event(log, "sign_in_refused", logging.WARNING, reason="missing_scope", key=key.name)
            error = f"This key lacks the scope {' or '.join(self._any_of)}."
            return self._form(request, error, status=403)
        event(log, "signed_in", key=key.name)
        response = RedirectResponse(_destination(request), 303)
        self._sessions.begin(response, key)
        return response

    def _form(
        self,
        request: Request,
        error: str | None = None,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        told = f'<p class="wrong" id="wrong" role="alert">{escape(error)}</p>' if error else ""
        wanted = request.query_params.get("next")
        values = {
            "error": told,
            "action": escape(sign_in_path(request.scope.get("root_path", ""), wanted)),
            "described_by": "wrong" if error else "about",
            "invalid": ' aria-invalid="true"' if error else "",
            "scopes": " or ".join(f"<code>{each}</code>" for each in self._any_of),
        }
        page = re.sub(r"\{\{ (\w+) \}\}", lambda hole: values[hole[1]], _PAGE)
        return HTMLResponse(
            page, status, {"Content-Security-Policy": POLICY} | (headers if headers else {})
        )


def sign_in_path(root: str, wanted: str | None = None) -> str:
    """Where the form is; `wanted` is the path to go to afterwards."""
    asked = "" if wanted is None else "?" + urlencode({"next": wanted})
    return f"{root}/sign-in{asked}"


def _destination(request: Request) -> str:
    """The page that was asked for before, if it is one of the same mount; else the first."""
    root = request.scope.get("root_path", "")
    wanted = request.query_params.get("next", "")
    sane = _SAFE_PATH.fullmatch(wanted) and ".." not in wanted and "//" not in wanted
    return wanted if sane and wanted.startswith(f"{root}/") else f"{root}/"


async def _presented(request: Request) -> str:
    """The form's `key`; empty when there is none."""
    body = bytearray()
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > BODY_BYTES:
                    raise BodyTooLargeError(BODY_BYTES)
    except TimeoutError:
        raise SlowBodyError(SILENCE_SECONDS) from None
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:
        return ""
    return fields.get("key", [""])[0].strip()
