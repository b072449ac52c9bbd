"""What one run of a job may use, so that a job function needs nothing of the service."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobs.files import Files, LocalFile, NoFiles, no_local_file

if TYPE_CHECKING:
    from jobs.email.message import OutgoingEmail

ARTIFACT_COUNT = 20
# No dot in front: what is hidden on a disk is lost by those who download it.
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_CONTENT_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(; [a-z0-9-]+=[A-Za-z0-9._-]+)*")


class Artifact(NamedTuple):
    """A file that a run leaves behind."""

    name: str
    content_type: str


class MailSender(Protocol):
    """What `context.mail` can do; the worker's is an SMTP pool, a test's a plain object."""

    async def send(
        self,
        email: OutgoingEmail,
        before_handover: Callable[[list[str]], Awaitable[None]] | None = None,
        within_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Hand over one e-mail. Returns the result documented for `email.send`.

        `before_handover` is called with the recipients to whom it is about to go; should it
        raise, none of them gets it. Raises PermanentError when every recipient was refused for
        good, RetryLater when trying again may help, or `within_seconds` are over.
        """
        ...


class Suppressions(Protocol):
    """What `context.suppressions` can do: addresses that were refused for good, remembered."""

    async def among(self, addresses: Sequence[str]) -> set[str]:
        """Which of these are remembered."""
        ...

    async def add(self, address: str, code: int, reply: str) -> None:
        """Remember one, for as long as the service's settings say."""
        ...


class NoSuppressions:
    """Remembers nothing: in a child process, a test."""

    async def among(self, addresses: Sequence[str]) -> set[str]:
        return set()

    async def add(self, address: str, code: int, reply: str) -> None:
        """Forgotten."""


class NoMail:
    """Stands in where no mail server is configured or reachable: a child process, a test."""

    async def send(
        self,
        email: OutgoingEmail,
        before_handover: Callable[[list[str]], Awaitable[None]] | None = None,
        within_seconds: float | None = None,
    ) -> dict[str, Any]:
        raise RuntimeError("this context has no mail sender; only `async def` jobs get one")


def _ignore_progress(current: float, total: float | None, unit: str, message: str) -> None:
    """A run that nobody watches."""


async def _keep_nothing(result: Any) -> None:
    """A run that nobody would go on with."""


@dataclass(slots=True)
class JobContext:
    """One run of one job.

    `attempt` counts runs from 1. `recovered` is true when an earlier run was interrupted
    or its worker died, so that part of the work may have been done already.
    `timeout_seconds` is what this run may take; `previous_result` is the `result` that an
    earlier run left with its JobError or by `save`. `max_artifact_bytes` is what the service
    stores of one file, at most. Every field has a default: a job function
    is tested by calling it with `JobContext()`.
    """

    job_id: str = "0" * 20
    job_type: str = ""
    attempt: int = 1
    recovered: bool = False
    timeout_seconds: float = 180.0
    request_id: str | None = None
    dry_run: bool = False
    previous_result: Any = None
    mail: MailSender = field(default_factory=NoMail)
    files: Files = field(default_factory=NoFiles)
    suppressions: Suppressions = field(default_factory=NoSuppressions)
    save_result: Callable[[Any], Awaitable[None]] = _keep_nothing
    fetch_file: Callable[[str | None, str | None], LocalFile] = no_local_file
    report_progress: Callable[[float, float | None, str, str], None] = _ignore_progress
    artifacts_folder: str | None = None
    max_artifact_bytes: int = 512 * 1024 * 1024
    artifacts: list[Artifact] = field(default_factory=list)

    @property
    def log(self) -> logging.Logger:
        return logging.getLogger(f"jobs.{self.job_type}")

    def progress(
        self, current: float, total: float | None = None, unit: str = "", message: str = ""
    ) -> None:
        """Tell watchers how far the run is. Cheap; may be called for every row."""
        self.report_progress(current, total, unit, message)

    async def save(self, result: Any) -> None:
        """Keep what has been done so far: `previous_result` of the next run, should this one be
        cut short. Returns when Redis has it; raises when the job is another worker's by now.
        Only in `async def` jobs; elsewhere nothing is kept."""
        await self.save_result(result)

    def local_file(self, *, upload_id: str | None = None, job_id: str | None = None) -> LocalFile:
        """An upload, or the first artifact of another job, on this machine's disk: in `def` jobs.

        The params must be a `NamesFiles` that has named it: so it was there, and the client's to
        read, when the job was submitted. Raises PermanentError, code `file_missing`, for what is
        not there any more, and RetryLater when that cannot be known now.
        """
        return self.fetch_file(upload_id, job_id)

    def new_artifact(self, name: str, content_type: str = "application/octet-stream") -> Path:
        """Where to write a file that is to stay with the job, for clients to download.

        `name` has letters, digits, `_`, `-` and, not in front, `.`: 100 at most. The file is
        taken when the function has returned; a run that fails leaves none. The first that is
        named comes first in the job's `artifacts`. Raises ValueError for a name that is bad or
        taken, and for more than 20.
        """
        if _ARTIFACT_NAME.fullmatch(name) is None:
            raise ValueError(f"{name[:100]!r} is no name for an artifact")
        if _CONTENT_TYPE.fullmatch(content_type) is None or len(content_type) > 200:
            raise ValueError(f"{content_type[:100]!r} is no content type: text/csv")
        if name in {artifact.name for artifact in self.artifacts}:
            raise ValueError(f"this run has an artifact {name!r} already")
        if len(self.artifacts) >= ARTIFACT_COUNT:
            raise ValueError(f"a run leaves at most {ARTIFACT_COUNT} artifacts")
        if self.artifacts_folder is None:
            self.artifacts_folder = tempfile.mkdtemp(prefix="recado-run-")
        folder = Path(self.artifacts_folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.artifacts.append(Artifact(name, content_type))
        return folder / name
