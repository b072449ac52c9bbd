"""Storage in Redis itself: small files, where web and workers share no disk and no bucket."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

import redis.asyncio as async_redis
from redis.exceptions import OutOfMemoryError, RedisError

from app.queue import keys, scripts, server
from app.queue.calling import run_script
from app.queue.connection import Lane, Reachability, is_away
from app.queue.scripts import Script
from app.storage import (
    Contents,
    ObjectNotFoundError,
    ObjectTooLargeError,
    RedisFileLimits,
    StorageFullError,
    StorageUnavailableError,
    Stored,
    check_key,
    pieces_of,
)

PIECE_BYTES = 256 * 1024
# A client may drip a piece at the least pace that is allowed (http/bodies.py): 256 s.
STAGED_SECONDS = 600
# For who reads a file that is replaced or deleted meanwhile.
GRACE_SECONDS = 30
# What a file takes in Redis beside its bytes.
RECORD_BYTES = 512
# Of Redis' maxmemory. Jobs are taken up to nine tenths: files give way long before.
MEMORY_SHARE = 0.7
LISTED_AT_ONCE = 200
FULL = "there is no room for more files in Redis"


class RedisStorage:
    """Keeps to `app.storage.Storage`. A file is pieces under a number of its own, and a record
    that names them, written when all are there; until then they are about to expire.
    """

    def __init__(
        self, client: async_redis.Redis, reachability: Reachability, limits: RedisFileLimits
    ) -> None:
        self._lane = Lane(client, reachability)
        self._limits = limits

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        check_key(key)
        limit_bytes = min(limit_bytes, self._limits.file_bytes)
        await self.check()
        draft = _Draft(self, self._limits)
        size_bytes = 0
        try:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise ObjectTooLargeError(limit_bytes)
                await draft.write(chunk)
            return await draft.publish(key)
        except BaseException:
            await draft.discard()
            raise

    async def put_file(self, key: str, path: Path, file: FileIO, limit_bytes: int) -> Stored:
        del path
        return await self.put(key, pieces_of(file), limit_bytes)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        record = await self._record(key)
        last = record.size_bytes if end is None else min(end, record.size_bytes)
        return _RedisContents(self, record, start, last)

    async def size(self, key: str) -> int:
        return (await self._record(key)).size_bytes

    def local_path(self, key: str) -> None:
        """It is on no disk of ours."""

    async def delete(self, key: str) -> None:
        await self.run(scripts.FILE_DROP, "", 0, GRACE_SECONDS, check_key(key))

    async def delete_under(self, prefix: str) -> None:
        check_key(prefix.removesuffix("/"))
        async for names in self._names(prefix):
            await self.run(scripts.FILE_DROP, "", 0, GRACE_SECONDS, *names)

    async def prolong(self, prefix: str) -> None:
        check_key(prefix.removesuffix("/"))
        async for names in self._names(prefix):
            await self.run(scripts.FILE_PROLONG, self._limits.seconds, *names)

    async def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        async for names in self._names(prefix):
            for name in names:
                at = await self.call(b"HGET", keys.file(name.decode()), b"at")
                if at is not None and float(at) < before.timestamp():
                    yield name.decode()

    async def remove_drafts(self, before: datetime) -> int:
        """They expire by themselves; what they took is counted anew."""
        del before
        return int(await self.run(scripts.FILE_DROP, "", 0, 0))

    async def check(self) -> None:
        facts = server.facts_of(await self.call(b"INFO", b"memory"))
        used, most = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
        if most and used > most * MEMORY_SHARE:
            raise StorageFullError(FULL)

    async def aclose(self) -> None:
        await self._lane.close()

    async def run(self, script: Script, *arguments: Any) -> Any:
        """Call a script, each of which may be sent twice. Raises StorageError."""
        return await self._asked(lambda: run_script(self._lane, script, *arguments))

    async def call(self, *arguments: Any) -> Any:
        return await self._asked(lambda: self._lane.call(*arguments))

    async def _asked(self, send: Any) -> Any:
        for is_last in (False, True):
            try:
                return await send()
            except OutOfMemoryError as error:
                raise StorageFullError(FULL) from error
            except (RedisError, OSError, TimeoutError) as error:
                if isinstance(error, RedisError) and not is_away(error):
                    raise
                # A connection that was idle may have ended long ago.
                if is_last:
                    raise StorageUnavailableError(server.explain(error)) from error
        raise AssertionError("the last try returns or raises")

    async def _record(self, key: str) -> _Record:
        found = await self.call(b"HMGET", keys.file(check_key(key)), b"id", b"size", b"piece")
        if found[0] is None:
            raise ObjectNotFoundError("there is no such object in the storage")
        return _Record(found[0].decode(), int(found[1]), int(found[2]))

    async def _names(self, prefix: str) -> AsyncIterator[list[bytes]]:
        """In order, some at a time; those that are removed meanwhile do no harm."""
        after = f"[{prefix}".encode()
        while True:
            names: list[bytes] = await self.call(
                b"ZRANGEBYLEX", keys.FILE_NAMES, after, f"({prefix}\xff".encode("latin-1"),
                b"LIMIT", 0, LISTED_AT_ONCE,
            )  # fmt: skip
            if not names:
                return
            yield names
            after = b"(" + names[-1]


@dataclass(frozen=True, slots=True)
class _Record:
    """Which pieces are the file."""

    id: str
    size_bytes: int
    piece_bytes: int


class _Draft:
    """A file on its way, a piece at a time."""

    def __init__(self, storage: RedisStorage, limits: RedisFileLimits) -> None:
        self._storage = storage
        self._limits = limits
        self._id = os.urandom(16).hex()
        self._waiting = bytearray()
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._pieces = 0

    async def write(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._waiting += chunk
        while len(self._waiting) >= PIECE_BYTES:
            await self._send(bytes(self._waiting[:PIECE_BYTES]))
            del self._waiting[:PIECE_BYTES]

    async def publish(self, key: str) -> Stored:
        if self._waiting or not self._pieces:
            await self._send(bytes(self._waiting))
        is_whole = await self._storage.run(
            scripts.FILE_COMMIT, self._id, key, self._size_bytes, self._pieces, PIECE_BYTES,
            self._limits.seconds, GRACE_SECONDS,
        )  # fmt: skip
        if not is_whole:
            raise StorageUnavailableError("Redis has forgotten a part of the file")
        return Stored(self._size_bytes, self._sha256.hexdigest())

    async def discard(self) -> None:
        """What cannot be removed now expires."""
        if self._pieces:
            try:
                await self._storage.run(scripts.FILE_DROP, self._id, self._pieces, 0)
            except (StorageFullError, StorageUnavailableError):
                return

    async def _send(self, piece: bytes) -> None:
        # Counted before it is sent: it may arrive although no reply does.
        self._pieces += 1
        self._size_bytes += len(piece)
        has_room = await self._storage.run(
            scripts.FILE_PIECE, self._id, self._pieces, self._size_bytes + RECORD_BYTES,
            self._limits.all_bytes, STAGED_SECONDS, piece,
        )  # fmt: skip
        if not has_room:
            raise StorageFullError(FULL)


class _RedisContents:
    """Pieces of one file, which outlive its name for a moment."""

    def __init__(self, storage: RedisStorage, record: _Record, start: int, end: int) -> None:
        self._storage = storage
        self._record = record
        self._at = start
        self._end = end

    def __aiter__(self) -> _RedisContents:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self._end:
            raise StopAsyncIteration
        number, begin = divmod(self._at, self._record.piece_bytes)
        name = keys.file_piece(self._record.id, number + 1)
        piece: bytes | None = await self._storage.call(b"GET", name)
        if piece is None:
            raise StorageUnavailableError("Redis has forgotten a part of the file")
        wanted = piece[begin : begin + self._end - self._at]
        self._at += len(wanted)
        return wanted

    async def aclose(self) -> None:
        """Nothing is open."""
