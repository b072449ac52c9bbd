"""What can be wrong with a request, as facts; `problems.py` gives each a status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.queue.records.drafts import Allowance

# As many as a person reads; the rest is counted.
MAX_FAULTS = 50


class MalformedRequestError(ValueError):
    """What arrived is not HTTP, or its head is too large."""


class OverloadedError(Exception):
    """As many connections as this process takes are open."""


class ShuttingDownError(Exception):
    """The process ends, and what the request needs has not come in the time it had left."""


class MalformedJsonError(ValueError):
    """The body is not JSON; the message says where."""


class MalformedFormError(ValueError):
    """The body is not a multipart form; the message says why."""


class UploadNotFoundError(LookupError):
    """No upload of that id, or not one that the asking key may see."""


class ArtifactNotFoundError(LookupError):
    """The job has no artifact of that name, or storage has lost it."""


class ResultLinkError(LookupError):
    """The link was changed, or what it names is gone: which one is nobody's business."""


class RangeNotSatisfiableError(ValueError):
    """The range begins behind the end."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"There are only {size_bytes} bytes.")
        self.size_bytes = size_bytes


class UnauthenticatedError(Exception):
    """No key was presented, or none that is known."""


class MissingScopeError(PermissionError):
    """The key lacks a scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs a key with the scope {scope}.")
        self.scope = scope


class ForeignRequestError(PermissionError):
    """Not from this machine, while no keys are configured."""


class CrossOriginError(PermissionError):
    """A page of another origin may have sent this, where a browser's session acts."""


class NotFoundError(LookupError):
    """No route has this path."""


class MethodNotAllowedError(Exception):
    """The path exists, the method does not."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This path takes {', '.join(allowed)}.")
        self.allowed = allowed


class RateLimitedError(Exception):
    """The key has used up what it may ask in its window."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(
            f"This key may send {allowance.limit} requests in {allowance.window_seconds} seconds."
        )
        self.allowance = allowance


class InvalidHeaderError(ValueError):
    """A header that changes what the request means cannot be understood."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"The header {name} {detail}.")


class SlowBodyError(TimeoutError):
    """The body stopped arriving, or only dripped: `size_bytes` in so many seconds."""

    def __init__(self, seconds: float, size_bytes: int | None = None) -> None:
        what = "Nothing" if size_bytes is None else f"Only {size_bytes} bytes"
        super().__init__(f"{what} arrived in {seconds:g} seconds.")


class BodyTooLargeError(ValueError):
    """More bytes than this path takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"This path takes at most {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


class UnsupportedMediaTypeError(ValueError):
    """Not what this path takes, by its own header."""

    def __init__(self, message: str, accepted: str | None = "application/json") -> None:
        super().__init__(message)
        self.accepted = accepted


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad field. `pointer` is a JSON Pointer into the body; "" is the body itself."""

    pointer: str
    detail: str
    parameter: str | None = None

    def as_json(self) -> dict[str, str]:
        if self.parameter is not None:
            return {"parameter": self.parameter, "detail": self.detail}
        return {"pointer": self.pointer, "detail": self.detail}


class NamedJob(NamedTuple):
    """Where a body names another job, and which."""

    pointer: str
    job_id: str


class InvalidRequestError(ValueError):
    """Well-formed, but not what this path takes.

    `named` are jobs on which the request depends, and which have not been looked for yet; `most`
    is how many faults a client is told.
    """

    def __init__(
        self, faults: Sequence[Fault], named: Sequence[NamedJob] = (), most: int = MAX_FAULTS
    ) -> None:
        # None yet: that a job which it names is not there is about to be found.
        first = faults[0] if faults else Fault("", "does not fit")
        listed = faults[:most]
        where = first.parameter if first.parameter is not None else first.pointer
        notes = []
        if len(listed) > 1:
            notes.append(f"{len(listed) - 1} more in errors")
        if len(faults) > len(listed):
            notes.append(f"{len(faults) - len(listed)} more not listed")
        more = f" ({', '.join(notes)})" if notes else ""
        super().__init__(f"{where or 'body'}: {first.detail}{more}")
        self.faults = faults
        self.named = named
        self.listed = listed

    def below(self, base: str) -> InvalidRequestError:
        """The same, for whom the body stands at `base` in a larger one."""
        return InvalidRequestError(
            [Fault(base + fault.pointer, fault.detail) for fault in self.faults],
            [NamedJob(base + pointer, job_id) for pointer, job_id in self.named],
        )

    @classmethod
    def parameter(cls, name: str, detail: str) -> InvalidRequestError:
        return cls([Fault("", detail, parameter=name)])
