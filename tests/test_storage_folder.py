"""Storage in a folder: what only files can have go wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
