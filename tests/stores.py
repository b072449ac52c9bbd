"""The three storages, each on what it really keeps its files in, and what lies there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio as async_redis

from app.queue.connection import Reachability
from app.queue.file_store import RedisStorage
from app.storage import RedisFileLimits, Storage
from app.storage.folder import FolderStorage
from app.storage.s3 import S3Storage
from tests.s3_server import S3Server

MIB = 1024 * 1024
LIMITS = RedisFileLimits(file_bytes=16 * MIB, all_bytes=64 * MIB, seconds=3600)
KINDS = ("folder", "s3", "redis")


@dataclass(frozen=True)
class Store:
    """`names` are of what is kept, and of what is half written with a `?` behind them."""

    storage: Storage
    names: Callable[[], Awaitable[list[str]]]


@asynccontextmanager
async def folder_store(root: Path) -> AsyncIterator[Store]:
    async def names() -> list[str]:
        found = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        return sorted(f"{each}?" if each.startswith(".drafts/") else each for each in found)

    storage = FolderStorage(root)
    yield Store(storage, names)
    await storage.aclose()


@asynccontextmanager
async def s3_store(server: S3Server) -> AsyncIterator[Store]:
    bucket = server.new_bucket()

    async def names() -> list[str]:
        return sorted(each.removeprefix("a/b/") for each in server.names(bucket))

    storage = S3Storage(server.access, bucket, "a/b")
    yield Store(storage, names)
    await storage.aclose()


@asynccontextmanager
async def redis_store(url: str, limits: RedisFileLimits = LIMITS) -> AsyncIterator[Store]:
    client = async_redis.Redis.from_url(url)
    storage = RedisStorage(client, Reachability(), limits)

    async def names() -> list[str]:
        kept = [each async for each in client.scan_iter("rq:recado:file:*")]
        held: Any = await client.zrange("rq:recado:files:held", 0, -1)
        drafts = [each.decode().strip() for each in held if each.endswith(b" ")]
        return sorted(
            [each.decode().removeprefix("rq:recado:file:") for each in kept]
            + [f"{each}?" for each in drafts]
        )

    yield Store(storage, names)
    await storage.aclose()
    await client.aclose()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(storage: Storage, key: str, start: int = 0, end: int | None = None) -> bytes:
    contents = await storage.open(key, start, end)
    try:
        return b"".join([piece async for piece in contents])
    finally:
        await contents.aclose()
