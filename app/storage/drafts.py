"""A file on its way to become an object of a folder: written, or taken as it is."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import sys
import threading
from io import FileIO
from pathlib import Path

from app.storage.objects import ObjectTooLargeError, StorageUnavailableError, Stored

PIECE_BYTES = 256 * 1024
# Of a file that is copied at one go: fits the processor's cache, and few calls are left.
_TAKEN_BYTES = 1024 * 1024
# Begins with a dot, as no part of a key does.
DRAFTS = ".drafts"


class Draft:
    """Becomes the object by a rename after fsync, so that no crash leaves half of one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / DRAFTS / os.urandom(16).hex()
        self._file: FileIO | None = None
        self._moved: FileIO | None = None
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def begin(self) -> None:
        _make_folder(self._path.parent, self._root)
        self._file = FileIO(self._path, "xb", opener=_only_ours)

    def write(self, data: bytearray | memoryview) -> None:
        assert self._file is not None
        view = memoryview(data)
        self._sha256.update(view)
        while view:
            written = self._file.write(view)
            self._size_bytes += written
            view = view[written:]

    def take(self, path: Path, file: FileIO, limit_bytes: int, given_up: threading.Event) -> None:
        """All that is in the file at `path`, which is open as `file`.

        The file itself where nobody can write to it any more, and no byte is copied; a copy of
        what it has now elsewhere. Raises ObjectTooLargeError.
        """
        if os.fstat(file.fileno()).st_size > limit_bytes:
            raise ObjectTooLargeError(limit_bytes)
        is_moved = self._move(path, file)
        if not is_moved:
            self.begin()
        buffer = memoryview(bytearray(_TAKEN_BYTES))
        while count := file.readinto(buffer):
            if given_up.is_set():
                raise StorageUnavailableError("nobody waits for the file any more")
            if self._size_bytes + count > limit_bytes:
                raise ObjectTooLargeError(limit_bytes)
            if is_moved:
                self._sha256.update(buffer[:count])
                self._size_bytes += count
            else:
                self.write(buffer[:count])

    def publish(self, path: Path) -> Stored:
        written = self._file if self._file is not None else self._moved
        assert written is not None
        os.fsync(written.fileno())
        for last_try in (False, True):
            _make_folder(path.parent, self._root)
            try:
                self._path.replace(path)
                break
            except FileNotFoundError:
                # Somebody has just deleted all that was in the folder, and with it the folder.
                if last_try:
                    raise
        _sync_folder(path.parent)
        return Stored(self._size_bytes, self._sha256.hexdigest())

    def discard(self) -> None:
        """Close, and leave nothing unless it was published."""
        if self._file is not None:
            self._file.close()
        if self._file is not None or self._moved is not None:
            self._path.unlink(missing_ok=True)

    def _move(self, path: Path, file: FileIO) -> bool:
        """Whether the file itself is the draft now: on the same file system, under no second
        name, and open for writing nowhere."""
        status = os.fstat(file.fileno())
        if status.st_nlink != 1 or status.st_uid != os.geteuid():
            return False
        _make_folder(self._path.parent, self._root)
        # Its writer may have given it any time, and old drafts are tidied away.
        os.utime(file.fileno())
        try:
            path.rename(self._path)
        except OSError:
            return False  # on another disk, most likely
        # From here on nobody finds it by its name who could open it for writing.
        named = self._path.stat(follow_symlinks=False)
        is_same = (named.st_dev, named.st_ino, named.st_nlink) == (status.st_dev, status.st_ino, 1)
        if not is_same or is_written(file):
            self._path.unlink()
            return False
        self._moved = file
        os.fchmod(file.fileno(), 0o600)
        return True


def is_written(file: FileIO) -> bool:
    """Whether anybody could write to the open file without opening it anew; so, too, where that
    cannot be known.

    A run's own process has ended by now, and its group was sent SIGKILL, but a program that left
    the group, or a thread of an `async def` job, may hold the file open or mapped. Linux grants a
    read lease only where nobody does (fcntl(2), "Leases").
    """
    if sys.platform != "linux":
        return True
    try:
        # What tells of a lease that is broken would otherwise end this process.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_folder(folder: Path, root: Path) -> None:
    """With its parents, each durably there when this returns."""
    if folder.is_dir():
        return
    if folder == root:
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        _make_folder(folder.parent, root)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
