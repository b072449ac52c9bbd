"""From what a job wrote into its run's folder to artifacts in storage; and the folders."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

from app.storage import ObjectTooLargeError, Storage, artifact_key
from jobs.context import ARTIFACT_COUNT, Artifact
from jobs.errors import PermanentError

_PREFIX = "recado-worker-"
_LOCK = "lock"
# A worker that has just made its folder may not have locked it yet.
_UNLOCKED_SECONDS = 60.0


class ArtifactKeeper:
    """Stores what runs leave behind; nothing larger than the limit."""

    def __init__(self, storage: Storage, limit_bytes: int) -> None:
        self._storage = storage
        self._limit_bytes = limit_bytes

    async def keep(
        self, job_id: str, attempt: int, folder: Path, declared: Sequence[Artifact]
    ) -> list[dict[str, Any]]:
        """Store each and return the job's records of them, in the order of declaration.

        Raises PermanentError for a file that is missing, no plain file or too large, and
        StorageError.
        """
        if len(declared) > ARTIFACT_COUNT:
            raise PermanentError(f"at most {ARTIFACT_COUNT} artifacts", code="bad_artifact")
        records = []
        for artifact in declared:
            key, path = _key(job_id, attempt, artifact.name), folder / artifact.name
            try:
                with await asyncio.to_thread(_opened, path) as file:
                    stored = await self._storage.put_file(key, path, file, self._limit_bytes)
            except ObjectTooLargeError:
                raise PermanentError(
                    f"the artifact {artifact.name} has more than {self._limit_bytes} bytes",
                    code="bad_artifact",
                ) from None
            records.append(
                {
                    "name": artifact.name,
                    "size": stored.size_bytes,
                    "content_type": artifact.content_type,
                    "sha256": stored.sha256,
                    "key": key,
                }
            )
        return records


def _key(job_id: str, attempt: int, name: str) -> str:
    try:
        return artifact_key(job_id, attempt, name)
    except ValueError:
        raise PermanentError(
            f"the artifact {name[:100]!r} of this job cannot be named in storage",
            code="bad_artifact",
        ) from None


def _opened(path: Path) -> FileIO:
    try:
        file = FileIO(path, "rb", opener=_plainly)
    except OSError as error:
        raise PermanentError(
            f"the artifact {path.name} was announced, and cannot be read:"
            f" {error.strerror or type(error).__name__}",
            code="bad_artifact",
        ) from error
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PermanentError(f"the artifact {path.name} is no file", code="bad_artifact")
    return file


def _plainly(path: str, flags: int) -> int:
    # A link would let a job publish what it may read elsewhere; a pipe would wait for ever.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


class Workspace:
    """A temporary folder of this worker, in which each run gets a name of its own.

    Its lock lives as long as the worker does, whatever ends it: so the next one knows which
    folders nobody uses any more.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock: FileIO | None = None

    def open(self) -> None:
        """Remove what dead workers left, and make our own."""
        _remove_stale(Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = FileIO(self._folder / _LOCK, "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def folder_of(self, execution: str) -> Path:
        """Where a run may write. Made by whoever writes first: most runs never do."""
        if self._folder is None:
            self.open()
        assert self._folder is not None
        return self._folder / execution

    async def remove(self, folder: Path) -> None:
        if os.access(folder, os.F_OK):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and not _is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    try:
        lock = FileIO(folder / _LOCK, "r+")
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime < _UNLOCKED_SECONDS
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
