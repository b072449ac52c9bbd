"""What follows a failed run: another attempt and when, or the failed registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.catalog import Backoff
from jobs.errors import JobError, PermanentError, RetryLater

MESSAGE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """A run's error, as it goes on the job. `delay_seconds` overrides the backoff."""

    code: str
    message: str
    error_class: str
    retryable: bool
    traceback: str = ""
    delay_seconds: float | None = None
    result: object = None

    @classmethod
    def of(cls, error: BaseException, traceback: str = "") -> Failure:
        """What an exception of a job function says."""
        return cls(
            code=error.code if isinstance(error, JobError) else "error",
            message=str(error)[:MESSAGE_CHARACTERS],
            error_class=type(error).__qualname__,
            retryable=not isinstance(error, PermanentError),
            traceback=traceback,
            delay_seconds=error.delay_seconds if isinstance(error, RetryLater) else None,
            result=error.result if isinstance(error, JobError) else None,
        )


def wait_seconds(
    failure: Failure,
    *,
    failures_before: int,
    max_attempts: int,
    backoff: Backoff,
    random: Callable[[], float],
) -> float | None:
    """Seconds until the next attempt, or None: the job has failed for good.

    `failures_before` counts earlier runs that ended by the job's own error or time-out;
    interrupted and abandoned ones do not use up attempts. `random` gives 0 ≤ x < 1.
    """
    if not failure.retryable or failures_before + 1 >= max_attempts:
        return None
    if failure.delay_seconds is not None:
        return max(0.0, failure.delay_seconds)
    try:
        plain = min(backoff.maximum, backoff.initial * backoff.factor**failures_before)
    except OverflowError:
        plain = backoff.maximum
    return float(plain * (1 + backoff.jitter * (2 * random() - 1)))
