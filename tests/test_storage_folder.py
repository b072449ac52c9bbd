"""Storage in a folder: what only files can have go wrong."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import FileIO
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.storage import (
    ObjectNotFoundError,
    Storage,
    StorageFullError,
    StorageUnavailableError,
)
from app.storage.folder import FolderStorage
from tests.file_doubles import files_end_at
from tests.stores import MIB, Store, folder_store, pieces

KEY = "uploads/0123456789abcdef0123"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "storage"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[Store]:
    async with folder_store(root) as store:
        yield store


@pytest.fixture
def storage(store: Store) -> Storage:
    return store.storage


def age(path: Path, by: timedelta) -> None:
    then = (datetime.now(UTC) - by).timestamp()
    os.utime(path, (then, then))


async def test_nobody_else_on_the_machine_may_read_it(storage: Storage, root: Path) -> None:
    await storage.put(KEY, pieces(b"secret"), 10)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}

    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert modes[root / KEY] == 0o600


async def test_what_is_no_file_is_no_object(storage: Storage, root: Path) -> None:
    await storage.put(KEY, pieces(b"x"), 10)
    os.mkfifo(root / "uploads/pipe")
    (root / "uploads/link").symlink_to("/etc/passwd")

    with pytest.raises(ObjectNotFoundError):
        await storage.open("uploads/pipe")
    with pytest.raises(StorageUnavailableError):
        await storage.open("uploads/link")


async def test_old_objects_are_listed(storage: Storage, root: Path) -> None:
    keys = [KEY, "uploads/young", "artifacts/j1/1/a", "artifacts/j1/2/b", "artifacts/j2/1/a"]
    for key in keys:
        await storage.put(key, pieces(b"x"), 10)
        age(root / key, timedelta(hours=0 if "young" in key else 3))
    before = datetime.now(UTC) - timedelta(hours=1)

    assert [key async for key in storage.older_than("uploads/", before)] == [KEY]
    assert {key async for key in storage.older_than("artifacts/", before)} == set(keys[2:])
    assert [key async for key in storage.older_than("nothing/", before)] == []


async def test_only_drafts_that_nobody_writes_any_more_are_removed(
    storage: Storage, store: Store, root: Path
) -> None:
    await storage.check()
    for name, hours in (("old", 30), ("new", 1)):
        (root / ".drafts" / name).write_bytes(b"half")
        age(root / ".drafts" / name, timedelta(hours=hours))

    removed = await storage.remove_drafts(datetime.now(UTC) - timedelta(days=1))

    assert removed == 1
    assert await store.names() == [".drafts/new?"]


async def test_full_disk_is_told_and_leaves_nothing(storage: Storage, store: Store) -> None:
    with files_end_at(MIB), pytest.raises(StorageFullError):
        await storage.put(KEY, pieces(b"x" * (2 * MIB)), 10 * MIB)

    assert await store.names() == []


async def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = FolderStorage(tmp_path / "file" / "storage")

    for attempt in (storage.put(KEY, pieces(b"x"), 10), storage.check(), storage.open(KEY)):
        with pytest.raises(StorageUnavailableError):
            await attempt
    await storage.aclose()


class TestFilesThatAreThere:
    """A finished file becomes the object itself, unless somebody could still change it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "answer.csv"
        path.write_bytes(b"a,b\n")
        return path

    async def put(self, storage: Storage, path: Path) -> None:
        with FileIO(path) as file:
            await storage.put_file(KEY, path, file, MIB)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has it open")
    async def test_no_byte_is_copied(self, storage: Storage, root: Path, path: Path) -> None:
        inode = path.stat().st_ino

        await self.put(storage, path)

        assert (root / KEY).stat().st_ino == inode
        assert not path.exists()

    async def test_it_is_young_and_nobody_elses_to_read(
        self, storage: Storage, root: Path, path: Path
    ) -> None:
        path.chmod(0o777)
        age(path, timedelta(days=3))

        await self.put(storage, path)

        assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o600
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        assert [key async for key in storage.older_than("uploads/", an_hour_ago)] == []

    async def test_who_has_it_open_cannot_change_what_is_stored(
        self, storage: Storage, root: Path, path: Path
    ) -> None:
        with path.open("r+b") as writer:
            await self.put(storage, path)
            writer.write(b"changed")

        assert (root / KEY).read_bytes() == b"a,b\n"

    async def test_who_has_it_mapped_cannot_change_what_is_stored(
        self, storage: Storage, root: Path, path: Path
    ) -> None:
        with path.open("r+b") as writer:
            mapped = mmap(writer.fileno(), 0)
        await self.put(storage, path)
        mapped[0:1] = b"X"
        mapped.close()

        assert (root / KEY).read_bytes() == b"a,b\n"

    async def test_who_has_it_under_another_name_cannot_change_what_is_stored(
        self, storage: Storage, root: Path, path: Path
    ) -> None:
        other = path.with_name("other")
        other.hardlink_to(path)

        await self.put(storage, path)
        other.write_bytes(b"changed")

        assert (root / KEY).read_bytes() == b"a,b\n"

    async def test_what_is_open_is_stored_whatever_has_its_name_by_now(
        self, storage: Storage, root: Path, path: Path
    ) -> None:
        with FileIO(path) as file:
            path.rename(path.with_name("moved"))
            path.write_bytes(b"another")
            await storage.put_file(KEY, path, file, MIB)

        assert (root / KEY).read_bytes() == b"a,b\n"

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is one file system")
    async def test_file_of_another_disk_is_copied(self, storage: Storage, root: Path) -> None:
        with TemporaryDirectory(dir="/dev/shm") as folder:
            path = Path(folder) / "answer.csv"
            path.write_bytes(b"c,d\n")
            await self.put(storage, path)

        assert (root / KEY).read_bytes() == b"c,d\n"

    async def test_full_disk_is_told_and_leaves_nothing(
        self, storage: Storage, store: Store, path: Path
    ) -> None:
        path.write_bytes(b"x" * MIB)
        path.with_name("second name").hardlink_to(path)

        with files_end_at(MIB // 2), pytest.raises(StorageFullError):
            await self.put(storage, path)

        assert await store.names() == []

    @pytest.mark.parametrize("is_copied", [False, True])
    async def test_cancelled_writer_leaves_nothing(
        self, storage: Storage, store: Store, path: Path, is_copied: bool
    ) -> None:
        if is_copied:
            path.with_name("second name").hardlink_to(path)
        file = _Held(path)
        with file:
            storing = asyncio.create_task(storage.put_file(KEY, path, file, MIB))
            await asyncio.to_thread(file.is_read.wait)
            assert len(await store.names()) == 1
            storing.cancel()
            await asyncio.sleep(0)  # it hears of that
            file.goes_on.set()
            with pytest.raises(asyncio.CancelledError):
                await storing

        assert await store.names() == []


class _Held(FileIO):
    """A file whose reader waits behind the first piece."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.is_read = threading.Event()
        self.goes_on = threading.Event()

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self.is_read.set()
        self.goes_on.wait()
        return count
