"""What can be wrong with a request, as facts; `problems.py` gives each a status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MalformedRequestError(ValueError):
    """What arrived is not HTTP, or its head is too large."""


class OverloadedError(Exception):
    """As many connections as this process takes are open."""


class MalformedJsonError(ValueError):
    """The body is not JSON; the message says where."""


class UnauthenticatedError(Exception):
    """No key was presented, or none that is known."""


class MissingScopeError(PermissionError):
    """The key lacks a scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs a key with the scope {scope}.")
        self.scope = scope


class ForeignRequestError(PermissionError):
    """Not from this machine, while no keys are configured."""


class NotFoundError(LookupError):
    """No route has this path."""


class MethodNotAllowedError(Exception):
    """The path exists, the method does not."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"This path takes {', '.join(allowed)}.")
        self.allowed = allowed


class SlowBodyError(TimeoutError):
    """The body stopped arriving."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Nothing arrived for {seconds:g} seconds.")


class BodyTooLargeError(ValueError):
    """More bytes than this path takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"This path takes at most {limit_bytes} bytes.")
        self.limit_bytes = limit_bytes


class UnsupportedMediaTypeError(ValueError):
    """Not JSON, by its own header."""


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


class InvalidRequestError(ValueError):
    """Well-formed, but not what this path takes."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        where = first.parameter if first.parameter is not None else first.pointer
        more = f" ({len(faults) - 1} more in errors)" if len(faults) > 1 else ""
        super().__init__(f"{where or 'body'}: {first.detail}{more}")
        self.faults = faults

    @classmethod
    def parameter(cls, name: str, detail: str) -> InvalidRequestError:
        return cls([Fault("", detail, parameter=name)])
