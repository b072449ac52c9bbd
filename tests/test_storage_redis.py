"""Storage in Redis: it stays within its budget, and leaves the rest to the jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from app.storage import (
    ObjectNotFoundError,
    ObjectTooLargeError,
    RedisFileLimits,
    StorageFullError,
    StorageUnavailableError,
)
from tests.conftest import ValkeyServer
from tests.heart_scene import scene_on
from tests.stores import MIB, Store, pieces, read, redis_store

KEY = "uploads/0123456789abcdef0123"
SMALL = RedisFileLimits(file_bytes=MIB, all_bytes=3 * MIB, seconds=3600)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with redis_store(redis_url, SMALL) as store:
        yield store


def spend_grace(url: str) -> None:
    """As if what is deleted, or was being written, had been so for ten minutes."""
    with redis.Redis.from_url(url) as client:
        held: Any = client.zrange("rq:recado:files:held", 0, -1)
        for each in held:
            client.zadd("rq:recado:files:held", {each: 1})
        for key in client.scan_iter("rq:recado:file-piece:*"):
            remaining: Any = client.ttl(key)
            if remaining <= 600:
                client.delete(key)


async def test_file_larger_than_one_may_be_is_refused(store: Store) -> None:
    with pytest.raises(ObjectTooLargeError) as caught:
        await store.storage.put(KEY, pieces(b"x" * MIB, b"y"), 100 * MIB)

    assert caught.value.limit_bytes == MIB
    assert await store.names() == []


async def test_files_together_keep_to_their_budget(store: Store, redis_url: str) -> None:
    storage = store.storage
    for number in range(2):
        await storage.put(f"uploads/{number}", pieces(b"x" * MIB), MIB)

    with pytest.raises(StorageFullError):
        await storage.put("uploads/third", pieces(b"x" * MIB), MIB)

    assert await store.names() == ["uploads/0", "uploads/1"]
    await storage.delete("uploads/0")
    spend_grace(redis_url)
    # The others of this test are marked as over, too; their records are still there.
    await storage.put("uploads/third", pieces(b"x" * MIB), MIB)
    assert await read(storage, "uploads/third") == b"x" * MIB


async def test_many_small_files_keep_to_it_too(redis_url: str) -> None:
    async with redis_store(redis_url, replace(SMALL, all_bytes=20_000)) as store:
        with pytest.raises(StorageFullError):
            for number in range(100):
                await store.storage.put(f"uploads/{number}", pieces(b""), MIB)

        assert 20 < len(await store.names()) < 40


async def test_nothing_remains_of_what_is_deleted(store: Store, redis_url: str) -> None:
    await store.storage.put(KEY, pieces(b"x" * MIB), MIB)
    await store.storage.delete(KEY)

    with redis.Redis.from_url(redis_url) as client:
        lives: Any = [client.ttl(key) for key in client.scan_iter("rq:recado:file-piece:*")]
        assert lives
        assert max(lives) <= 30
        spend_grace(redis_url)
        await store.storage.remove_drafts(None)  # type: ignore[arg-type]

        assert client.get("rq:recado:files:bytes") == b"0"
        assert client.keys("rq:recado:file*") == [b"rq:recado:files:bytes"]


async def test_everything_expires_by_itself(store: Store, redis_url: str) -> None:
    await store.storage.put(KEY, pieces(b"x" * 300_000), MIB)

    with redis.Redis.from_url(redis_url) as client:
        lives: Any = {
            key: client.ttl(key)
            for key in client.scan_iter("rq:recado:file*")
            if not key.startswith(b"rq:recado:files:")
        }
        assert len(lives) == 3
        assert all(3590 < each <= 3600 for each in lives.values())
        for key in lives:
            client.delete(key)
    spend_grace(redis_url)
    await store.storage.remove_drafts(None)  # type: ignore[arg-type]

    assert await store.names() == []
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("rq:recado:files:bytes") == b"0"


async def test_what_is_still_needed_is_kept_as_long_again(store: Store, redis_url: str) -> None:
    for name in ("artifacts/kept/1/a", "artifacts/kept/2/b", "artifacts/other/1/a"):
        await store.storage.put(name, pieces(b"x" * 300_000), MIB)
    with redis.Redis.from_url(redis_url) as client:
        for each in client.scan_iter("rq:recado:file*"):
            if not each.startswith(b"rq:recado:files:"):
                client.expire(each, 5)
        held: Any = client.zrange("rq:recado:files:held", 0, -1)
        client.zadd("rq:recado:files:held", dict.fromkeys(held, 1))

        await store.storage.prolong("artifacts/kept/")
        await store.storage.prolong("artifacts/nobody/")
        await store.storage.remove_drafts(None)  # type: ignore[arg-type]

        lives: Any = [client.ttl(each) for each in client.scan_iter("rq:recado:file:*")]
        pieces_live: Any = [client.ttl(each) for each in client.scan_iter("rq:recado:file-piece:*")]
        # What the third one took is given back: it goes now.
        taken: Any = client.get("rq:recado:files:bytes")

    assert sorted(each > 3590 for each in lives) == [False, True, True]
    assert sorted(each > 3590 for each in pieces_live) == [False] * 2 + [True] * 4
    assert 600_000 < int(taken) < 650_000
    assert await read(store.storage, "artifacts/kept/1/a") == b"x" * 300_000


async def test_file_of_which_a_part_is_gone_is_never_half_read(
    store: Store, redis_url: str
) -> None:
    await store.storage.put(KEY, pieces(b"x" * 600_000), MIB)
    with redis.Redis.from_url(redis_url) as client:
        (last,) = client.scan_iter("rq:recado:file-piece:*:3")
        client.delete(last)

    with pytest.raises(StorageUnavailableError):
        await read(store.storage, KEY)


async def test_files_give_way_before_jobs_do(valkey: ValkeyServer) -> None:
    async with redis_store(valkey.url, replace(SMALL, all_bytes=1000 * MIB)) as store:
        with redis.Redis.from_url(valkey.url) as client:
            used: Any = client.info("memory")
            client.config_set("maxmemory", used["used_memory"] + 10 * MIB)
        with pytest.raises(StorageFullError):
            for number in range(100):
                await store.storage.put(f"uploads/{number}", pieces(b"x" * MIB), MIB)

    async with scene_on(valkey.url) as scene:
        assert scene.status(await scene.submit()) == "queued"


async def test_redis_that_is_away_is_told(valkey: ValkeyServer) -> None:
    async with redis_store(valkey.url) as store:
        await store.storage.put(KEY, pieces(b"x"), MIB)
        valkey.kill()

        for attempt in (store.storage.put(KEY, pieces(b"x"), MIB), store.storage.open(KEY)):
            with pytest.raises(StorageUnavailableError):
                await attempt
        valkey.start()
        assert await read(store.storage, KEY) == b"x"
        with pytest.raises(ObjectNotFoundError):
            await store.storage.open("uploads/another")
