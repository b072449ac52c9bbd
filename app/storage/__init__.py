"""Uploads and artifacts: where their bytes are, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from app.storage.objects import (
    Contents,
    ObjectNotFoundError,
    ObjectTooLargeError,
    RedisFileLimits,
    Storage,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    Stored,
    artifact_key,
    artifacts_prefix,
    check_key,
    pieces_of,
    upload_key,
)
from app.storage.s3_signing import S3Access
from app.storage_url import bucket_of, folder_of

__all__ = [
    "Contents",
    "ObjectNotFoundError",
    "ObjectTooLargeError",
    "RedisFileLimits",
    "S3Access",
    "Storage",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "Stored",
    "artifact_key",
    "artifacts_prefix",
    "bucket_of",
    "check_key",
    "folder_of",
    "open_storage",
    "pieces_of",
    "upload_key",
]


def open_storage(url: str, s3_access: S3Access | None, in_redis: Callable[[], Storage]) -> Storage:
    """The storage of a STORAGE_URL. Nothing is touched yet: `check` tells whether it works.

    `in_redis` makes the one that app/queue has, for `redis:`.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from app.storage.folder import FolderStorage  # noqa: PLC0415 - settings need none

        return FolderStorage(folder_of(url))
    if scheme == "redis":
        return in_redis()
    assert s3_access is not None, "the settings see to it"
    from app.storage.s3 import S3Storage  # noqa: PLC0415 - an HTTP client, for those who need it

    return S3Storage(s3_access, *bucket_of(url))
