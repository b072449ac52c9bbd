"""Storage, wherever it keeps its files: what is in it is whole, however writers end."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

import pytest

from app.storage import (
    ObjectNotFoundError,
    ObjectTooLargeError,
    Storage,
    artifact_key,
    artifacts_prefix,
    upload_key,
)
from tests.stores import KINDS, MIB, Store, folder_store, pieces, read, redis_store, s3_store

KEY = "uploads/0123456789abcdef0123"
# More than a part of S3's, so that it is on its way before it has come whole.
LARGE = 6 * MIB


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "folder":
        opened = folder_store(tmp_path / "kept" / "storage")
    elif request.param == "s3":
        opened = s3_store(request.getfixturevalue("s3_server"))
    else:
        opened = redis_store(request.getfixturevalue("redis_url"))
    async with opened as store:
        yield store


@pytest.fixture
def storage(store: Store) -> Storage:
    return store.storage


async def broken(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    raise ConnectionResetError("the sender has gone")


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 5 * MIB, 12 * MIB + 7])
async def test_what_is_stored_is_read_back(storage: Storage, store: Store, size: int) -> None:
    data = os.urandom(size)

    stored = await storage.put(KEY, pieces(*(data[at : at + 70_001] for at in
                                             range(0, size, 70_001))), size)  # fmt: skip

    assert stored.size_bytes == size
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert await read(storage, KEY) == data
    assert await storage.size(KEY) == size
    assert await store.names() == [KEY]


async def test_any_part_can_be_read(storage: Storage) -> None:
    data = os.urandom(600_000)
    await storage.put(KEY, pieces(data), MIB)

    for start, end in [
        (0, 1), (5, 5), (3, None), (0, 10), (9, 10), (262_140, 262_150), (7, 99**9),
        (600_000, None), (700_000, 700_010), (262_144, 524_288), (9, 3),
    ]:  # fmt: skip
        assert await read(storage, KEY, start, end) == data[start:end]


async def test_sender_that_breaks_off_leaves_what_was_there(storage: Storage, store: Store) -> None:
    await storage.put(KEY, pieces(b"first"), 10)

    with pytest.raises(ConnectionResetError):
        await storage.put(KEY, broken(b"x" * LARGE, b"y" * MIB), 10 * MIB)

    assert await read(storage, KEY) == b"first"
    assert await store.names() == [KEY]


async def test_more_than_the_limit_leaves_nothing(storage: Storage, store: Store) -> None:
    with pytest.raises(ObjectTooLargeError) as caught:
        await storage.put(KEY, pieces(b"x" * LARGE, b"y"), LARGE)

    assert caught.value.limit_bytes == LARGE
    assert await store.names() == []
    with pytest.raises(ObjectNotFoundError):
        await storage.open(KEY)
    with pytest.raises(ObjectNotFoundError):
        await storage.size(KEY)


async def test_cancelled_writer_leaves_nothing(storage: Storage, store: Store) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * LARGE
        waiting.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(storage.put(KEY, endless(), 10 * MIB))
    await waiting.wait()
    (draft,) = await store.names()
    assert draft.endswith("?")
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert await store.names() == []


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 12 * MIB + 7])
async def test_file_that_is_stored_is_read_back(
    storage: Storage, store: Store, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)

    with FileIO(path) as file:
        stored = await storage.put_file(KEY, path, file, size)

    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await read(storage, KEY) == data
    assert await store.names() == [KEY]


async def test_file_over_the_limit_leaves_nothing(
    storage: Storage, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (LARGE + 1))

    with FileIO(path) as file, pytest.raises(ObjectTooLargeError):
        await storage.put_file(KEY, path, file, LARGE)

    assert await store.names() == []


async def test_writers_of_one_key_never_mix(storage: Storage, store: Store) -> None:
    parts = [bytes([letter]) * 100_000 for letter in b"abcd"]

    await asyncio.gather(*(storage.put(KEY, pieces(*[part] * 7), MIB) for part in parts))

    assert await read(storage, KEY) in [part * 7 for part in parts]
    assert await store.names() == [KEY]


async def test_reader_keeps_what_it_began_to_read(storage: Storage) -> None:
    old, new = os.urandom(MIB), os.urandom(MIB)
    await storage.put(KEY, pieces(old), MIB)
    contents = await storage.open(KEY)
    beginning = await anext(contents)

    await storage.put(KEY, pieces(new), MIB)
    rest = [piece async for piece in contents]
    await contents.aclose()

    assert beginning + b"".join(rest) == old
    assert await read(storage, KEY) == new


async def test_what_is_deleted_is_gone(storage: Storage, store: Store) -> None:
    await storage.put(KEY, pieces(b"x"), 10)

    await storage.delete(KEY)

    assert await store.names() == []
    with pytest.raises(ObjectNotFoundError):
        await storage.open(KEY)
    await storage.delete(KEY)
    await storage.delete_under("artifacts/nothing/")


async def test_everything_of_a_job_goes_together(storage: Storage, store: Store) -> None:
    for attempt in (1, 2):
        await storage.put(artifact_key("j1", attempt, "a.csv"), pieces(b"1"), 10)
    await storage.put(artifact_key("j10", 1, "a.csv"), pieces(b"2"), 10)

    await storage.delete_under(artifacts_prefix("j1"))

    assert await store.names() == ["artifacts/j10/1/a.csv"]


async def test_key_that_could_name_something_else_is_refused(storage: Storage) -> None:
    for key in [
        "", "uploads", "uploads/", "/etc/passwd", "uploads/../x", "uploads/..", "uploads/.hidden",
        "uploads//x", "uploads/a\0b", "uploads/a b", "uploads/ä", "uploads/x\n", "uploads/x/",
        "uploads/" + "x" * 10_000, "a/b/c/d/e/f", ".drafts/x",
    ]:  # fmt: skip
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


async def test_objects_are_listed_by_prefix_and_age(storage: Storage) -> None:
    keys = [KEY, "artifacts/j1/1/a", "artifacts/j1/2/b", "artifacts/j2/1/a"]
    for key in keys:
        await storage.put(key, pieces(b"x"), 10)
    later, earlier = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, -1))

    assert [key async for key in storage.older_than("uploads/", later)] == [KEY]
    assert {key async for key in storage.older_than("artifacts/", later)} == set(keys[1:])
    assert [key async for key in storage.older_than("artifacts/", earlier)] == []
    assert [key async for key in storage.older_than("nothing/", later)] == []


async def test_checking_leaves_nothing(storage: Storage, store: Store) -> None:
    await storage.check()

    assert await store.names() == []
