"""Taking a submission in: its headers, its body, whose it is, and what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from app.http.auth import KEY, acting_key
from app.http.bodies import check_media_type, parse_json, read_json_text
from app.http.faults import InvalidRequestError
from app.http.idempotency import asked_key, idempotency
from app.http.lookup import Lookup
from app.http.middleware import REQUEST_ID
from app.http.submissions import Origin
from app.keyring import ApiKey
from app.queue.records.drafts import Idempotency

T = TypeVar("T")

# Above this a body is checked in a thread: one of 25 MiB of small numbers takes ten seconds,
# during which nobody else would be answered (measured in a thread: 0.2 s at a time).
LARGE_BODY_BYTES = 256 * 1024


@dataclass(slots=True)
class Received(Generic[T]):
    """What was made of a body, and the body, which faults found later point into."""

    made: T
    body: Any
    idempotency: Idempotency | None


class Intake:
    """Reads bodies, of which few large ones at a time."""

    def __init__(self, max_body_bytes: int, lookup: Lookup) -> None:
        self._lookup = lookup
        self._max_body_bytes = max_body_bytes
        self._large_bodies = asyncio.Semaphore(2)

    async def read(
        self,
        request: Request,
        make: Callable[[Any, Origin], T],
        large_body_bytes: int = LARGE_BODY_BYTES,
    ) -> Received[T]:
        """The body, checked by `make`. Raises what bodies.py, idempotency.py and `make` raise."""
        scope = request.scope
        key = asked_key(scope)
        text = await read_json_text(scope, request.receive, self._max_body_bytes)

        try:
            if len(text) < large_body_bytes:
                return _received(scope, key, text, make)
            async with self._large_bodies:
                return await asyncio.to_thread(_received, scope, key, text, make)
        except InvalidRequestError as error:
            raise await self._lookup.completed(error, acting_key(request)) from None

    def take(
        self, scope: Scope, text: bytes, make: Callable[[Any, Origin], T]
    ) -> Received[T] | None:
        """`read` of a whole body; None when it is not so small that nobody would notice. What it
        raises is for `read` to find again, which tells all that is wrong.
        """
        if len(text) >= min(LARGE_BODY_BYTES, self._max_body_bytes):
            return None
        check_media_type(scope)
        return _received(scope, asked_key(scope), text, make)

    async def made(
        self, request: Request, body: Any, told: Any, make: Callable[[Any, Origin], T]
    ) -> Received[T]:
        """The same for a body that was read already; `told` is what makes another request the
        same as this one."""
        key = asked_key(request.scope)
        try:
            made = make(body, _origin(request.scope, key))
        except InvalidRequestError as error:
            raise await self._lookup.completed(error, acting_key(request)) from None
        return Received(made, body, None if key is None else idempotency(request.scope, key, told))


def _received(
    scope: Scope, key: str | None, text: bytes, make: Callable[[Any, Origin], T]
) -> Received[T]:
    body = parse_json(text)
    made = make(body, _origin(scope, key))
    return Received(made, body, None if key is None else idempotency(scope, key, body))


def _origin(scope: Scope, key: str | None) -> Origin:
    acting: ApiKey = scope[KEY]
    return Origin(
        acting.name,
        scope[REQUEST_ID],
        datetime.now(UTC),
        may_repeat=key is not None,
        sees_all="read" in acting.scopes or "operate" in acting.scopes,
    )
