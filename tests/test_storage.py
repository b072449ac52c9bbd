"""Storage in a folder: what is in it is whole, however writers end."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.storage import (
    FolderStorage,
    ObjectNotFoundError,
    ObjectTooLargeError,
    Storage,
    StorageFullError,
    StorageUnavailableError,
    artifact_key,
    artifacts_prefix,
    open_storage,
    upload_key,
)
from tests.file_doubles import files_end_at

KEY = "uploads/0123456789abcdef0123"
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "storage"


@pytest.fixture
async def storage(root: Path) -> AsyncIterator[Storage]:
    opened = open_storage(f"file:{root}")
    yield opened
    await opened.aclose()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise ConnectionResetError("the sender has gone")


async def read(storage: Storage, key: str, start: int = 0, end: int | None = None) -> bytes:
    contents = await storage.open(key, start, end)
    try:
        return b"".join([piece async for piece in contents])
    finally:
        await contents.aclose()


def files(root: Path) -> list[str]:
    """What lies in the storage's folder, drafts among it."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def age(path: Path, by: timedelta) -> None:
    then = (datetime.now(UTC) - by).timestamp()
    os.utime(path, (then, then))


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 3 * MIB + 7])
async def test_what_is_stored_is_read_back(storage: Storage, root: Path, size: int) -> None:
    data = os.urandom(size)

    stored = await storage.put(KEY, pieces(*(data[at : at + 70_001] for at in
                                             range(0, size, 70_001))), size)  # fmt: skip

    assert stored.size_bytes == size
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert await read(storage, KEY) == data
    assert await storage.size(KEY) == size
    assert files(root) == [KEY]


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 5), (3, None), (0, 10), (9, 10), (262_140, 262_150), (7, 99**9)]
)
async def test_any_part_can_be_read(storage: Storage, start: int, end: int | None) -> None:
    data = os.urandom(300_000)
    await storage.put(KEY, pieces(data), MIB)

    assert await read(storage, KEY, start, end) == data[start:end]


async def test_nobody_else_on_the_machine_may_read_it(storage: Storage, root: Path) -> None:
    await storage.put(KEY, pieces(b"secret"), 10)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}

    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert modes[root / KEY] == 0o600


async def test_sender_that_breaks_off_leaves_what_was_there(storage: Storage, root: Path) -> None:
    await storage.put(KEY, pieces(b"first"), 10)

    with pytest.raises(ConnectionResetError):
        await storage.put(KEY, broken(b"x" * MIB, b"y" * MIB), 10 * MIB)

    assert await read(storage, KEY) == b"first"
    assert files(root) == [KEY]


async def test_more_than_the_limit_leaves_nothing(storage: Storage, root: Path) -> None:
    with pytest.raises(ObjectTooLargeError):
        await storage.put(KEY, pieces(b"x" * MIB, b"y"), MIB)

    assert files(root) == []
    with pytest.raises(ObjectNotFoundError):
        await storage.open(KEY)


async def test_cancelled_writer_leaves_nothing(storage: Storage, root: Path) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        waiting.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(storage.put(KEY, endless(), 10 * MIB))
    await waiting.wait()
    assert len(files(root)) == 1
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert files(root) == []


async def test_writers_of_one_key_never_mix(storage: Storage, root: Path) -> None:
    parts = [bytes([letter]) * 100_000 for letter in b"abcdefgh"]

    await asyncio.gather(*(storage.put(KEY, pieces(*[part] * 7), MIB) for part in parts))

    assert await read(storage, KEY) in [part * 7 for part in parts]
    assert files(root) == [KEY]


async def test_reader_keeps_what_it_began_to_read(storage: Storage) -> None:
    old, new = os.urandom(MIB), os.urandom(MIB)
    await storage.put(KEY, pieces(old), MIB)
    contents = await storage.open(KEY)
    beginning = await anext(contents)

    await storage.put(KEY, pieces(new), MIB)
    rest = [piece async for piece in contents]
    await storage.delete(KEY)
    await contents.aclose()

    assert beginning + b"".join(rest) == old


async def test_deleting_what_is_not_there_is_no_error(storage: Storage) -> None:
    await storage.delete(KEY)
    await storage.delete_under("artifacts/nothing/")


async def test_everything_of_a_job_goes_together(storage: Storage, root: Path) -> None:
    for attempt in (1, 2):
        await storage.put(artifact_key("j1", attempt, "a.csv"), pieces(b"1"), 10)
    await storage.put(artifact_key("j10", 1, "a.csv"), pieces(b"2"), 10)

    await storage.delete_under(artifacts_prefix("j1"))

    assert files(root) == ["artifacts/j10/1/a.csv"]


@pytest.mark.parametrize(
    "key",
    [
        "", "uploads", "uploads/", "/etc/passwd", "uploads/../x", "uploads/..", "uploads/.hidden",
        "uploads//x", "uploads/a\0b", "uploads/a b", "uploads/ä", "uploads/x\n", "uploads/x/",
        "uploads/" + "x" * 10_000, "a/b/c/d/e/f", ".drafts/x",
    ],
)  # fmt: skip
async def test_key_that_could_name_something_else_is_refused(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="no storage key"):
        await storage.put(key, pieces(b"x"), 10)
    with pytest.raises(ValueError, match="no storage key"):
        await storage.open(key)


def test_ids_from_outside_cannot_leave_their_place() -> None:
    for hostile in ("../x", "a/b", "", ".", "x" * 200):
        with pytest.raises(ValueError, match="no storage key"):
            upload_key(hostile)
        with pytest.raises(ValueError, match="no storage key"):
            artifacts_prefix(hostile)
        with pytest.raises(ValueError, match="no storage key"):
            artifact_key("job", 1, hostile)


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
    storage: Storage, root: Path
) -> None:
    await storage.check()
    for name, hours in (("old", 30), ("new", 1)):
        (root / ".drafts" / name).write_bytes(b"half")
        age(root / ".drafts" / name, timedelta(hours=hours))

    removed = await storage.remove_drafts(datetime.now(UTC) - timedelta(days=1))

    assert removed == 1
    assert files(root) == [".drafts/new"]


async def test_full_disk_is_told_and_leaves_nothing(storage: Storage, root: Path) -> None:
    with files_end_at(MIB), pytest.raises(StorageFullError):
        await storage.put(KEY, pieces(b"x" * (2 * MIB)), 10 * MIB)

    assert files(root) == []


async def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = FolderStorage(tmp_path / "file" / "storage")

    for attempt in (storage.put(KEY, pieces(b"x"), 10), storage.check(), storage.open(KEY)):
        with pytest.raises(StorageUnavailableError):
            await attempt
    await storage.aclose()


async def test_other_storages_refuse_with_a_reason() -> None:
    for url in ("s3://bucket/prefix", "redis:"):
        storage = open_storage(url)
        with pytest.raises(StorageUnavailableError, match="STORAGE_URL names"):
            await storage.put(KEY, pieces(b"x"), 10)
        with pytest.raises(StorageUnavailableError):
            await storage.open(KEY)
        assert [key async for key in storage.older_than("uploads/", datetime.now(UTC))] == []
