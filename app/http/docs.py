"""/docs: the API to read and to try, in a browser: Swagger UI over /openapi.json, no CDN.

Swagger UI's files are those that the package flask-swagger-ui carries (1.9 MB, Apache-2.0);
its code, which is for Flask, is not imported.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request

from app.http.answers import Answer, RawHeaders
from app.http.bodies import header
from app.http.faults import NotFoundError

PAGES = Path(__file__).parent / "pages" / "docs"
# Scripts and styles are the files below and nothing else; Swagger UI 5 can do with that.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OURS = {"page.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}
_THEIRS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it goes out, at its smallest: the largest is 1.7 MB, and 0.5 compressed."""

    media_type: str
    plain: bytes
    compressed: bytes
    etag: bytes


async def page(request: Request) -> Answer:
    """GET /docs."""
    return await _answer(request, "page.html")


async def asset(request: Request) -> Answer:
    """GET /docs/{name}: what the page needs."""
    name: str = request.path_params["name"]
    if name == "page.html" or name not in _OURS | _THEIRS:
        raise NotFoundError
    return await _answer(request, name)


async def _answer(request: Request, name: str) -> Answer:
    file = await asyncio.to_thread(_load, name)
    headers: RawHeaders = [
        (b"content-type", file.media_type.encode() + b"; charset=utf-8"),
        # Asked about each time: a new release shows at once.
        (b"cache-control", b"no-cache"),
        (b"etag", file.etag),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", POLICY.encode()),
    ]
    if file.etag in (header(request.scope, b"if-none-match") or b""):
        return Answer(304, headers=headers[1:])
    if b"gzip" in (header(request.scope, b"accept-encoding") or b""):
        return Answer(200, file.compressed, [*headers, (b"content-encoding", b"gzip")])
    return Answer(200, file.plain, headers)


@cache
def _load(name: str) -> _File:
    folder, media_type = (PAGES, _OURS[name]) if name in _OURS else (_swagger_ui(), _THEIRS[name])
    plain = (folder / name).read_bytes()
    etag = f'W/"{hashlib.blake2b(plain, digest_size=12).hexdigest()}"'
    return _File(media_type, plain, gzip.compress(plain, mtime=0), etag.encode())


def _swagger_ui() -> Path:
    found = find_spec("flask_swagger_ui")
    assert found is not None and found.origin is not None, "requirements.txt has it"
    return Path(found.origin).parent / "dist"
