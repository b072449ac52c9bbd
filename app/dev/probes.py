"""How bin/dev sees that a part is ready: it asks in the part's own protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"


async def valkey_answers(port: int) -> bool:
    """PONG, and not an error: a Valkey that still loads its data answers -LOADING."""
    return (await _first_line(port, b"PING\r\n")).startswith(b"+PONG")


async def smtp_greets(port: int) -> bool:
    return (await _first_line(port, b"")).startswith(b"220")


async def web_is_healthy(port: int) -> bool:
    request = f"GET /healthz HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
    status = (await _first_line(port, request.encode())).split(b" ")
    return len(status) > 1 and status[1] == b"200"


async def _first_line(port: int, request: bytes) -> bytes:
    """The first line of the answer, or nothing when there is none."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return b""
    try:
        writer.write(request)
        await writer.drain()
        return await reader.readline()
    except (OSError, ValueError):  # ValueError: a line without end, so no server of ours
        return b""
    finally:
        writer.close()


def worker_is_registered(redis_url: str) -> Callable[[int], Awaitable[bool]]:
    """Asks Redis for a live worker of this machine with that process id, as RQ records it."""

    async def is_registered(pid: int) -> bool:
        # Imported when the parts are starting: it takes as long as starting Valkey.
        from app.dev.workers import registered_pids  # noqa: PLC0415

        return pid in await registered_pids(redis_url, socket.gethostname())

    return is_registered
