"""Storage in a bucket of an S3-compatible service: Amazon's, R2, MinIO, Ceph …"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx2

from app.storage.objects import (
    Contents,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageError,
    StorageUnavailableError,
    Stored,
    check_key,
    pieces_of,
)
from app.storage.s3_client import S3Client, parse
from app.storage.s3_signing import S3Access

MIB = 1024 * 1024
# The least that S3 takes as a part that is not the last: each upload under way holds so much.
PART_BYTES = 5 * MIB
# S3 takes 10,000: from here on each is so much larger that 50 times 5 GiB find room.
GROWN_AFTER = 1000
# What is read at once; objects are sent on in pieces of this size.
PIECE_BYTES = 256 * 1024
_FARTHEST = 2**53


class S3Storage:
    """Keeps each object under `prefix/key` of the bucket.

    An object appears when its upload is completed. What a killed process has begun is listed
    by the service as an upload in progress, and aborted by `remove_drafts`.
    """

    def __init__(self, access: S3Access, bucket: str, prefix: str) -> None:
        self._client = S3Client(access, bucket)
        self._prefix = f"{prefix}/" if prefix else ""

    async def put(self, key: str, chunks: AsyncIterable[bytes], limit_bytes: int) -> Stored:
        draft = _Draft(self._client, self._name(key))
        size_bytes = 0
        try:
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise ObjectTooLargeError(limit_bytes)
                await draft.write(chunk)
            return await draft.publish()
        except ObjectNotFoundError as error:
            raise StorageUnavailableError("somebody else has aborted the upload") from error
        finally:
            await _to_its_end(draft.discard())

    async def put_file(self, key: str, path: Path, file: FileIO, limit_bytes: int) -> Stored:
        del path
        return await self.put(key, pieces_of(file), limit_bytes)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> Contents:
        name = self._name(key)
        if end is not None and end <= start:
            await self._client.call("HEAD", name)
            return _S3Contents(None)
        wanted = None
        if start or end is not None:
            last = "" if end is None else min(end, _FARTHEST) - 1
            wanted = f"bytes={start}-{last}"
        return _S3Contents(await self._client.open(name, wanted))

    async def size(self, key: str) -> int:
        answer = await self._client.call("HEAD", self._name(key))
        return int(answer.headers["content-length"])

    def local_path(self, key: str) -> None:
        """It is on no disk of ours."""

    async def delete(self, key: str) -> None:
        with suppress(ObjectNotFoundError):
            await self._client.call("DELETE", self._name(key))

    async def delete_under(self, prefix: str) -> None:
        check_key(prefix.removesuffix("/"))
        async for name, _ in self._listed(prefix):
            with suppress(ObjectNotFoundError):
                await self._client.call("DELETE", name)

    async def prolong(self, prefix: str) -> None:
        """Nothing goes by itself."""

    async def older_than(self, prefix: str, before: datetime) -> AsyncIterator[str]:
        async for name, stored_at in self._listed(prefix):
            if stored_at < before:
                yield name.removeprefix(self._prefix)

    async def remove_drafts(self, before: datetime) -> int:
        """By when they were begun: a service does not say when a part came last."""
        removed = 0
        marks: dict[str, str] = {}
        while True:
            page = await self._page({"uploads": "", "prefix": self._prefix} | marks)
            for upload in page.findall("{*}Upload"):
                name = _text(upload, "Key")
                # Not every service heeds the prefix, and the others' are not ours to abort.
                if name.startswith(self._prefix) and _time(upload, "Initiated") < before:
                    query = {"uploadId": _text(upload, "UploadId")}
                    with suppress(ObjectNotFoundError):
                        await self._client.call("DELETE", name, query)
                    removed += 1
            if _text(page, "IsTruncated") != "true":
                return removed
            marks = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }

    async def check(self) -> None:
        """Begin an upload and abort it: the right to write, and nothing is left."""
        draft = _Draft(self._client, f"{self._prefix}.check/{os.urandom(16).hex()}")
        try:
            await draft.begin()
        finally:
            await _to_its_end(draft.discard())

    async def aclose(self) -> None:
        await self._client.aclose()

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    async def _listed(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Whole names, and when each was stored."""
        token: dict[str, str] = {}
        while True:
            query = {"list-type": "2", "prefix": self._prefix + prefix}
            page = await self._page(query | token)
            for each in page.findall("{*}Contents"):
                yield _text(each, "Key"), _time(each, "LastModified")
            if _text(page, "IsTruncated") != "true":
                return
            token = {"continuation-token": _text(page, "NextContinuationToken")}

    async def _page(self, query: dict[str, str]) -> ElementTree.Element:
        try:
            answer = await self._client.call("GET", "", query)
        except ObjectNotFoundError:
            raise StorageUnavailableError("there is no such bucket") from None
        return _parsed(answer)


