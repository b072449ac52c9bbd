"""Signed tokens that expire and work once, with nothing to keep for them."""

from __future__ import annotations

import base64
import hashlib
import hmac


class BadTokenError(Exception):
    """Not ours, too old, or used already; which one is nobody's business."""


def make_token(secret: bytes, user_id: str, password_digest: str, expires_at: int) -> str:
    """Signed over the present password, so that it is void as soon as that has changed.

    `expires_at` is in seconds since 1970.
    """
    return f"{user_id}.{expires_at}.{_sign(secret, user_id, password_digest, expires_at)}"


def user_of(token: str) -> str:
    """Whose it claims to be, to be looked up before it is checked. Raises BadTokenError."""
    user_id, _, rest = token.partition(".")
    if not (user_id and rest):
        raise BadTokenError
    return user_id


def check_token(secret: bytes, token: str, password_digest: str, now: float) -> None:
    """Raises BadTokenError."""
    user_id, _, rest = token.partition(".")
    expires_at, _, signature = rest.partition(".")
    if not (expires_at.isascii() and expires_at.isdigit() and len(expires_at) < 12):
        raise BadTokenError
    expected = _sign(secret, user_id, password_digest, int(expires_at))
    if not hmac.compare_digest(signature.encode(), expected.encode()) or int(expires_at) <= now:
        raise BadTokenError


def _sign(secret: bytes, user_id: str, password_digest: str, expires_at: int) -> str:
    # Lengths first: no two triples sign the same bytes.
    fields = "".join(f"{len(each)}:{each}" for each in (user_id, str(expires_at), password_digest))
    digest = hmac.digest(secret, fields.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
