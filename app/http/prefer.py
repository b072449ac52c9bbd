"""The header Prefer (RFC 7240), of which we honour `wait`: hold the answer until the job ends."""

from __future__ import annotations

import re

from starlette.types import Scope

from app.http.bodies import header

# Less than the time-out of most proxies: Heroku's is 30 s.
LONGEST_WAIT_SECONDS = 25
_QUOTED = r'"(?:[^"\\]|\\.)*"?'
_PREFERENCES = re.compile(rf'(?:[^",]|{_QUOTED})+')
_PARTS = re.compile(rf'(?:[^";]|{_QUOTED})+')
_DELTA = re.compile(r'(\d{1,9})|"(\d{1,9})"', re.ASCII)


def asked_wait(scope: Scope) -> int | None:
    """Seconds that the client would wait for the end, at most 25. None: not asked.

    What cannot be understood is ignored, and of several only the first counts (RFC 7240, 2).
    """
    if header(scope, b"prefer") is None:
        return None
    given = b",".join(value for name, value in scope["headers"] if name == b"prefer")
    for preference in _PREFERENCES.findall(given.decode("latin-1")):
        # What follows a semicolon are parameters, of which `wait` has none.
        parts = _PARTS.findall(preference)
        name, _, value = (parts[0] if parts else "").partition("=")
        if name.strip().lower() == "wait":
            seconds = _DELTA.fullmatch(value.strip())
            if seconds is None:
                return None
            return min(int(seconds[1] or seconds[2]), LONGEST_WAIT_SECONDS)
    return None


def applied(seconds: int) -> tuple[bytes, bytes]:
    """The header that says what was honoured."""
    return b"preference-applied", b"wait=%d" % seconds
