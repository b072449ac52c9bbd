"""Signed sessions in a cookie, for operators who use a browser; nothing is kept here.

The cookie says until when it holds and by the name of which key, never the key. The MAC is
over the key's digest too: a key that is gone, was replaced under its name, or has lost
its scope, ends its sessions at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from app.keyring import ApiKey, Keyring, Scope

_COOKIE = re.compile(
    r"(?P<until>\d{1,12})\.(?P<name>[A-Za-z0-9_.-]{1,64})\.(?P<mac>[\w-]{43})", re.A
)


class Sessions:
    """Issues and reads session cookies; `seconds` is how long one holds, sign-in to end.

    It reads those of keys with `any_of` these scopes, whoever issued them with the same secret.
    """

    def __init__(
        self,
        keyring: Keyring,
        secret: bytes,
        seconds: int,
        *,
        secure: bool = False,
        any_of: Sequence[Scope] = ("operate",),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        # Of its own, so that no other signature made with the secret passes for a session.
        self._secret = hmac.digest(secret, b"recado session 1", "sha256")
        self._seconds = seconds
        self._secure = secure
        self._any_of = any_of
        self._clock = clock

    @property
    def cookie_name(self) -> str:
        """With `__Host-` a browser takes it from this host only, over TLS."""
        return "__Host-recado_session" if self._secure else "recado_session"

    def issue(self, key: ApiKey) -> str:
        until = int(self._clock()) + self._seconds
        return f"{until}.{key.name}.{self._mac(until, key)}"

    def read(self, cookie: str | None) -> ApiKey | None:
        """Whose session it is, or None: none, forged, cut, over, or its key may not."""
        found = _COOKIE.fullmatch(cookie) if cookie is not None and len(cookie) <= 256 else None
        if found is None:
            return None
        key = self._keyring.named(found["name"])
        if key is None or key.scopes.isdisjoint(self._any_of):
            return None
        until = int(found["until"])
        if not hmac.compare_digest(found["mac"], self._mac(until, key)):
            return None
        return key if self._clock() < until else None

    def of(self, request: Request) -> ApiKey | None:
        """Whose session the request carries."""
        return self.read(request.cookies.get(self.cookie_name))

    def begin(self, response: Response, key: ApiKey) -> None:
        self._set(response, self.issue(key), self._seconds)

    def end(self, response: Response) -> None:
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self.cookie_name,
            value,
            max_age=seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )

    def _mac(self, until: int, key: ApiKey) -> str:
        signed = f"{until}\n{key.name}\n{key.digest}".encode()
        mac = hmac.digest(self._secret, signed, hashlib.sha256)
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def is_cross_origin(request: Request, *, by_cookie: bool) -> bool:
    """Whether a page of another origin may have made the browser send this.

    Sec-Fetch-Site, which no page can set, decides; a browser leaves it out where it does not
    trust the connection, and then the Origin must be this host. A client that sends neither
    is no browser of the last years: well unless what lets it in is a cookie.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # A page under `Referrer-Policy: no-referrer` says `null` of itself, in a form's POST.
    if origin is not None and not (origin == "null" and site == "same-origin"):
        if not _is_own(origin, request):
            return True
    elif site is None:
        return by_cookie
    return site is not None and site != "same-origin"


def _is_own(origin: str, request: Request) -> bool:
    """The scheme is compared one way only: a proxy may have taken TLS off on the way."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    host = request.headers.get("host", "").lower()
    schemes = {"https", request.url.scheme}
    return parts.scheme in schemes and parts.netloc.lower() == host and host != ""
