"""Uploads and artifacts: where their bytes are, behind one small interface."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.storage.folder import FolderStorage
from app.storage.objects import (
    Contents,
    ObjectNotFoundError,
    ObjectTooLargeError,
    Storage,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    Stored,
    artifact_key,
    artifacts_prefix,
    upload_key,
)
from app.storage.unsupported import UnsupportedStorage

__all__ = [
    "Contents",
    "FolderStorage",
    "ObjectNotFoundError",
    "ObjectTooLargeError",
    "Storage",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "Stored",
    "UnsupportedStorage",
    "artifact_key",
    "artifacts_prefix",
    "folder_of",
    "open_storage",
    "upload_key",
]


def open_storage(url: str) -> Storage:
    """The storage of a STORAGE_URL. Nothing is touched yet: `check` tells whether it works."""
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return FolderStorage(folder_of(url))
    return UnsupportedStorage(scheme)


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
