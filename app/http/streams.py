"""Bodies that are never whole in memory, in and out, and refusals that a sender gets to hear."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.http.answers import Answer, RawHeaders
from app.http.bodies import BODY_READ, LEAST_BYTES_PER_SECOND, header
from app.http.faults import BodyTooLargeError, SlowBodyError
from app.logs import event
from app.storage import Contents

log = logging.getLogger("recado.http")

# A client that takes nothing for so long holds a connection and a file for nothing.
RECEIVER_SECONDS = 60.0
# How long a refused sender is listened to, so that it reads the refusal: closing at once would
# make its kernel throw the answer away with the connection (RFC 9112, 9.6).
LINGER_SECONDS = 2.0
# What has arrived by itself before anything is read of a body.
_ARRIVED_BYTES = 64 * 1024


async def body_chunks(
    scope: Scope, receive: Receive, limit_bytes: int, silence_seconds: float
) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises BodyTooLargeError, SlowBodyError, ClientDisconnect.

    Silence and dripping are measured as for a JSON body, but only while we wait for the client:
    a slow disk of ours is not its fault.
    """
    loop = asyncio.get_running_loop()
    size_bytes, waited, more = 0, 0.0, True
    while more:
        allowed = silence_seconds + size_bytes / LEAST_BYTES_PER_SECOND - waited
        asked = loop.time()
        try:
            async with asyncio.timeout(min(silence_seconds, allowed)):
                message = await receive()
        except TimeoutError:
            raise SlowBodyError(waited + loop.time() - asked, size_bytes) from None
        waited += loop.time() - asked
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        more = message.get("more_body", False)
        if not more:
            scope[BODY_READ] = True
        if chunk:
            yield chunk


def has_unread_body(scope: Scope) -> bool:
    """Whether the client may still be sending, as far as its headers tell."""
    if scope.get(BODY_READ, False):
        return False
    declared = header(scope, b"content-length")
    if declared is None:
        return header(scope, b"transfer-encoding") is not None
    return not declared.isdigit() or len(declared) > 9 or int(declared) > _ARRIVED_BYTES


async def refuse(answer: Answer, receive: Receive, send: Send) -> None:
    """Answer in the middle of a body: the connection is closed, but not before it is heard."""
    headers = [pair for pair in answer.headers if pair[0] != b"connection"]
    headers += [(b"content-length", b"%d" % len(answer.body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})


@dataclass(slots=True)
class StreamAnswer:
    """A response whose body comes from storage. `contents` None: a HEAD, only told about."""

    status: int
    headers: RawHeaders
    size_bytes: int
    contents: Contents | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            headers = [*self.headers, (b"content-length", b"%d" % self.size_bytes)]
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            if self.contents is not None and not await self._send(self.contents, gone, send):
                return
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            if self.contents is not None:
                await self.contents.aclose()

    async def _send(self, contents: Contents, gone: asyncio.Future[None], send: Send) -> bool:
        """True when all was sent; false when the client has gone. Cuts off who takes nothing."""
        left = self.size_bytes
        async for piece in contents:
            if gone.done():
                return False
            left -= len(piece)
            try:
                async with asyncio.timeout(RECEIVER_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                raise ClientDisconnect from None
        if left:
            # The length has been promised: a cut connection says that this is not all.
            event(log, "stored_object_is_short", logging.ERROR, missing_bytes=left)
            raise EOFError("the stored object is shorter than its record says")
        return True


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
