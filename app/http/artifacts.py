"""What a job has left behind, for download."""

from __future__ import annotations

import logging
import re
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from app import logs
from app.http.answers import Answer, RawHeaders
from app.http.bodies import header
from app.http.faults import ArtifactNotFoundError
from app.http.lookup import Lookup
from app.http.ranges import none_match_holds, wanted_range
from app.http.streams import StreamAnswer
from app.queue.records.views import JobView
from app.storage import ObjectNotFoundError, Storage, StorageError, artifacts_prefix

log = logging.getLogger("recado.http")

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_SAFE_TYPE = re.compile(r"[\x20-\x7e]{1,255}")
# A report is HTML made from somebody's data: opened all the same, it runs and loads nothing.
_POLICY = (
    b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    b" frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Artifacts:
    """GET /v1/jobs/{id}/artifacts/{name}: whose the job is, his are its artifacts."""

    def __init__(self, storage: Storage, lookup: Lookup) -> None:
        self._storage = storage
        self._lookup = lookup

    async def download(self, request: Request) -> ASGIApp:
        view = await self._lookup.visible(request)
        return await self.send(request, view, _named(view, request.path_params["name"]))

    async def send(self, request: Request, view: JobView, artifact: dict[str, Any]) -> ASGIApp:
        """One of the job's, to who may have it."""
        size_bytes: int = artifact["size"]
        etag = f'"{artifact["sha256"]}"'.encode("ascii", "replace")
        headers = _headers(artifact, etag)
        if not none_match_holds(header(request.scope, b"if-none-match"), etag):
            return Answer(304, headers=[pair for pair in headers if pair[0] != b"content-type"])
        if request.method == "HEAD":
            await self._check(view, artifact)
            return StreamAnswer(200, headers, size_bytes, None)
        wanted = wanted_range(
            header(request.scope, b"range"), header(request.scope, b"if-range"), etag, size_bytes
        )
        start, end = wanted if wanted is not None else (0, size_bytes)
        try:
            contents = await self._storage.open(artifact["key"], start, end)
        except ObjectNotFoundError:
            raise _lost(view, artifact) from None
        if wanted is None:
            return StreamAnswer(200, headers, size_bytes, contents)
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size_bytes)))
        return StreamAnswer(206, headers, end - start, contents)

    async def forget(self, view: JobView) -> None:
        """The job has just been deleted, and with it what it left behind."""
        if not view.artifacts:
            return
        try:
            await self._storage.delete_under(artifacts_prefix(view.id))
        except StorageError as error:
            # They can no longer be asked for, and the keeper of files finds them.
            logs.event(log, "artifacts_not_removed", logging.WARNING, job_id=view.id,
                       reason=str(error))  # fmt: skip

    async def _check(self, view: JobView, artifact: dict[str, Any]) -> None:
        try:
            await self._storage.size(artifact["key"])
        except ObjectNotFoundError:
            raise _lost(view, artifact) from None


def _named(view: JobView, name: str) -> dict[str, Any]:
    if _SAFE_NAME.fullmatch(name) is not None:
        for artifact in view.artifacts:
            if artifact["name"] == name:
                return artifact
    raise ArtifactNotFoundError(name)


def _lost(view: JobView, artifact: dict[str, Any]) -> ArtifactNotFoundError:
    # Web and workers that do not share the folder, most likely: worth an operator's look.
    logs.event(log, "artifact_lost", logging.ERROR, job_id=view.id, name=artifact["name"])
    return ArtifactNotFoundError(artifact["name"])


def _headers(artifact: dict[str, Any], etag: bytes) -> RawHeaders:
    kind: str = artifact["content_type"]
    safe = kind if _SAFE_TYPE.fullmatch(kind) is not None else "application/octet-stream"
    return [
        (b"content-type", safe.encode()),
        (b"content-disposition", f'attachment; filename="{artifact["name"]}"'.encode()),
        (b"etag", etag),
        (b"accept-ranges", b"bytes"),
        # A client may keep it, and has to ask whether it still may see it.
        (b"cache-control", b"private, no-cache"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", _POLICY),
    ]
