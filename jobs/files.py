"""Files that a job's params name: clients' uploads, what other jobs left, and what is too large
to stay where it stands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from jobs.errors import PermanentError

# What a job may carry in its own record; more is stored as an upload before it is submitted.
MOST_CARRIED_BYTES = 64 * 1024


class NamedFile(NamedTuple):
    """Where in the params an object names a file, and which: one of the last three.

    `carried_bytes` not 0: what the object carries is to be stored as an upload, whose id takes
    its place: `content`, in base64, or `rows`, which are stored as JSON.
    """

    place: tuple[str | int, ...]
    upload_id: str | None = None
    job_id: str | None = None
    carried_bytes: int = 0
    carried_field: Literal["content", "rows"] = "content"


class FileNeeds(NamedTuple):
    """What params say of their files before the job is accepted.

    The uploads that they name must be there, and are kept until the job is done; jobs whose
    artifacts they name come first. All files together have at most `most_bytes`, those
    `kept_bytes` among them that stay in the params.
    """

    named: Sequence[NamedFile] = ()
    kept_bytes: int = 0
    most_bytes: int = 0


class NamesFiles:
    """Base of a params model that names files."""

    def file_needs(self) -> FileNeeds | None:
        """None when it names none this time."""
        raise NotImplementedError


class StoredFile(NamedTuple):
    """A file as a run finds it. `open` gives its bytes from the start, in pieces, each time.

    `path` is where it is on this machine's disk, if it is there.
    """

    filename: str | None
    content_type: str
    size_bytes: int
    open: Callable[[], Awaitable[AsyncGenerator[bytes, None]]]
    path: Path | None = None


class LocalFile(NamedTuple):
    """A file on this machine's disk, for a `def` job: to be read, never written."""

    path: Path
    filename: str | None
    content_type: str


def no_local_file(upload_id: str | None, job_id: str | None) -> LocalFile:
    """Stands in where there is no storage: a stock worker, a test."""
    raise PermanentError("this context has no files", code="file_missing")


class Files(Protocol):
    """What `context.files` can do.

    All raise PermanentError, code `file_missing`, for what is not there any more, and
    RetryLater when that cannot be known now.
    """

    async def upload(self, upload_id: str) -> StoredFile: ...

    async def artifact(self, job_id: str) -> StoredFile:
        """The first artifact that the job has left."""
        ...

    async def result(self, job_id: str) -> Any:
        """What the job has returned, when it has finished."""
        ...


class NoFiles:
    """Stands in where there is no storage: a child process, a test."""

    async def upload(self, upload_id: str) -> StoredFile:
        raise PermanentError("this context has no files", code="file_missing")

    async def artifact(self, job_id: str) -> StoredFile:
        raise PermanentError("this context has no files", code="file_missing")

    async def result(self, job_id: str) -> Any:
        raise PermanentError("this context has no results", code="file_missing")
