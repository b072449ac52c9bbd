"""What nobody may ask for any more is removed from storage, and what somebody may is kept there:
in each web process, harmlessly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from app.logs import event
from app.queue.errors import QueueUnavailableError
from app.queue.uploads import UploadRecords
from app.storage import Storage, StorageError, artifacts_prefix, upload_key

log = logging.getLogger("recado.files")

EXPIRED_SECONDS = 60.0
TIDY_SECONDS = 3600.0
AT_ONCE = 200
# Between two batches: others want the disk and Redis too.
PACE_SECONDS = 0.05
# What is younger may still be on its way: stored, and its record not yet written.
YOUNG = timedelta(hours=1)
# An upload that is still being written touches its draft with each piece.
STALE_DRAFT = timedelta(days=1)


class FileKeeper:
    """Runs until cancelled. One storage belongs to one Redis: what that does not know goes.

    `upload_retention_seconds`: a lost record removes no upload before its time.
    """

    def __init__(
        self, storage: Storage, records: UploadRecords, upload_retention_seconds: int
    ) -> None:
        self._storage = storage
        self._records = records
        self._retention = timedelta(seconds=upload_retention_seconds)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        tidy_at = loop.time()
        await self._say_whether_it_works()
        while True:
            try:
                await self.remove_expired(datetime.now(UTC))
                if loop.time() >= tidy_at:
                    await self.tidy(datetime.now(UTC))
                    tidy_at = loop.time() + TIDY_SECONDS
            except QueueUnavailableError:
                pass  # said once by whoever noticed first; there is time
            except StorageError as error:
                event(log, "storage_unavailable", logging.ERROR, reason=str(error))
            await asyncio.sleep(EXPIRED_SECONDS)

    async def remove_expired(self, now: datetime) -> None:
        """Uploads whose time is over and that no job needs: the bytes, then the record."""
        while upload_ids := await self._records.expired(now, AT_ONCE):
            removed = 0
            for upload_id in upload_ids:
                if await self._records.is_held(upload_id):
                    await self._storage.prolong(upload_key(upload_id))
                    await self._records.postpone(upload_id, now)
                    continue
                await self._storage.delete(upload_key(upload_id))
                await self._records.remove(upload_id)
                removed += 1
            if removed:
                event(log, "uploads_expired", count=removed)
            await asyncio.sleep(PACE_SECONDS)

    async def tidy(self, now: datetime) -> None:
        """What was left behind: drafts of dead writers, and files whose record is gone."""
        drafts = await self._storage.remove_drafts(now - STALE_DRAFT)
        uploads = artifacts = 0
        async for ids in _batches(self._names("uploads/", now - self._retention - YOUNG)):
            known = await self._records.known_uploads(ids)
            for upload_id, is_known in zip(ids, known, strict=True):
                if not is_known:
                    await self._storage.delete(upload_key(upload_id))
            uploads += known.count(False)
        async for ids in _batches(self._names("artifacts/", now - YOUNG)):
            known = await self._records.known_jobs(ids)
            for job_id, is_known in zip(ids, known, strict=True):
                care = self._storage.prolong if is_known else self._storage.delete_under
                await care(artifacts_prefix(job_id))
            artifacts += known.count(False)
        if drafts or uploads or artifacts:
            event(log, "storage_tidied", drafts=drafts, uploads=uploads, jobs=artifacts)

    async def _names(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        """The part behind the prefix, once where it comes several times in a row."""
        last = None
        async for key in self._storage.older_than(prefix, before):
            name = key.removeprefix(prefix).partition("/")[0]
            if name != last:
                last = name
                yield name

    async def _say_whether_it_works(self) -> None:
        try:
            await self._storage.check()
        except StorageError as error:
            event(log, "storage_unavailable", logging.WARNING, reason=str(error))


async def _batches(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    """Some at a time, with a pause in between."""
    batch: list[str] = []
    async for name in names:
        batch.append(name)
        if len(batch) >= AT_ONCE:
            yield batch
            batch = []
            await asyncio.sleep(PACE_SECONDS)
    if batch:
        yield batch
