"""Who asks, and may they: API keys with scopes, or this machine alone when there are none."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.bodies import header
from app.http.faults import (
    ForeignRequestError,
    MissingScopeError,
    RateLimitedError,
    UnauthenticatedError,
)
from app.http.ports import RateLimiter
from app.keyring import LOCAL_KEY, ApiKey, Keyring
from app.keyring import Scope as KeyScope
from app.queue.errors import QueueUnavailableError
from app.queue.records.drafts import Allowance

KEY = "recado.key"
# In the scope of a limited key's request: what the headers of its answer tell.
ALLOWANCE = "recado.allowance"
_LOCAL_HOST = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_PROXIES = {b"x-forwarded-for", b"forwarded"}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Admission(Protocol):
    """Whose request it is, and may they."""

    async def admit(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey:
        """The acting key. Raises UnauthenticatedError, RateLimitedError or MissingScopeError."""
        ...

    def admit_at_once(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey | None:
        """The same; None where that has to be asked for."""
        ...


class Admitted:
    """For requests that have come through an entrance, which left their key in the scope."""

    async def admit(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey:
        return self.admit_at_once(scope, any_of)

    def admit_at_once(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey:
        key: ApiKey = scope[KEY]
        return _permitted(key, any_of)


class Authority:
    """Decides whose request it is, whether that key may do it, and whether it asks too often."""

    def __init__(self, keyring: Keyring, limiter: RateLimiter | None = None) -> None:
        self._keyring = keyring
        self._limiter = limiter

    async def admit(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey:
        """The acting key. Raises UnauthenticatedError, RateLimitedError or MissingScopeError."""
        key = self._identify(scope)
        if self._limiter is not None:
            await self._count(self._limiter, scope, key)
        return _permitted(key, any_of)

    def admit_at_once(self, scope: Scope, any_of: Sequence[KeyScope]) -> ApiKey | None:
        if self._limiter is not None:
            return None
        return _permitted(self._identify(scope), any_of)

    async def _count(self, limiter: RateLimiter, scope: Scope, key: ApiKey) -> None:
        try:
            allowance = await limiter.take(key.name)
        except QueueUnavailableError:
            # Whatever needs Redis will say so itself; the rest need not wait for it.
            return
        scope[ALLOWANCE] = allowance
        if not allowance.is_allowed:
            raise RateLimitedError(allowance)

    def _identify(self, scope: Scope) -> ApiKey:
        if not self._keyring:
            return LOCAL_KEY
        presented = header(scope, b"authorization")
        if presented is None:
            raise UnauthenticatedError("The header Authorization is missing.")
        kind, _, secret = presented.partition(b" ")
        if kind.lower() != b"bearer" or not secret.strip():
            raise UnauthenticatedError("The header Authorization must be: Bearer <key>.")
        key = self._keyring.find(secret.strip().decode("utf-8", "surrogateescape"))
        if key is None:
            raise UnauthenticatedError("This key is not known.")
        return key


def _permitted(key: ApiKey, any_of: Sequence[KeyScope]) -> ApiKey:
    if key.scopes.isdisjoint(any_of):
        raise MissingScopeError(" or ".join(any_of))
    return key


def acting_key(request: Request) -> ApiKey:
    """The key that `authorize` found for this request."""
    key: ApiKey = request.scope[KEY]
    return key


def rate_headers(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    """What remains of a key's rate (draft-ietf-httpapi-ratelimit-headers-10)."""
    policy = f'"default";q={allowance.limit};w={allowance.window_seconds}'
    left = f'"default";r={allowance.remaining};t={allowance.reset_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]


def may_act(key: ApiKey, submitted_by: str | None) -> bool:
    """Cancel and delete: the key that submitted, or `operate`."""
    return "operate" in key.scopes or ("submit" in key.scopes and submitted_by == key.name)


def may_see(key: ApiKey, submitted_by: str | None) -> bool:
    """`read` and `operate` see every job, `submit` alone only its own."""
    return "read" in key.scopes or "operate" in key.scopes or submitted_by == key.name


class LocalOnly:
    """Answers only this machine's own programs. Installed when no keys are configured.

    A page of another site can make a browser send requests here: by DNS rebinding (then the
    Host is foreign) or by a plain form (then the Origin is).
    """

    def __init__(self, app: ASGIApp, trusted_origins: Sequence[str] = ()) -> None:
        self._app = app
        self._trusted_origins = {origin.encode() for origin in trusted_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.check(scope)
        await self._app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Raises ForeignRequestError."""
        client = scope.get("client")
        if client is None or not _is_loopback(client[0]):
            raise ForeignRequestError("The request comes from another machine.")
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or _LOCAL_HOST.fullmatch(hosts[0]) is None:
            raise ForeignRequestError("The Host must be localhost, 127.0.0.1 or [::1].")
        if any(name in _PROXIES for name, _ in scope["headers"]):
            raise ForeignRequestError("The request came through a proxy.")
        origin = header(scope, b"origin")
        if origin is None or scope["method"] in _SAFE_METHODS:
            return
        if origin != b"http://" + hosts[0] and origin not in self._trusted_origins:
            raise ForeignRequestError("The request comes from another site's page.")


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped if mapped is not None else address).is_loopback)
