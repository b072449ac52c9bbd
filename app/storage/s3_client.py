"""Requests to one bucket of an S3-compatible service: signed, retried, errors told as ours."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import httpx2

from app.storage.objects import ObjectNotFoundError, StorageFullError, StorageUnavailableError
from app.storage.s3_signing import Call, S3Access, sign

# A line for each request would say nothing that the service's own do not.
logging.getLogger("httpx2").setLevel(logging.WARNING)

SILENT = "the S3 storage does not answer"
TRIES = 3
PAUSE_SECONDS = 0.2
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 30.0
# Each download that is under way holds one.
CONNECTIONS = 256
_AGAIN = {408, 429, 500, 502, 503, 504}
# Above this, hashing is left to a thread.
_LARGE_BYTES = 256 * 1024
# MinIO's and Ceph's words for a full disk or a quota.
_FULL = {
    "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage",
}  # fmt: skip


class S3Client:
    """Paths are names of objects. Every method raises StorageUnavailableError, StorageFullError."""

    def __init__(self, access: S3Access, bucket: str) -> None:
        self._access = access
        self._base, self._root = _address(access, bucket)
        self._host = urlsplit(self._base).netloc
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=8),
            # The settings are the only reader of the environment.
            trust_env=False,
        )

    async def call(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> httpx2.Response:
        """The answer, read. Sent again when there is none, so it must be safe to repeat.

        Raises ObjectNotFoundError for what is not there.
        """
        content = bytes(body)
        if len(content) > _LARGE_BYTES:
            sha256 = await asyncio.to_thread(_sha256, content)
        else:
            sha256 = _sha256(content)
        answer = await self._send(
            lambda: self._request(method, name, _encoded(query or {}), sha256, content)
        )
        await _read(answer)
        if answer.is_success:
            return answer
        raise _error(answer.status_code, answer.content)

    async def open(self, name: str, byte_range: str | None) -> httpx2.Response | None:
        """The object, to be read and closed; None: it has nothing in that range."""

        def request() -> httpx2.Request:
            made = self._request("GET", name, "", _sha256(b""), b"")
            # The bytes as they were stored, whatever their Content-Encoding.
            made.headers["accept-encoding"] = "identity"
            if byte_range is not None:
                made.headers["range"] = byte_range
            return made

        answer = await self._send(request)
        if answer.is_success:
            return answer
        await _read(answer)
        if answer.status_code == 416:
            return None
        raise _error(answer.status_code, answer.content)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, request: Callable[[], httpx2.Request]) -> httpx2.Response:
        """The head of an answer, the last one if all say to try again."""
        for number in range(TRIES):
            if number:
                await asyncio.sleep(PAUSE_SECONDS * 2**number)
            is_last = number == TRIES - 1
            try:
                # Signed anew: a signature is good for a quarter of an hour.
                answer = await self._http.send(request(), stream=True)
            except httpx2.TransportError as error:
                if is_last:
                    raise StorageUnavailableError(SILENT) from error
                continue
            if is_last or answer.status_code not in _AGAIN:
                return answer
            await answer.aclose()
        raise AssertionError("the last try returns or raises")

    def _request(
        self, method: str, name: str, query: str, sha256: str, body: bytes
    ) -> httpx2.Request:
        path = self._root + quote(name, safe="/~")
        call = Call(method, self._host, path, query, sha256)
        headers = sign(self._access, call, datetime.now(UTC))
        url = f"{self._base}{path}" + (f"?{query}" if query else "")
        return self._http.build_request(method, url, headers=headers, content=body or None)


def _address(access: S3Access, bucket: str) -> tuple[str, str]:
    """Scheme and host, and what every path begins with.

    Amazon names the bucket in the host, which a certificate covers for names without a dot;
    everybody else's services take it in the path.
    """
    if access.endpoint is not None:
        parts = urlsplit(access.endpoint)
        return f"{parts.scheme}://{parts.netloc}", f"{parts.path.rstrip('/')}/{bucket}/"
    host = f"s3.{access.region}.amazonaws.com"
    if "." in bucket:
        return f"https://{host}", f"/{bucket}/"
    return f"https://{bucket}.{host}", "/"


def _encoded(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _read(answer: httpx2.Response) -> None:
    try:
        await answer.aread()
    except httpx2.TransportError as error:
        raise StorageUnavailableError(SILENT) from error
    finally:
        await answer.aclose()


def _error(status: int, content: bytes) -> Exception:
    """What an answer that is no success says. A HEAD has no words."""
    code = ""
    with suppress(ElementTree.ParseError):
        code = parse(content).findtext("{*}Code") or ""
    if status == 404 and code in {"", "NoSuchKey", "NoSuchUpload"}:
        return ObjectNotFoundError("there is no such object in the storage")
    if status == 507 or code in _FULL:
        return StorageFullError("the S3 storage is full")
    return StorageUnavailableError(f"the S3 storage refuses: {code or status}")


def parse(content: bytes) -> ElementTree.Element:
    """An answer's XML, of the service that the settings name. Raises ElementTree.ParseError."""
    return ElementTree.fromstring(content)  # noqa: S314 - expat 2.4.1 and newer bounds entities
