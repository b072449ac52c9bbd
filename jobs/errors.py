"""How a job function says what happened: for good, or worth another attempt."""

from typing import Any

# What `error.code` says of our own job types and of the worker; other types add their own.
CODES = {
    "error": "an exception that is no JobError",
    "permanent": "trying again cannot help",
    "retry": "trying again may help",
    "timeout": "it took longer than its `timeout`",
    "abandoned": "its worker died each time that it ran",
    "killed": "its process was killed, or ended by itself",
    "killed_memory": "it took more memory than it may, or there was",
    "stopped": "somebody asked to stop it",
    "invalid_params": "its params do not fit the job type any more",
    "unregistered_type": "no job type of that name is registered",
    "unsupported_stock_feature": "a stock producer asked for what this worker does not do",
    "broken_record": "its record cannot be read",
    "bad_result": "its result is not JSON, or too large",
    "bad_artifact": "an artifact is missing, too large or one too many",
    "file_missing": "a file that it names is gone",
    "storage_unavailable": "the storage does not answer",
    "smtp_permanent": "the mail server refused the mail, or every recipient, for good",
    "smtp_temporary": "the mail server takes the mail later",
    "smtp_timeout": "the mail server did not answer in time",
    "smtp_unreachable": "the mail server cannot be reached",
    "smtp_auth": "the mail server does not accept user and password",
    "smtp_tls": "no TLS with the mail server",
    "smtp_utf8_unsupported": "an address has letters beyond ASCII and the server no SMTPUTF8",
    "suppressed": "every recipient was refused for good before",
    "delivery_unknown": "whether the mail was taken is not known, and it is sent once at most",
    "domain_busy": "enough mail is on its way to that domain",
    "run_lost": "another run has taken over",
    "attachments_too_large": "the attachments are larger together than a mail may be",
    "goes_on": "it has more to do, and makes room for others meanwhile",
    "bad_text": "a text of the mail cannot be encoded",
    "bad_source": "the data file is broken, or not of the format that was told or found out",
    "empty_source": "the data file has no column",
    "unknown_column": "the data has no column of that name",
    "sql_error": "the SQL is wrong, or does not fit the data",
    "sql_forbidden": "the SQL is more than one SELECT over `input`",
    "bad_schema": "the schema is no JSON Schema",
    "result_too_large": "the answer is larger than an artifact may be",
    "memory": "the data or the SQL need more memory than a job has",
    "temp_disk": "the data or the SQL need more temporary disk than a job has",
}


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
