"""When a run ends by itself: shortly before its worker would end it, to say why."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jobs.context import JobContext
from jobs.errors import PermanentError

SPARE_SHARE, SPARE_SECONDS = 0.25, 2.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """`ends_at` is of the monotonic clock."""

    ends_at: float
    timeout_seconds: float

    @classmethod
    def of(cls, context: JobContext) -> Deadline:
        """That of a run which begins now."""
        spare = min(SPARE_SECONDS, context.timeout_seconds * SPARE_SHARE)
        return cls(time.monotonic() + context.timeout_seconds - spare, context.timeout_seconds)

    @property
    def error(self) -> PermanentError | None:
        """What the job fails with, once it is over."""
        if time.monotonic() <= self.ends_at:
            return None
        return PermanentError(f"it did not end within {self.timeout_seconds:g} s", code="timeout")

    def keep(self) -> None:
        """Raises PermanentError once it is over."""
        if (error := self.error) is not None:
            raise error
