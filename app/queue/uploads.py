"""What Redis knows of uploads: a record each that expires, and who is due to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as async_redis
from redis.exceptions import ExecAbortError

from app.queue import keys, scripts
from app.queue.asking import REFUSED_RETRY_SECONDS, ask
from app.queue.connection import Reachability
from app.queue.errors import QueueUnavailableError, TooManyUploadsError
from app.queue.records.drafts import Upload
from app.queue.server import FULL

# A record outlives its upload's promise, so that the keeper still finds it; without a keeper
# Redis forgets it all the same.
KEPT_LONGER_SECONDS = 3600
# How often one is looked at whose time is over, while jobs still need it.
POSTPONED_SECONDS = 3600
# A job may be a year ahead, and be tried and kept for a while after that.
HELD_AT_MOST_SECONDS = 400 * 24 * 3600
LOOKS_AT_ONCE = 100
MOST_UPLOADS = 10_000
# A job that is gone, or will not run again.
_DONE = {None, b"finished", b"canceled", b"stopped"}


class UploadRecords:
    """Every method raises QueueUnavailableError when Redis cannot be asked."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        most_of_a_key: int = MOST_UPLOADS,
    ) -> None:
        self._client = client
        self._reachability = reachability
        self._most = most_of_a_key

    async def check(self) -> None:
        """Return when Redis answers."""
        await self._ask(self._client.ping())

    async def add(self, upload: Upload) -> None:
        """Return when Redis has acknowledged the record; it may stand if only the reply is lost.

        Raises TooManyUploadsError.
        """
        lives = (upload.expires_at - upload.created_at).total_seconds() + KEPT_LONGER_SECONDS
        fields = [part for pair in _fields(upload).items() for part in pair]
        # Rare beside what it takes to store a file: the source goes along each time.
        adding: Any = self._client.eval(
            scripts.UPLOAD.source.decode(), 0, keys.PREFIX, upload.id, upload.owner,
            upload.expires_at.timestamp(), int(lives), self._most, *fields,
        )  # fmt: skip
        if not await self._ask(adding):
            raise TooManyUploadsError(self._most)

    async def get(self, upload_id: str) -> Upload | None:
        """The record, expired or not; None when there is none."""
        record = await self._ask(self._client.hgetall(keys.upload(upload_id)))
        return _upload(upload_id, record) if record else None

    async def remove(self, upload_id: str) -> None:
        owner = await self._ask(self._client.hget(keys.upload(upload_id), "owner"))
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(keys.upload(upload_id), keys.upload_holders(upload_id))
            pipeline.zrem(keys.UPLOADS, upload_id)
            if owner is not None:
                pipeline.zrem(keys.uploads_of(owner.decode()), upload_id)
            await self._ask(pipeline.execute())

    async def hold(self, holds: Sequence[tuple[str, str]], now: datetime) -> None:
        """Upload and job: keep the one until the other is done. Said before it is submitted."""
        async with self._client.pipeline(transaction=True) as pipeline:
            for upload_id, job_id in holds:
                holders = keys.upload_holders(upload_id)
                pipeline.sadd(holders, job_id)
                pipeline.expire(holders, HELD_AT_MOST_SECONDS)
                _postpone(pipeline, upload_id, now)
                # No keeper may be there for hours, or days: a job must not miss it for that.
                pipeline.expire(keys.upload(upload_id), HELD_AT_MOST_SECONDS, gt=True)
            try:
                await self._ask(pipeline.execute())
            except ExecAbortError as error:
                raise QueueUnavailableError(FULL, REFUSED_RETRY_SECONDS) from error

    async def retire(self, upload_id: str, now: datetime) -> bool:
        """True: jobs still need it, so it is only hidden from clients; the keeper removes it."""
        if not await self.is_held(upload_id):
            return False
        await self._ask(self._client.hset(keys.upload(upload_id), "expires_at", now.isoformat()))
        return True

    async def postpone(self, upload_id: str, now: datetime) -> None:
        """Look at it again in an hour."""
        async with self._client.pipeline(transaction=True) as pipeline:
            _postpone(pipeline, upload_id, now)
            await self._ask(pipeline.execute())

    async def is_held(self, upload_id: str) -> bool:
        """Whether a job that has it may still read it: a failed one may be retried."""
        holders = keys.upload_holders(upload_id)
        ids = sorted(each.decode() for each in await self._ask(self._client.smembers(holders)))
        for start in range(0, len(ids), LOOKS_AT_ONCE):
            some = ids[start : start + LOOKS_AT_ONCE]
            async with self._client.pipeline(transaction=False) as pipeline:
                for job_id in some:
                    pipeline.hget(keys.job(job_id), "status")
                statuses = await self._ask(pipeline.execute())
            if any(status not in _DONE for status in statuses):
                return True
            await self._ask(self._client.srem(holders, *some))
        return False

    async def expired(self, now: datetime, limit: int) -> list[str]:
        """Ids of those whose time is over, the longest ago first."""
        ids = await self._ask(
            self._client.zrangebyscore(keys.UPLOADS, "-inf", now.timestamp(), start=0, num=limit)
        )
        return [each.decode() for each in ids]

    async def known_uploads(self, upload_ids: Sequence[str]) -> list[bool]:
        """Whether each has a record still."""
        return await self._exist([keys.upload(each) for each in upload_ids])

    async def known_jobs(self, job_ids: Sequence[str]) -> list[bool]:
        """Whether each job is still there."""
        return await self._exist([keys.job(each) for each in job_ids])

    async def _exist(self, names: Sequence[str]) -> list[bool]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.exists(name)
            return [bool(each) for each in await self._ask(pipeline.execute())]

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _postpone(pipeline: Any, upload_id: str, now: datetime) -> None:
    again = now.timestamp() + POSTPONED_SECONDS
    pipeline.zadd(keys.UPLOADS, {upload_id: again}, gt=True)
    pipeline.expire(keys.upload(upload_id), POSTPONED_SECONDS + KEPT_LONGER_SECONDS, gt=True)


def _fields(upload: Upload) -> Mapping[Any, Any]:
    fields = {
        "size": str(upload.size_bytes),
        "sha256": upload.sha256,
        "content_type": upload.content_type,
        "owner": upload.owner,
        "created_at": upload.created_at.isoformat(),
        "expires_at": upload.expires_at.isoformat(),
    }
    return fields if upload.filename is None else fields | {"filename": upload.filename}


def _upload(upload_id: str, record: Mapping[bytes, bytes]) -> Upload | None:
    """None for a record that cannot be read: then there is no such upload."""
    text = {name.decode(): value.decode("utf-8", "replace") for name, value in record.items()}
    try:
        return Upload(
            id=upload_id,
            size_bytes=int(text["size"]),
            sha256=text["sha256"],
            content_type=text["content_type"],
            filename=text.get("filename"),
            owner=text["owner"],
            created_at=datetime.fromisoformat(text["created_at"]).astimezone(UTC),
            expires_at=datetime.fromisoformat(text["expires_at"]).astimezone(UTC),
        )
    except (KeyError, ValueError):
        return None
