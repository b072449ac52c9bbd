"""Which failed jobs a request means, and what is to be done with them: what comes in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from app.http.faults import Fault, InvalidRequestError
from app.http.schemas import Number, Time, faults_of
from app.queue.records.failed import FailureFilter

FILTERS = (
    "status", "fingerprint", "type", "queue", "error", "tag", "batch_id", "created_after",
    "created_before",
)  # fmt: skip
NOTHING = 'names no jobs: give a filter, or {"status": "failed"} for all that have failed'
BOTH = "a selection is one already: give no filter beside it"
_TextFilter = Annotated[str, Field(strict=True, min_length=1, max_length=500)]
MAX_PACE = 1000


def _shown(names: tuple[str, ...]) -> JsonDict:
    """JSON Schema's way to say that one of these must be there, and not null."""
    given: Any = [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]
    return {"anyOf": given}


_FILTERED: JsonDict = _shown(FILTERS)
_SELECTED: JsonDict = {
    "oneOf": [_shown(("selection",)), _FILTERED],
}


class FailureFilters(BaseModel):
    """Which failed jobs: those that fit all of it. null is the same as absent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_FILTERED)

    status: Literal["failed"] | None = None
    fingerprint: _TextFilter | None = None
    type: _TextFilter | None = None
    queue: _TextFilter | None = None
    error: Annotated[_TextFilter | None, Field(description="An error's `code`.")] = None
    tag: Annotated[_TextFilter, Field(pattern="^[^:]+:")] | None = None
    batch_id: _TextFilter | None = None
    created_after: Time | None = None
    created_before: Time | None = None

    @property
    def is_filter(self) -> bool:
        return any(getattr(self, name) is not None for name in FILTERS)

    @model_validator(mode="after")
    def _check_given(self) -> FailureFilters:
        if not self.is_filter:
            raise ValueError(NOTHING)
        return self

    def as_filter(self) -> FailureFilter:
        key, _, value = (self.tag or "").partition(":")
        return FailureFilter(
            fingerprint=self.fingerprint,
            type=self.type,
            queue=self.queue,
            error=self.error,
            tag=(key, value) if self.tag is not None else None,
            batch_id=self.batch_id,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class Discarding(FailureFilters):
    """What to remove: a selection of a preview, or a filter."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_SELECTED)

    selection: _TextFilter | None = None
    pace: Annotated[
        Number | None, Field(gt=0, le=MAX_PACE, description="Jobs per second, at most.")
    ] = None

    @model_validator(mode="after")
    def _check_given(self) -> Discarding:
        if (self.selection is not None) == self.is_filter:
            raise ValueError(BOTH if self.is_filter else NOTHING)
        return self


class Retrying(Discarding):
    """What to run again, and how carefully."""

    canary: Annotated[
        bool | None,
        Field(
            strict=True,
            description="One, then ten, then the rest, each time waiting for how they end; it"
            " stops when one of them fails of the same cause. One that somebody cancels tells"
            " nothing, and another goes in its place.",
        ),
    ] = None


def read(model: type[BaseModel], body: Any) -> Any:
    """The body as the model has it. Raises InvalidRequestError."""
    if not isinstance(body, dict):
        raise InvalidRequestError([Fault("", "must be an object")])
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error, body)) from None
