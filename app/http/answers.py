"""Answers as ASGI sends them: bodies rendered once, headers as bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.http.bodies import header

RawHeaders = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_HTML = (b"content-type", b"text/html; charset=utf-8")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
# Of what says something about jobs: kept by no cache.
JSON_HEADERS = (_JSON, _NO_SNIFFING, _NO_STORE)
# A page of ours has one style sheet, in itself, and nothing else.
_STATIC_PAGE = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
)


@dataclass(slots=True)
class Answer:
    """A whole response. Starlette's own costs three times as much to build."""

    status: int
    body: bytes = b""
    headers: RawHeaders = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self.headers
        if self.status not in {204, 304}:
            headers = [*headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(
    content: Any, status: int = 200, headers: RawHeaders | None = None, *, cacheable: bool = False
) -> Answer:
    """JSON. Kept by no cache unless it says nothing about jobs."""
    kept = [_JSON, _NO_SNIFFING] if cacheable else [*JSON_HEADERS]
    return Answer(status, render(content), kept + headers if headers is not None else kept)


def kept_answer(body: bytes, status: int, headers: RawHeaders) -> Answer:
    """JSON that was rendered before, for who asks the same once more."""
    return Answer(status, body, [_JSON, _NO_SNIFFING, _NO_STORE, *headers])


def html_answer(page: str, status: int = 200) -> Answer:
    return Answer(status, page.encode(), [_HTML, _NO_SNIFFING, _STATIC_PAGE])


def revalidated(request: Request, answer: Answer) -> Answer:
    """With an ETag of the content, or 304 when the client has it (RFC 9110, 13.1.2)."""
    etag = f'"{hashlib.blake2b(answer.body, digest_size=12).hexdigest()}"'.encode()
    # RFC 9110, 8.8.3: `no-store` is for shared caches; a client may still compare.
    tagged = [*answer.headers, (b"etag", etag)]
    known = header(request.scope, b"if-none-match")
    if known is not None and _matches(known, etag):
        return Answer(304, headers=[pair for pair in tagged if pair[0] != b"content-type"])
    return Answer(answer.status, answer.body, tagged)


def _matches(known: bytes, etag: bytes) -> bool:
    tags = [tag.strip().removeprefix(b"W/") for tag in known.split(b",")]
    return etag in tags or tags == [b"*"]


def render(content: Any) -> bytes:
    """JSON text. Times become RFC 3339; infinity and NaN, which JSON lacks, become null."""
    try:
        return to_json(content, inf_nan_mode="null")
    except PydanticSerializationError:
        # A result may hold half a surrogate pair, which UTF-8 cannot carry but an escape can.
        return json.dumps(content, default=str).encode("ascii")
