"""What follows a failed run: another attempt and when, or the failed registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.queue.perform import describe_error
from jobs.catalog import Backoff, JobType

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
    # Where in the job's own code, as fingerprints.py has it; empty where no frame tells.
    place: str = ""
    uses_attempt: bool = True
    pauses_queue: bool = False

    @classmethod
    def of(cls, error: BaseException, job_type: JobType | None = None) -> Failure:
        """What an exception of a job function says."""
        return cls.described(describe_error(error, job_type))

    @classmethod
    def described(cls, frame: dict[str, Any]) -> Failure:
        """The same from `describe_error`, which a child process has called."""
        return cls(
            code=str(frame["code"]),
            message=str(frame["message"])[:MESSAGE_CHARACTERS],
            error_class=str(frame["class"]),
            retryable=not frame["permanent"],
            traceback=str(frame.get("traceback") or ""),
            delay_seconds=frame.get("delay_seconds"),
            result=frame.get("result"),
            place=str(frame.get("place") or ""),
            uses_attempt=bool(frame.get("uses_attempt", True)),
            pauses_queue=bool(frame.get("pauses_queue")),
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
    interrupted and abandoned ones do not use up attempts, nor does one that says so.
    `random` gives 0 ≤ x < 1.
    """
    if not failure.retryable:
        return None
    if failure.uses_attempt and failures_before + 1 >= max_attempts:
        return None
    if failure.delay_seconds is not None:
        return max(0.0, failure.delay_seconds)
    try:
        plain = min(backoff.maximum, backoff.initial * backoff.factor**failures_before)
    except OverflowError:
        plain = backoff.maximum
    return float(plain * (1 + backoff.jitter * (2 * random() - 1)))
