"""The header Idempotency-Key: a client's name for a request, so that sending it twice is safe.

draft-ietf-httpapi-idempotency-key-header-07 wants a quoted string; a bare one is taken too.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from starlette.types import Scope

from app.http.bodies import header
from app.http.faults import InvalidHeaderError
from app.queue.records.drafts import Idempotency

NAME = "Idempotency-Key"
REPLAYED = (b"idempotency-replayed", b"true")
_LONGEST = 255
_PRINTABLE = re.compile(rb"[\x20-\x7e]{1,%d}" % _LONGEST)
# RFC 8941, 3.3.3
_QUOTED = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_ESCAPED = re.compile(rb'\\(["\\])')


def asked_key(scope: Scope) -> str | None:
    """The client's key, None without one. Raises InvalidHeaderError."""
    given = header(scope, b"idempotency-key")
    if given is None:
        return None
    if sum(name == b"idempotency-key" for name, _ in scope["headers"]) > 1:
        raise InvalidHeaderError(NAME, "may stand once")
    key = given
    if given.startswith(b'"'):
        quoted = _QUOTED.fullmatch(given)
        if quoted is None:
            raise InvalidHeaderError(NAME, "begins with a quote but is no quoted string")
        key = _ESCAPED.sub(rb"\1", quoted[1])
    if _PRINTABLE.fullmatch(key) is None:
        raise InvalidHeaderError(NAME, f"must have 1 to {_LONGEST} printable ASCII characters")
    return key.decode("ascii")


def idempotency(scope: Scope, key: str, body: Any) -> Idempotency:
    """The key with a digest of its request: equal however the same JSON was written."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    request = f"{scope['method']} {scope['path']}\n{canonical}"
    return Idempotency(key, hashlib.sha256(request.encode()).hexdigest())
