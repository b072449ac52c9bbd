"""A file for a `def` job: its worker finds it, and brings it where the child can read it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from io import FileIO
from pathlib import Path
from typing import Any

from jobs.errors import JobError, PermanentError, RetryLater
from jobs.files import Files, StoredFile

# No artifact begins with a dot, so that none can take the name.
_NAME = ".file-{number}"


async def lend(files: Files, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a child's request: where the file is, or what the job fails with.

    What is not on this machine's disk is copied into the run's folder, and goes with it.
    """
    try:
        if request["upload_id"] is not None:
            found = await files.upload(request["upload_id"])
        else:
            found = await files.artifact(request["job_id"])
        path = found.path if found.path is not None else await _copy(found, folder)
    except JobError as error:
        permanent = isinstance(error, PermanentError)
        return {"message": str(error), "code": error.code, "permanent": permanent}
    return {"path": str(path), "filename": found.filename, "content_type": found.content_type}


async def _copy(found: StoredFile, folder: Path) -> Path:
    try:
        target = await asyncio.to_thread(_begin, folder)
        with target:
            async with aclosing(await found.open()) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(_write, target, piece)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RetryLater(
            f"there is no place for a file of the job: {why}", code="storage_unavailable"
        ) from None
    return Path(str(target.name))


def _begin(folder: Path) -> FileIO:
    folder.mkdir(mode=0o700, exist_ok=True)
    number = len(list(folder.glob(_NAME.format(number="*"))))
    return FileIO(folder / _NAME.format(number=number), "xb")


def _write(target: FileIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[target.write(view) :]
