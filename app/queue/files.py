"""What runs read: uploads and other jobs' artifacts, found in Redis and opened in storage."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.connection import until_answered
from app.queue.reading import artifacts_of, return_value_of
from app.storage import ObjectNotFoundError, Storage, StorageError, upload_key
from jobs.errors import PermanentError, RetryLater
from jobs.files import StoredFile

MISSING = "file_missing"
UNAVAILABLE = "storage_unavailable"


class RunFiles:
    """The worker's `context.files`. Who may read what was settled when the job was submitted."""

    def __init__(self, client: async_redis.Redis, storage: Storage) -> None:
        self._client = client
        self._storage = storage

    async def upload(self, upload_id: str) -> StoredFile:
        """See `jobs.files.Files`. A record outlives its promise while jobs need the upload."""
        record = await self._ask(lambda: self._client.hgetall(keys.upload(upload_id)))
        content_type = record.get(b"content_type")
        if content_type is None:
            raise PermanentError("an upload that the job names is gone", code=MISSING)
        name = record.get(b"filename")
        return await self._found(
            None if name is None else name.decode("utf-8", "replace"),
            content_type.decode("utf-8", "replace"),
            upload_key(upload_id),
        )

    async def artifact(self, job_id: str) -> StoredFile:
        """See `jobs.files.Files`."""
        status, text = await self._ask(
            lambda: self._client.hmget(keys.job(job_id), "status", "x_artifacts")
        )
        if status is None:
            raise PermanentError(
                "a job whose artifact this one names is no longer kept: its retention is over, or"
                " it was deleted",
                code=MISSING,
            )
        try:
            found = artifacts_of(job_id, json.loads(text or b"null"))
        except ValueError:
            found = []
        if not found:
            raise PermanentError("a job that this one names has left no artifact", code=MISSING)
        first = found[0]
        return await self._found(first["name"], first["content_type"], first["key"])

    async def result(self, job_id: str) -> Any:
        """See `jobs.files.Files`."""
        found = await self._ask(lambda: self._client.xrevrange(keys.results(job_id), count=1))
        if not found:
            raise PermanentError("the result of a job is no longer kept", code=MISSING)
        return return_value_of(found[0][1])

    async def _found(self, filename: str | None, content_type: str, key: str) -> StoredFile:
        try:
            size_bytes = await self._storage.size(key)
        except ObjectNotFoundError:
            raise PermanentError("a file that the job names is gone", code=MISSING) from None
        except StorageError as error:
            raise RetryLater(str(error), code=UNAVAILABLE) from None
        opener, path = partial(self._open, key), self._storage.local_path(key)
        return StoredFile(filename, content_type, size_bytes, opener, path)

    async def _open(self, key: str) -> AsyncGenerator[bytes, None]:
        try:
            contents = await self._storage.open(key)
        except ObjectNotFoundError:
            raise PermanentError("a file that the job names is gone", code=MISSING) from None
        except StorageError as error:
            raise RetryLater(str(error), code=UNAVAILABLE) from None

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                async for piece in contents:
                    yield piece
            except StorageError as error:
                raise RetryLater(str(error), code=UNAVAILABLE) from None
            finally:
                await contents.aclose()

        return pieces()

    async def _ask(self, asking: Callable[[], Awaitable[Any]]) -> Any:
        return await until_answered(asking)
