"""Uploads and artifacts: where their bytes are, behind one small interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?")


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


def bucket_of(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`. Raises ValueError."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if _BUCKET.fullmatch(parts.netloc) is None or parts.query or parts.fragment:
        raise ValueError("names no bucket: s3://bucket or s3://bucket/prefix")
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError("has a prefix with other characters than letters, digits and . _ - /")
    return parts.netloc, prefix


def folder_of(url: str) -> Path:
    """`file:relative` (to the working directory), `file:/absolute` or `file:///absolute`.

    Raises ValueError when it names no folder of this machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError("names another machine: file:/folder, or file:folder beside the program")
    path = unquote(parts.path)
    if not path or "\0" in path or parts.query or parts.fragment:
        raise ValueError("names no folder: file:/folder, or file:folder beside the program")
    return Path(path).absolute()
