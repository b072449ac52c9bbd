"""Storage in a folder of this machine, or of a disk that the machines share."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Protocol, TypeVar

from app.storage.drafts import DRAFTS, PIECE_BYTES, Draft
from app.storage.objects import (
    Contents,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageFullError,
    StorageUnavailableError,
    Stored,
    check_key,
)

T = TypeVar("T")


class Do(Protocol):
    """Runs blocking work in a thread."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


THREADS = 8
LISTED_AT_ONCE = 500
# EFBIG: a limit on the size of files, set for the process or by the file system.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FolderStorage:
    """Keeps each object as a file named by its key; nobody else's to read (0700, 0600).

    A draft becomes the object by a rename after fsync, so that no crash leaves half of one
    (drafts.py).
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # Of its own: a slow disk must not keep the loop's other threads from their work.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        path = self._path(key)
        draft = Draft(self._root)
        try:
            await self._do(draft.begin)
            size_bytes, waiting = 0, bytearray()
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise ObjectTooLargeError(limit_bytes)
                waiting += chunk
                if len(waiting) >= PIECE_BYTES:
                    await self._do(partial(draft.write, waiting))
                    waiting = bytearray()
            await self._do(partial(draft.write, waiting))
            return await self._do(partial(draft.publish, path))
        finally:
            await self._do(draft.discard)

    async def put_file(self, key: str, path: Path, file: FileIO, limit_bytes: int) -> Stored:
        target = self._path(key)
        given_up = threading.Event()

        def store() -> Stored:
            draft = Draft(self._root)
            try:
                draft.take(path, file, limit_bytes, given_up)
                return draft.publish(target)
            finally:
                draft.discard()

        return await self._do(store, given_up)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        contents = _FolderContents(self._do, self._path(key), start, end)
        try:
            await self._do(contents.begin)
        except BaseException:
            await contents.aclose()
            raise
        return contents

    async def size(self, key: str) -> int:
        path = self._path(key)

        def look() -> int:
            with _missing_is_not_found():
                return path.stat(follow_symlinks=False).st_size

        return await self._do(look)

    def local_path(self, key: str) -> Path:
        return self._path(key)

    async def delete(self, key: str) -> None:
        await self._do(partial(self._path(key).unlink, missing_ok=True))

    async def delete_under(self, prefix: str) -> None:
        folder = self._path(prefix.removesuffix("/"))

        def remove() -> None:
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)

        await self._do(remove)

    async def prolong(self, prefix: str) -> None:
        """Nothing goes by itself."""

    async def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        found = _files(self._root / prefix.removesuffix("/"), before.timestamp())
        while paths := await self._do(lambda: list(islice(found, LISTED_AT_ONCE))):
            for path in paths:
                yield path.relative_to(self._root).as_posix()

    async def remove_drafts(self, before: datetime) -> int:
        def remove() -> int:
            stale = list(_files(self._root / DRAFTS, before.timestamp()))
            for path in stale:
                path.unlink(missing_ok=True)
            return len(stale)

        return await self._do(remove)

    async def check(self) -> None:
        draft = Draft(self._root)
        try:
            await self._do(draft.begin)
        finally:
            await self._do(draft.discard)

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    async def _do(self, work: Callable[[], T], given_up: threading.Event | None = None) -> T:
        """Run it in a thread, and to its end: nothing may clean up while it still writes.

        `given_up` tells work that can end early that nobody waits for it any more.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        with _our_errors():
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if given_up is not None:
                    given_up.set()
                await asyncio.wait({future})
                raise


class _FolderContents:
    """An open file: it stays readable when the object is replaced or deleted."""

    def __init__(self, do: Do, path: Path, start: int, end: int | None) -> None:
        self._do = do
        self._path = path
        self._file: FileIO | None = None
        self._at = start
        self._end = end

    def begin(self) -> None:
        with _missing_is_not_found():
            self._file = FileIO(self._path, "rb", opener=_never_waiting)
            if not S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise FileNotFoundError(self._path)

    def __aiter__(self) -> _FolderContents:
        return self

    async def __anext__(self) -> bytes:
        count = PIECE_BYTES
        if self._end is not None:
            count = min(count, self._end - self._at)
        if count <= 0 or self._file is None:
            raise StopAsyncIteration
        piece = await self._do(partial(os.pread, self._file.fileno(), count, self._at))
        if not piece:
            raise StopAsyncIteration
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        if self._file is not None:
            self._file.close()


def _never_waiting(path: str, flags: int) -> int:
    # Whatever somebody has put there: a pipe would hold the thread for ever.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _files(folder: Path, before: float) -> Iterator[Path]:
    """Files under it that were last written before then; what vanishes meanwhile is left out."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path), before)
                elif entry.stat(follow_symlinks=False).st_mtime < before:
                    yield Path(entry.path)


@contextmanager
def _missing_is_not_found() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError("there is no such object in the storage") from error


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError("the disk of the storage is full") from error
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        raise StorageUnavailableError(f"the folder of the storage cannot be used: {why}") from error
