"""How a job function says what happened: for good, or worth another attempt."""

from typing import Any


class JobError(Exception):
    """Base of the two below; any other exception of a job counts as worth a retry.

    `code` is the stable word in the API's `error.code`; `result` is kept on the job
    beside the error (an e-mail's reply of each recipient, say) and must be JSON.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, result: Any = None) -> None:
        super().__init__(message)
        self.code = code if code is not None else self.default_code
        self.result = result


class PermanentError(JobError):
    """Trying again cannot help: the job fails at once, whatever attempts are left."""

    default_code = "permanent"


class RetryLater(JobError):  # noqa: N818 - reads as what it does: raise RetryLater(...)
    """Trying again may help. `delay_seconds` replaces the backoff for this one attempt.

    `uses_attempt` False: the run does not count, however often it ends so; the wait should
    have an end. `pauses_queue`: what is wrong would stop every job of the queue, so that none
    is begun until an operator resumes it or the worker finds it mended.
    """

    default_code = "retry"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        result: Any = None,
        delay_seconds: float | None = None,
        uses_attempt: bool = True,
        pauses_queue: bool = False,
    ) -> None:
        super().__init__(message, code=code, result=result)
        self.delay_seconds = delay_seconds
        self.uses_attempt = uses_attempt
        self.pauses_queue = pauses_queue
