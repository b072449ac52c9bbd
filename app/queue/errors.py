"""What can go wrong between us and Redis, as facts; `http/problems.py` gives them a status."""


class QueueUnavailableError(Exception):
    """Redis did not take the job, or cannot be asked. `reason` is fit for a client's eyes."""

    def __init__(self, reason: str, retry_after_seconds: int = 2) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class JobNotFoundError(LookupError):
    """No job of that id, or not one that the asking key may see."""


class JobIdTakenError(Exception):
    """Another job has that id already."""
