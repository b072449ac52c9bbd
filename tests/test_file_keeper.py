"""Records of uploads in a real Redis, and the keeper that removes what nobody may ask for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import redis.asyncio as async_redis

from app.queue.connection import Reachability, connect
from app.queue.errors import QueueUnavailableError, TooManyUploadsError
from app.queue.file_keeper import FileKeeper
from app.queue.records.drafts import Upload, new_job_id
from app.queue.uploads import UploadRecords
from app.storage import Storage, artifact_key, upload_key
from app.storage.folder import FolderStorage
from tests.conftest import ValkeyServer
from tests.stores import pieces, redis_store

NOW = datetime.now(UTC)
RETENTION = timedelta(days=1)


@dataclass
class Scene:
    client: async_redis.Redis
    records: UploadRecords
    storage: Storage
    root: Path
    keeper: FileKeeper

    async def store(self, key: str, age: timedelta = timedelta()) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"

        await self.storage.put(key, chunks(), 10)
        then = (NOW - age).timestamp()
        os.utime(self.root / key, (then, then))

    async def upload(self, *, expires_in: timedelta) -> Upload:
        upload = an_upload(expires_at=NOW + expires_in)
        await self.store(upload_key(upload.id))
        await self.records.add(upload)
        return upload

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file()
        )


def an_upload(**fields: object) -> Upload:
    values: dict[str, object] = {
        "id": new_job_id(), "size_bytes": 1, "sha256": "ab" * 32, "content_type": "text/csv",
        "filename": "größe.csv", "owner": "shop", "created_at": NOW,
        "expires_at": NOW + RETENTION,
    }  # fmt: skip
    return Upload(**(values | fields))  # type: ignore[arg-type]


async def scene_on(url: str, root: Path) -> AsyncIterator[Scene]:
    client = connect(url)
    records = UploadRecords(client, Reachability())
    storage = FolderStorage(root)
    keeper = FileKeeper(storage, records, int(RETENTION.total_seconds()))
    yield Scene(client, records, storage, root, keeper)
    await storage.aclose()
    await client.aclose()


@pytest.fixture
async def scene(redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async for scene in scene_on(redis_url, tmp_path / "storage"):
        yield scene


@pytest.mark.parametrize("filename", ["größe.csv", None])
async def test_record_is_read_as_it_was_written(scene: Scene, filename: str | None) -> None:
    upload = an_upload(filename=filename)

    await scene.records.add(upload)

    assert await scene.records.get(upload.id) == upload
    assert await scene.records.get("unknown") is None


async def test_record_goes_by_itself_soon_after_its_time(scene: Scene) -> None:
    upload = an_upload()
    await scene.records.add(upload)

    lives = await scene.client.ttl(f"rq:recado:upload:{upload.id}")

    assert RETENTION.total_seconds() < lives <= RETENTION.total_seconds() + 3600


async def test_removed_record_leaves_nothing_in_redis(scene: Scene) -> None:
    upload = an_upload()
    await scene.records.add(upload)

    await scene.records.remove(upload.id)
    await scene.records.remove(upload.id)

    assert await scene.client.keys("*") == []


async def test_record_that_cannot_be_read_is_no_upload(scene: Scene) -> None:
    await scene.client.hset("rq:recado:upload:broken", mapping={"size": "many", "sha256": "x"})

    assert await scene.records.get("broken") is None


async def test_full_redis_is_told(valkey: ValkeyServer, tmp_path: Path) -> None:
    async for scene in scene_on(valkey.url, tmp_path / "storage"):
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("maxmemory", "1")
        with pytest.raises(QueueUnavailableError, match="Redis is full"):
            await scene.records.add(an_upload())


async def test_redis_that_is_away_is_told(valkey: ValkeyServer, tmp_path: Path) -> None:
    valkey.kill()
    async for scene in scene_on(valkey.url, tmp_path / "storage"):
        for asking in (scene.records.check(), scene.records.add(an_upload()),
                       scene.records.get("x"), scene.keeper.remove_expired(NOW)):  # fmt: skip
            with pytest.raises(QueueUnavailableError, match="does not answer"):
                await asking


async def test_key_has_at_most_so_many_uploads_at_once(scene: Scene) -> None:
    few = UploadRecords(scene.client, Reachability(), 2)
    first, second = (an_upload(expires_at=datetime.now(UTC) + RETENTION) for _ in range(2))
    await few.add(first)
    await few.add(second)

    with pytest.raises(TooManyUploadsError):
        await few.add(an_upload(expires_at=datetime.now(UTC) + RETENTION))
    await few.add(first)  # once more, as its reply was lost
    await few.add(an_upload(owner="another"))
    await few.remove(first.id)
    await few.add(an_upload(expires_at=datetime.now(UTC) - RETENTION))
    await few.add(an_upload(expires_at=datetime.now(UTC) + RETENTION))

    assert await few.get(first.id) is None


async def test_expired_uploads_are_removed_and_no_others(scene: Scene) -> None:
    for _ in range(3):
        await scene.upload(expires_in=timedelta(seconds=-1))
    kept = await scene.upload(expires_in=timedelta(seconds=60))

    await scene.keeper.remove_expired(NOW)

    assert scene.files() == [upload_key(kept.id)]
    assert sorted(await scene.client.keys("*")) == sorted(
        [b"rq:recado:uploads", b"rq:recado:uploads:by:shop", f"rq:recado:upload:{kept.id}".encode()]
    )


async def test_several_keepers_do_no_harm(scene: Scene) -> None:
    for _ in range(20):
        await scene.upload(expires_in=timedelta(seconds=-1))
    kept = await scene.upload(expires_in=timedelta(seconds=60))

    await asyncio.gather(*(scene.keeper.remove_expired(NOW) for _ in range(4)))
    await asyncio.gather(*(scene.keeper.tidy(NOW) for _ in range(4)))

    assert scene.files() == [upload_key(kept.id)]


async def test_upload_without_a_record_is_removed_after_its_time(scene: Scene) -> None:
    known = await scene.upload(expires_in=timedelta(days=5))
    os.utime(scene.root / upload_key(known.id), (0, 0))
    young, lost = new_job_id(), new_job_id()
    await scene.store(upload_key(young), age=RETENTION)
    await scene.store(upload_key(lost), age=RETENTION + timedelta(hours=2))

    await scene.keeper.tidy(NOW)

    assert scene.files() == sorted([upload_key(known.id), upload_key(young)])


async def test_artifacts_go_with_their_job(scene: Scene) -> None:
    await scene.client.hset("rq:job:kept", "status", "finished")
    old = timedelta(hours=2)
    for job_id in ("kept", "gone"):
        for attempt, name in ((1, "a.csv"), (2, "a.csv"), (2, "b.csv")):
            await scene.store(artifact_key(job_id, attempt, name), age=old)
    await scene.store(artifact_key("running", 1, "a.csv"))

    await scene.keeper.tidy(NOW)

    assert {key.split("/")[1] for key in scene.files()} == {"kept", "running"}
    assert len(scene.files()) == 4


async def test_more_than_one_batch_is_tidied(scene: Scene) -> None:
    for number in range(450):
        path = scene.root / f"artifacts/job-{number}/1/a"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    await scene.client.hset("rq:job:job-7", "status", "finished")

    await scene.keeper.tidy(NOW)

    assert scene.files() == ["artifacts/job-7/1/a"]


async def test_drafts_of_dead_writers_are_removed(scene: Scene) -> None:
    await scene.storage.check()
    for name, hours in (("dead", 30), ("alive", 1)):
        (scene.root / ".drafts" / name).write_bytes(b"half")
        then = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(scene.root / ".drafts" / name, (then, then))

    await scene.keeper.tidy(NOW)

    assert scene.files() == [".drafts/alive"]


async def test_upload_stays_until_the_jobs_that_have_it_are_done(
    scene: Scene, redis_url: str
) -> None:
    upload = await scene.upload(expires_in=timedelta(seconds=10))
    await scene.records.hold([(upload.id, "waiting"), (upload.id, "never-accepted")], NOW)
    later = NOW + timedelta(hours=2)
    with redis.Redis.from_url(redis_url) as client:
        for status in ("scheduled", "failed"):
            client.hset("rq:job:waiting", "status", status)
            await scene.keeper.remove_expired(later)
            assert scene.files() == [upload_key(upload.id)]
            later += timedelta(hours=2)
        client.hset("rq:job:waiting", "status", "finished")
        await scene.keeper.remove_expired(later)
        left = client.keys("rq:recado:upload*")

    assert scene.files() == []
    assert left == []


async def test_upload_that_a_job_has_is_hidden_when_deleted(scene: Scene, redis_url: str) -> None:
    upload = await scene.upload(expires_in=timedelta(hours=10))
    free = await scene.records.retire(upload.id, NOW)
    await scene.records.hold([(upload.id, "waiting")], NOW)
    with redis.Redis.from_url(redis_url) as client:
        client.hset("rq:job:waiting", "status", "queued")
    held = await scene.records.retire(upload.id, NOW)

    assert (free, held) == (False, True)
    record = await scene.records.get(upload.id)
    assert record is not None
    assert record.expires_at == NOW


async def test_upload_that_a_job_has_outlives_days_without_a_keeper(scene: Scene) -> None:
    upload = await scene.upload(expires_in=timedelta(seconds=10))

    await scene.records.hold([(upload.id, "scheduled")], NOW)

    assert await scene.client.ttl(f"rq:recado:upload:{upload.id}") > 365 * 24 * 3600


async def test_files_in_redis_do_not_go_while_a_job_needs_or_has_them(
    scene: Scene, redis_url: str
) -> None:
    upload = an_upload(expires_at=NOW + timedelta(seconds=10))
    await scene.records.add(upload)
    await scene.records.hold([(upload.id, "waiting")], NOW)
    await scene.client.hset("rq:job:waiting", "status", "scheduled")
    await scene.client.hset("rq:job:done", "status", "finished")
    names = [upload_key(upload.id), artifact_key("done", 1, "a.csv")]
    async with redis_store(redis_url) as store:
        for name in [*names, artifact_key("gone", 1, "a.csv")]:
            await store.storage.put(name, pieces(b"x"), 10)
            await scene.client.expire(f"rq:recado:file:{name}", 60)
        keeper = FileKeeper(store.storage, scene.records, int(RETENTION.total_seconds()))

        await keeper.remove_expired(NOW + timedelta(hours=2))
        await keeper.tidy(NOW + timedelta(hours=2))

        lives = [await scene.client.ttl(f"rq:recado:file:{name}") for name in names]
        assert await store.names() == sorted(names)
    assert min(lives) > 3000
