"""What a storage can do, the names in it, and how it fails: as facts, without HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Protocol, Self

# Parts that begin with a dot are the storage's own; that bars `.` and `..` too.
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
# A file is read in such pieces on its way to a storage elsewhere.
FILE_PIECE_BYTES = 1024 * 1024
_ONE_PART = re.compile(_PART)
_KEY = re.compile(rf"{_PART}(/{_PART}){{1,4}}")


class StorageError(Exception):
    """A storage did not do what was asked. The message is fit for a client's eyes."""


class StorageFullError(StorageError):
    """There is no room for more."""


class StorageUnavailableError(StorageError):
    """It cannot be reached or written; trying again later may help."""


class ObjectNotFoundError(StorageError):
    """Nothing is stored under that key."""


class ObjectTooLargeError(StorageError):
    """More bytes came than may be stored; nothing was."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"at most {limit_bytes} bytes are stored")
        self.limit_bytes = limit_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written. `sha256` is hexadecimal."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RedisFileLimits:
    """Bytes of one file in Redis and of all together, and the seconds after which each goes."""

    file_bytes: int
    all_bytes: int
    seconds: int


class Contents(Protocol):
    """The bytes of one object, in pieces; to be closed, read to the end or not."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Storage(Protocol):
    """Objects by key. Every method raises StorageUnavailableError when it cannot be done now."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        """Store all of `chunks` under the key, durably, or nothing.

        Readers see the old object or the new one whole. What `chunks` raises goes through.
        Raises StorageFullError, ObjectTooLargeError.
        """
        ...

    async def put_file(self, key: str, path: Path, file: FileIO, limit_bytes: int) -> Stored:
        """`put` of a file of this machine, open as `file` from its start, whose writer has ended.

        It may be taken away from `path`, stored or not.
        """
        ...

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        """The bytes from `start` up to but not `end`, as they are now, whoever replaces them.

        Raises ObjectNotFoundError.
        """
        ...

    async def size(self, key: str) -> int:
        """In bytes. Raises ObjectNotFoundError."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this machine, to be read; None when it is not on its disk."""
        ...

    async def delete(self, key: str) -> None:
        """Nothing there is fine too."""
        ...

    async def delete_under(self, prefix: str) -> None:
        """Every object whose key begins so; the prefix ends in a slash."""
        ...

    async def prolong(self, prefix: str) -> None:
        """Objects whose key begins so are still needed: they are kept as long again, where they
        would go by themselves."""
        ...

    def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        """Keys of what was stored before then, in no order."""
        ...

    async def remove_drafts(self, before: datetime) -> int:
        """What a writer that died left half-written and untouched since then; how many."""
        ...

    async def check(self) -> None:
        """Return when an object could be stored now."""
        ...

    async def aclose(self) -> None: ...


async def pieces_of(file: FileIO) -> AsyncIterator[bytes]:
    """What is left to read of it."""
    while piece := await asyncio.to_thread(file.read, FILE_PIECE_BYTES):
        yield piece


def check_key(key: str) -> str:
    """The key itself. Raises ValueError for one that could name something else."""
    if _KEY.fullmatch(key) is None:
        raise ValueError("this is no storage key")
    return key


def upload_key(upload_id: str) -> str:
    return f"uploads/{_part(upload_id)}"


def artifacts_prefix(job_id: str) -> str:
    """What the keys of all artifacts of a job begin with."""
    return f"artifacts/{_part(job_id)}/"


def artifact_key(job_id: str, attempt: int, name: str) -> str:
    """Of one run: a late run must not replace what another has reported."""
    return f"artifacts/{_part(job_id)}/{attempt}/{_part(name)}"


def _part(name: str) -> str:
    if _ONE_PART.fullmatch(name) is None:
        raise ValueError("this is no storage key")
    return name
