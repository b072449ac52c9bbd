"""What can go wrong between us and Redis, as facts; `http/problems.py` gives them a status."""

from __future__ import annotations

from collections.abc import Sequence


class QueueUnavailableError(Exception):
    """Redis did not take the job, or cannot be asked. `reason` is fit for a client's eyes."""

    def __init__(self, reason: str, retry_after_seconds: int = 2) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class QueueFullError(QueueUnavailableError):
    """A queue has no room for all of a request's jobs.

    `beyond` are the places, among the request's jobs, of those that would not fit.
    """

    def __init__(self, reason: str, retry_after_seconds: int, beyond: Sequence[int]) -> None:
        super().__init__(reason, retry_after_seconds)
        self.beyond = beyond


class TooManyUploadsError(Exception):
    """The key has as many uploads as it may have at once."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a key has at most {most} uploads at once")
        self.most = most


class JobNotFoundError(LookupError):
    """No job of that id, or not one that the asking key may see."""


class JobIdTakenError(Exception):
    """Another job has that id already."""


class IdempotencyMismatchError(Exception):
    """The idempotency key was used for another request."""


class IdempotencyPendingError(Exception):
    """The first request with this idempotency key is still being accepted."""


class UnknownParentError(LookupError):
    """`depends_on` names a job that does not exist, or that the key may not see.

    `job_index` is the job's place in a batch (0 for a single one), `parent_index` the
    parent's in its `depends_on`.
    """

    def __init__(self, job_index: int, parent_index: int) -> None:
        super().__init__("there is no such job")
        self.job_index = job_index
        self.parent_index = parent_index


class ExpiredError(Exception):
    """A job's `expires_at` is in the past or before its start: it could never run.

    `job_index` is the job's place in a batch, 0 for a single one.
    """

    def __init__(self, job_index: int) -> None:
        super().__init__("it could never run")
        self.job_index = job_index


class JobEndedError(Exception):
    """The job has ended already; `status` says how."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is {status}")
        self.status = status


class JobNotEndedError(Exception):
    """Only an ended job can be deleted; `status` says where it is."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is {status}")
        self.status = status


class JobNotFailedError(Exception):
    """Only a job that failed or was stopped can be retried; `status` says where it is."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is {status}")
        self.status = status


class FailedParentError(UnknownParentError):
    """A job that is to wait for another would wait for one that has failed."""


class SelectionNotFoundError(LookupError):
    """No selection of that id: it was none, or its time is over."""


class OperationNotFoundError(LookupError):
    """No operation of that id."""


class OperationEndedError(Exception):
    """The operation has ended already; `state` says how."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the operation is {state}")
        self.state = state


class ScheduleNotFoundError(LookupError):
    """No schedule of that name."""


class ScheduleExistsError(Exception):
    """A schedule of that name is there already."""


class ScheduleFromFileError(Exception):
    """The schedule stands in a file, and is changed there."""


class TooManySchedulesError(Exception):
    """There are as many schedules as there may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are at most {most} schedules")
        self.most = most


class BadCursorError(ValueError):
    """The cursor is not one that a list gave."""
