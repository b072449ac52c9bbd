"""Records of uploads in memory, and a disk that is full."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Literal

from app.queue.errors import (
    OperationNotFoundError,
    QueueUnavailableError,
    ScheduleNotFoundError,
    SelectionNotFoundError,
)
from app.queue.records.acts import ActPage
from app.queue.records.drafts import Upload
from app.queue.records.failed import (
    FailureFilter,
    FailureGroup,
    FailurePage,
    OperationPage,
    OperationView,
    Order,
    Selection,
)
from app.queue.records.suppressed import Suppression, SuppressionPage
from app.schedule import Schedule, SchedulePage, ScheduleView
from app.storage import Contents, StorageUnavailableError, Stored

UNUSABLE = "the storage cannot be used"


@dataclass
class MemoryUploads:
    """Keeps to `app.http.ports.UploadRecords`. `fails_on` names the methods that find no Redis."""

    uploads: dict[str, Upload] = field(default_factory=dict)
    fails_on: set[str] = field(default_factory=set)
    held: dict[str, set[str]] = field(default_factory=dict)

    async def check(self) -> None:
        self._fail("check")

    async def add(self, upload: Upload) -> None:
        self._fail("add")
        self.uploads[upload.id] = upload

    async def get(self, upload_id: str) -> Upload | None:
        self._fail("get")
        return self.uploads.get(upload_id)

    async def remove(self, upload_id: str) -> None:
        self._fail("remove")
        self.uploads.pop(upload_id, None)

    async def hold(self, holds: Sequence[tuple[str, str]], now: datetime) -> None:
        self._fail("hold")
        for upload_id, job_id in holds:
            self.held.setdefault(upload_id, set()).add(job_id)

    async def retire(self, upload_id: str, now: datetime) -> bool:
        self._fail("remove")
        if upload_id not in self.held:
            return False
        self.uploads[upload_id] = replace(self.uploads[upload_id], expires_at=now)
        return True

    def _fail(self, method: str) -> None:
        if method in self.fails_on:
            raise QueueUnavailableError("Redis does not answer", retry_after_seconds=7)


class NoStorage:
    """Keeps to `app.storage.Storage`, and cannot be used now."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        raise StorageUnavailableError(UNUSABLE)

    async def put_file(self, key: str, path: Path, file: FileIO, limit_bytes: int) -> Stored:
        raise StorageUnavailableError(UNUSABLE)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        raise StorageUnavailableError(UNUSABLE)

    async def size(self, key: str) -> int:
        raise StorageUnavailableError(UNUSABLE)

    def local_path(self, key: str) -> None:
        raise StorageUnavailableError(UNUSABLE)

    async def delete(self, key: str) -> None:
        raise StorageUnavailableError(UNUSABLE)

    async def delete_under(self, prefix: str) -> None:
        raise StorageUnavailableError(UNUSABLE)

    async def prolong(self, prefix: str) -> None:
        raise StorageUnavailableError(UNUSABLE)

    async def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        raise StorageUnavailableError(UNUSABLE)
        yield prefix

    async def remove_drafts(self, before: datetime) -> int:
        raise StorageUnavailableError(UNUSABLE)

    async def check(self) -> None:
        raise StorageUnavailableError(UNUSABLE)

    async def aclose(self) -> None:
        """Nothing is open."""


class NoSuppressed:
    """Keeps to `app.http.ports.SuppressionRecords`, and has none."""

    async def page(self, limit: int, cursor: str | None) -> SuppressionPage:
        return SuppressionPage([], None)

    async def find(self, address: str) -> Suppression | None:
        return None

    async def remove(self, address: str, by: str) -> bool:
        return False


class NoFailures:
    """Keeps to `app.http.ports.FailureRecords`: nothing failed."""

    async def page(self, limit: int, cursor: str | None) -> FailurePage:
        return FailurePage([], None)

    async def group(self, fingerprint: str) -> FailureGroup | None:
        return None


class NoOperations:
    """Keeps to `app.http.ports.OperationRecords`, where nothing has failed."""

    async def select(self, wanted: FailureFilter) -> Selection:
        return Selection("s" * 35, 0, [])

    async def count(self, wanted: FailureFilter) -> int:
        return 0

    async def start(
        self, chosen: str | FailureFilter, order: Order, by: str, request_id: str
    ) -> OperationView:
        raise SelectionNotFoundError(chosen)

    async def page(self, limit: int, cursor: str | None) -> OperationPage:
        return OperationPage([], None)

    async def view(self, operation_id: str) -> OperationView:
        raise OperationNotFoundError(operation_id)

    async def act(
        self, operation_id: str, act: Literal["pause", "resume", "stop"], by: str
    ) -> OperationView:
        raise OperationNotFoundError(operation_id)


class NoSchedules:
    """Nothing runs again and again."""

    async def page(self, _: int, cursor: str | None) -> SchedulePage:
        return SchedulePage([], None)

    async def view(self, name: str) -> ScheduleView:
        raise ScheduleNotFoundError(name)

    async def create(self, _: Schedule, by: str, request_id: str) -> ScheduleView:
        raise NotImplementedError

    async def replace(self, _: Schedule, by: str, request_id: str) -> tuple[ScheduleView, bool]:
        raise NotImplementedError

    async def delete(self, name: str, by: str) -> None:
        raise ScheduleNotFoundError(name)


class NoActs:
    """Keeps to `app.http.ports.AuditRecords`: nobody did anything."""

    async def page(self, limit: int, cursor: str | None) -> ActPage:
        return ActPage([], None)


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """As a full disk does to a writer: no byte more than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