class _Draft:
    """An object on its way: in parts when it is large, else in one request."""

    def __init__(self, client: S3Client, name: str) -> None:
        self._client = client
        self._name = name
        self._waiting = bytearray()
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._upload_id: str | None = None
        self._etags: list[str] = []

    async def write(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._size_bytes += len(chunk)
        view = memoryview(chunk)
        while view:
            part_bytes = PART_BYTES * (1 + len(self._etags) // GROWN_AFTER)
            room = part_bytes - len(self._waiting)
            self._waiting += view[:room]
            view = view[room:]
            if len(self._waiting) == part_bytes:
                await self._send_part()

    async def begin(self) -> None:
        """To its end even when cancelled: who does not know the id cannot abort it."""
        await _to_its_end(self._begin())

    async def publish(self) -> Stored:
        if self._upload_id is None:
            await self._client.call("PUT", self._name, body=self._waiting)
        else:
            if self._waiting:
                await self._send_part()
            await self._complete()
        self._upload_id = None
        return Stored(self._size_bytes, self._sha256.hexdigest())

    async def discard(self) -> None:
        """Leave nothing; what cannot be removed now is found by `remove_drafts`."""
        if self._upload_id is not None:
            with suppress(StorageError):
                await self._client.call("DELETE", self._name, {"uploadId": self._upload_id})

    async def _begin(self) -> None:
        answer = await self._client.call("POST", self._name, {"uploads": ""})
        self._upload_id = _text(_parsed(answer), "UploadId")

    async def _send_part(self) -> None:
        if self._upload_id is None:
            await self.begin()
        assert self._upload_id is not None
        number = len(self._etags) + 1
        query = {"partNumber": str(number), "uploadId": self._upload_id}
        answer = await self._client.call("PUT", self._name, query, self._waiting)
        self._etags.append(answer.headers["etag"])
        self._waiting = bytearray()

    async def _complete(self) -> None:
        assert self._upload_id is not None
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(self._etags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        query = {"uploadId": self._upload_id}
        try:
            answer = await self._client.call("POST", self._name, query, ElementTree.tostring(root))
        except ObjectNotFoundError:
            # Sent again after a lost reply, it is not in progress any more.
            found = await self._client.call("HEAD", self._name)
            if int(found.headers["content-length"]) != self._size_bytes:
                raise
            return
        # S3 begins to answer 200 before it knows how this ends.
        done = _parsed(answer)
        if done.tag.rpartition("}")[2] == "Error":
            raise StorageUnavailableError(f"the S3 storage refuses: {_text(done, 'Code')}")


class _S3Contents:
    """The bytes of one answer, which stay what they were when it began."""

    def __init__(self, answer: httpx2.Response | None) -> None:
        self._answer = answer
        self._pieces = answer.aiter_raw(PIECE_BYTES) if answer is not None else None

    def __aiter__(self) -> _S3Contents:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces is None:
            raise StopAsyncIteration
        try:
            return await anext(self._pieces)
        except httpx2.TransportError as error:
            raise StorageUnavailableError("the S3 storage broke off") from error

    async def aclose(self) -> None:
        if self._answer is not None:
            await self._answer.aclose()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Also when cancelled meanwhile, which is raised afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _parsed(answer: httpx2.Response) -> ElementTree.Element:
    try:
        return parse(answer.content)
    except ElementTree.ParseError as error:
        raise StorageUnavailableError("what answers is no S3 storage") from error


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _time(element: ElementTree.Element, name: str) -> datetime:
    try:
        return datetime.fromisoformat(_text(element, name))
    except ValueError as error:
        raise StorageUnavailableError("what answers is no S3 storage") from error
