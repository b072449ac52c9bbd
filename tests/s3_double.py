"""A proxy before the S3 server that refuses, or loses what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import httpx2
import uvicorn

from app.storage.s3 import S3Storage
from tests.conftest import free_port
from tests.http_doubles import until
from tests.s3_server import S3Server


class Refusal(NamedTuple):
    """What is answered in place of the service."""

    status: int
    code: str


class _Proxy:
    """Passes on what it does not refuse: of the requests whose query has `only`, each `every`th.

    Refusals are answered in turn, over and over. `loses_one`: the first answer is not sent on.
    """

    def __init__(
        self, url: str, *, only: str, method: str, every: int, refusals: Sequence[Refusal],
        loses_one: bool,
    ) -> None:  # fmt: skip
        self._client = httpx2.AsyncClient(base_url=url, timeout=30)
        self._only, self._method, self._every = only.encode(), method, every
        self._refusals = refusals
        self._loses = loses_one
        self._seen = self._refused = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        is_meant = self._only in scope["query_string"] and scope["method"].startswith(self._method)
        self._seen += is_meant
        if is_meant and self._refusals and self._seen % self._every == 0:
            refusal = self._refusals[self._refused % len(self._refusals)]
            self._refused += 1
            text = f"<Error><Code>{refusal.code}</Code></Error>".encode()
            await _answer(send, refusal.status, [], text)
            return
        path = scope["raw_path"].decode()
        query = scope["query_string"].decode()
        answer = await self._client.request(
            scope["method"], f"{path}?{query}" if query else path, content=body or None,
            headers=[(k, v) for k, v in scope["headers"] if k != b"host"],
        )  # fmt: skip
        if is_meant and self._loses:
            self._loses = False
            await _answer(send, 504, [], b"")
            return
        kept = [
            (k, v) for k, v in answer.headers.raw if k.lower() in {b"etag", b"content-length"}
        ] if scope["method"] == "HEAD" else [
            (k, v) for k, v in answer.headers.raw if k.lower() == b"etag"
        ]  # fmt: skip
        await _answer(send, answer.status_code, kept, answer.content)

    async def aclose(self) -> None:
        await self._client.aclose()


async def _answer(send: Any, status: int, headers: list[Any], body: bytes) -> None:
    if not any(name.lower() == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class ProxiedStorage(S3Storage):
    """A storage in a bucket of its own behind the proxy."""

    def __init__(self, server: S3Server, endpoint: str) -> None:
        self.bucket = server.new_bucket()
        super().__init__(replace(server.access, endpoint=endpoint), self.bucket, "")


@asynccontextmanager
async def s3_double(
    server: S3Server, *, only: str = "", method: str = "", every: int = 1,
    refusals: Sequence[Refusal] = (), loses_one: bool = False,
) -> AsyncIterator[ProxiedStorage]:  # fmt: skip
    proxy = _Proxy(
        server.url, only=only, method=method, every=every, refusals=refusals, loses_one=loses_one
    )
    port = free_port()
    web = uvicorn.Server(
        uvicorn.Config(proxy, "127.0.0.1", port, log_level="critical", lifespan="off")
    )
    serving = asyncio.create_task(web.serve())
    await until(lambda: web.started)
    storage = ProxiedStorage(server, f"http://127.0.0.1:{port}")
    try:
        yield storage
    finally:
        await storage.aclose()
        web.should_exit = True
        await serving
        await proxy.aclose()
