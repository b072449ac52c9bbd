"""A storage that this release has no code for: the service runs, files are refused."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime

from app.storage.objects import Contents, StorageUnavailableError, Stored


class UnsupportedStorage:
    """Refuses everything, with a sentence that says why."""

    def __init__(self, scheme: str) -> None:
        self._reason = f"STORAGE_URL names {scheme}:, which this release cannot write; use file:"

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        raise StorageUnavailableError(self._reason)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        raise StorageUnavailableError(self._reason)

    async def size(self, key: str) -> int:
        raise StorageUnavailableError(self._reason)

    async def delete(self, key: str) -> None:
        raise StorageUnavailableError(self._reason)

    async def delete_under(self, prefix: str) -> None:
        raise StorageUnavailableError(self._reason)

    async def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        nothing: tuple[str, ...] = ()
        for key in nothing:
            yield key

    async def remove_drafts(self, before: datetime) -> int:
        return 0

    async def check(self) -> None:
        raise StorageUnavailableError(self._reason)

    async def aclose(self) -> None:
        """Nothing is open."""
