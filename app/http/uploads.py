"""Uploads: files that clients hand in before the jobs that will read them."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request

from app import logs
from app.http import bodies
from app.http.answers import Answer, json_answer
from app.http.auth import acting_key, may_act, may_see
from app.http.bodies import header
from app.http.faults import (
    BodyTooLargeError,
    MissingScopeError,
    UnsupportedMediaTypeError,
    UploadNotFoundError,
)
from app.http.filenames import content_type, filename, parameters_of
from app.http.forms import IncomingFile, file_of_form
from app.http.ports import UploadRecords
from app.http.streams import body_chunks
from app.queue.errors import QueueUnavailableError
from app.queue.records.drafts import Upload, new_job_id
from app.storage import ObjectTooLargeError, Storage, StorageError, upload_key

log = logging.getLogger("recado.http")

# What a form adds to its file: boundaries and a few headers.
FORM_BYTES = 64 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{20,40}")


class Uploads:
    """The endpoints. An upload is its bytes in storage and a record in Redis that expires."""

    def __init__(
        self, storage: Storage, records: UploadRecords, limit_bytes: int, retention_seconds: int
    ) -> None:
        self._storage = storage
        self._records = records
        self._limit_bytes = limit_bytes
        self._retention = timedelta(seconds=retention_seconds)

    @property
    def max_body_bytes(self) -> int:
        return self._limit_bytes + FORM_BYTES

    async def create(self, request: Request) -> Answer:
        """POST /v1/uploads."""
        await self.check()
        upload = await self.keep(await self._incoming(request), acting_key(request).name)
        location = f"/v1/uploads/{upload.id}".encode()
        return json_answer(show_upload(upload), 201, [(b"location", location)])

    async def check(self) -> None:
        """Before the body: who sends half a gigabyte should not hear of it only then.

        Raises QueueUnavailableError.
        """
        await self._records.check()

    async def keep(self, incoming: IncomingFile, owner: str) -> Upload:
        """Store it and record it, or leave nothing. Raises BodyTooLargeError, StorageError,
        QueueUnavailableError, TooManyUploadsError, and what its chunks raise."""
        upload_id = new_job_id()
        try:
            stored = await self._storage.put(
                upload_key(upload_id), incoming.chunks, self._limit_bytes
            )
        except ObjectTooLargeError as error:
            raise BodyTooLargeError(error.limit_bytes) from None
        now = datetime.now(UTC)
        upload = Upload(
            id=upload_id,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            content_type=incoming.content_type,
            filename=incoming.filename,
            owner=owner,
            created_at=now,
            expires_at=now + self._retention,
        )
        await self._record(upload)
        logs.event(log, "upload_stored", upload_id=upload_id, size_bytes=upload.size_bytes,
                   key=upload.owner)  # fmt: skip
        return upload

    async def discard(self, upload: Upload) -> None:
        """It came for a job that was refused. A job that stands all the same keeps it; what
        cannot be removed now expires."""
        with suppress(StorageError, QueueUnavailableError):
            if not await self._records.retire(upload.id, datetime.now(UTC)):
                await self._storage.delete(upload_key(upload.id))
                await self._records.remove(upload.id)

    async def show(self, request: Request) -> Answer:
        """GET /v1/uploads/{id}."""
        return json_answer(show_upload(await self._visible(request)))

    async def delete(self, request: Request) -> Answer:
        """DELETE /v1/uploads/{id}."""
        upload = await self._visible(request)
        key = acting_key(request)
        if not may_act(key, upload.owner):
            raise MissingScopeError("operate")
        if await self._records.retire(upload.id, datetime.now(UTC)):
            logs.event(log, "upload_retired", upload_id=upload.id, key=key.name)
            return Answer(204)
        # The bytes first: should Redis fail now, the same request can be sent again.
        await self._storage.delete(upload_key(upload.id))
        await self._records.remove(upload.id)
        logs.event(log, "upload_deleted", upload_id=upload.id, key=key.name)
        return Answer(204)

    async def _incoming(self, request: Request) -> IncomingFile:
        scope = request.scope
        encoding = header(scope, b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in {b"", b"identity"}:
            raise UnsupportedMediaTypeError(
                "Leave Content-Encoding out: a compressed file is stored as it is.", accepted=None
            )
        declared = header(scope, b"content-type")
        if declared is not None and declared.lower().startswith(b"multipart/form-data"):
            return await file_of_form(self._body(request, self.max_body_bytes), declared)
        bodies.check_declared_length(scope, self._limit_bytes)
        disposition = parameters_of(header(scope, b"content-disposition"))
        return IncomingFile(
            filename(disposition, extended=True),
            content_type(declared),
            self._body(request, self._limit_bytes),
        )

    def _body(self, request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
        return body_chunks(request.scope, request.receive, limit_bytes, bodies.SILENCE_SECONDS)

    async def _record(self, upload: Upload) -> None:
        try:
            await self._records.add(upload)
        except BaseException:
            # Nobody will ever ask for it. Should this fail too, the keeper finds it.
            with suppress(StorageError):
                await self._storage.delete(upload_key(upload.id))
            raise

    async def _visible(self, request: Request) -> Upload:
        upload_id: str = request.path_params["id"]
        if _ID.fullmatch(upload_id) is None:
            raise UploadNotFoundError(upload_id)
        upload = await self._records.get(upload_id)
        if upload is None or upload.expires_at <= datetime.now(UTC):
            raise UploadNotFoundError(upload_id)
        if not may_see(acting_key(request), upload.owner):
            raise UploadNotFoundError(upload_id)
        return upload


def show_upload(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "size": upload.size_bytes,
        "sha256": upload.sha256,
        "content_type": upload.content_type,
        "filename": upload.filename,
        "expires_at": upload.expires_at,
    }
