"""What one run of a job may use, so that a job function needs nothing of the service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jobs.email.message import OutgoingEmail


class MailSender(Protocol):
    """What `context.mail` can do; the worker's is an SMTP pool, a test's a plain object."""

    async def send(self, email: OutgoingEmail) -> dict[str, Any]:
        """Hand over one e-mail. Returns the result documented for `email.send`.

        Raises PermanentError when every recipient was refused for good, RetryLater when
        trying again may help.
        """
        ...


class NoMail:
    """Stands in where no mail server is configured or reachable: a child process, a test."""

    async def send(self, email: OutgoingEmail) -> dict[str, Any]:
        raise RuntimeError("this context has no mail sender; only `async def` jobs get one")


def _ignore_progress(current: float, total: float | None, unit: str, message: str) -> None:
    """A run that nobody watches."""


@dataclass(slots=True)
class JobContext:
    """One run of one job.

    `attempt` counts runs from 1. `recovered` is true when an earlier run was interrupted
    or its worker died, so that part of the work may have been done already.
    `timeout_seconds` is what this run may take; `previous_result` is the `result` that the
    last failed run left with its JobError. Every field has a default: a job function is
    tested by calling it with `JobContext()`.
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
    report_progress: Callable[[float, float | None, str, str], None] = _ignore_progress

    @property
    def log(self) -> logging.Logger:
        return logging.getLogger(f"jobs.{self.job_type}")

    def progress(
        self, current: float, total: float | None = None, unit: str = "", message: str = ""
    ) -> None:
        """Tell watchers how far the run is. Cheap; may be called for every row."""
        self.report_progress(current, total, unit, message)
