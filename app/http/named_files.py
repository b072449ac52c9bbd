"""The files that a submission names: there, visible, not too large, and kept for the job."""

from __future__ import annotations

import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json

from app.http.auth import may_see
from app.http.faults import Fault
from app.http.filenames import DEFAULT_CONTENT_TYPE
from app.http.ports import UploadRecords
from app.http.submissions import pointer_of
from app.keyring import ApiKey
from app.queue.records.drafts import JobDraft, Upload, new_job_id
from app.storage import Storage, StorageError, upload_key

NO_SUCH_UPLOAD = "there is no such upload"
# A multiple of four, and of what base64 is decoded by.
_PIECE_CHARACTERS = 256 * 1024
# The body that brought it has a limit.
_ANY_SIZE = 1 << 62
# What an upload that was `rows` is called.
_ROWS_FILE = {"content_type": "application/json", "filename": "rows.json"}


class NamedFiles:
    """Both methods raise QueueUnavailableError, `keep` StorageError and TooManyUploadsError
    besides."""

    def __init__(self, storage: Storage, records: UploadRecords, retention_seconds: int) -> None:
        self._storage = storage
        self._records = records
        self._retention = timedelta(seconds=retention_seconds)

    async def faults(self, drafts: Sequence[JobDraft], key: ApiKey) -> list[list[Fault]]:
        """For each draft what is wrong with the files that it names, as pointers into its body."""
        now = datetime.now(UTC)
        wanted = {each for draft in drafts for each in _upload_ids(draft)}
        sizes: dict[str | None, int] = {}
        for upload_id in wanted:
            upload = await self._records.get(upload_id)
            if upload is not None and upload.expires_at > now and may_see(key, upload.owner):
                sizes[upload_id] = upload.size_bytes
        return [_faults(draft, sizes) for draft in drafts]

    async def keep(self, drafts: Sequence[JobDraft], key: ApiKey) -> None:
        """Before they are submitted: store what they carry, and hold what they name."""
        holds = []
        for draft in drafts:
            upload_ids = _upload_ids(draft)
            for each in draft.files.named if draft.files is not None else ():
                if each.carried_bytes:
                    holder = _at(draft.params, each.place)
                    upload_ids.append(await self._store(holder, each.carried_field, key))
            holds += [(upload_id, draft.id) for upload_id in upload_ids]
        if holds:
            await self._records.hold(holds, datetime.now(UTC))

    async def _store(self, holder: dict[str, Any], field: str, key: ApiKey) -> str:
        """What the field has becomes an upload of the key's, and `upload_id` says which."""
        upload_id, now = new_job_id(), datetime.now(UTC)
        pieces = _decoded(holder[field]) if field == "content" else _rows(holder[field])
        stored = await self._storage.put(upload_key(upload_id), pieces, _ANY_SIZE)
        defaults = _ROWS_FILE if field == "rows" else {}
        upload = Upload(
            id=upload_id,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            content_type=(defaults | holder).get("content_type", DEFAULT_CONTENT_TYPE),
            filename=(defaults | holder).get("filename"),
            owner=key.name,
            created_at=now,
            expires_at=now + self._retention,
        )
        try:
            await self._records.add(upload)
        except BaseException:
            # Nobody will ever ask for it. Should this fail too, the keeper finds it.
            with suppress(StorageError):
                await self._storage.delete(upload_key(upload_id))
            raise
        del holder[field]
        holder["upload_id"] = upload_id
        return upload_id


def _faults(draft: JobDraft, sizes: Mapping[str | None, int]) -> list[Fault]:
    needs = draft.files
    if needs is None:
        return []
    faults = []
    total_bytes = needs.kept_bytes
    for each in needs.named:
        before = total_bytes
        total_bytes += each.carried_bytes + sizes.get(each.upload_id, 0)
        if each.upload_id is not None and each.upload_id not in sizes:
            faults.append(Fault(pointer_of(draft, each.place, "upload_id"), NO_SUCH_UPLOAD))
        elif before <= needs.most_bytes < total_bytes:
            detail = f"makes all of them together larger than {needs.most_bytes} bytes"
            faults.append(Fault(pointer_of(draft, each.place), detail))
    return faults


def _upload_ids(draft: JobDraft) -> list[str]:
    named = draft.files.named if draft.files is not None else ()
    return list(dict.fromkeys(each.upload_id for each in named if each.upload_id is not None))


def _at(params: Any, place: Sequence[str | int]) -> dict[str, Any]:
    for part in place:
        params = params[part]
    assert isinstance(params, dict)
    return params


async def _decoded(content: str) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _PIECE_CHARACTERS):
        yield binascii.a2b_base64(content[at : at + _PIECE_CHARACTERS])


async def _rows(rows: list[Any]) -> AsyncIterator[bytes]:
    yield to_json(rows)
