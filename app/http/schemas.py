"""The wire format of what comes in: what a submission may say, and how its faults are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from app.http.faults import Fault
from jobs.catalog import Backoff
from jobs.email.params import Recipients
from jobs.email.templating import UnknownLocaleError, templates
from jobs.email.templating.formats import MAX_LOCALE

DAY_SECONDS = 24 * 3600
YEAR_SECONDS = 365 * DAY_SECONDS

MAX_PARENTS = 100
MAX_TAGS = 20
MAX_BATCH = 1000
OUTCOME_TEMPLATES = ("job_finished", "job_failed", "job_canceled")
# Wide enough for the ids that stock RQ producers make up.
JOB_ID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"

_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

# What pydantic says of these is about Python.
_WORDS = {
    "extra_forbidden": "there is no such field",
    "missing": "is needed",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _require_rfc3339(value: object) -> object:
    # pydantic would take numbers and dates too, and read them as the client did not mean.
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 time with its zone, like 2030-01-31T12:00:00Z")
    return value


_ShownTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Time = Annotated[
    AwareDatetime, BeforeValidator(_require_rfc3339, json_schema_input_type=_ShownTime)
]
Number = Annotated[float, Field(strict=True)]


def _accept_whole(value: object) -> object:
    # In JSON 10.0 is an integer (JSON Schema 2020-12, 6.1.1); "10" and true are not.
    return int(value) if type(value) is float and value.is_integer() else value


Whole = BeforeValidator(_accept_whole)


def _require_printable(value: str) -> str:
    if _CONTROL_CHARACTER.search(value) is not None:
        raise ValueError("has a line break or a control character")
    return value


def _require_findable(value: str) -> str:
    # A list is filtered with `tag=key:value`.
    if ":" in value:
        raise ValueError("must not have a colon")
    return value


Printable = AfterValidator(_require_printable)
JobIdText = Annotated[str, Field(strict=True, pattern=JOB_ID_PATTERN)]
# JSON Schema's own words for what these checks say.
_SHOWN_PRINTABLE: JsonDict = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}
_SHOWN_KEYS: JsonDict = {
    "propertyNames": {
        "pattern": r"^[^:\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
        "minLength": 1,
        "maxLength": 50,
    }
}
TagKey = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=50),
    Printable,
    AfterValidator(_require_findable),
]
TagValue = Annotated[
    str, Field(strict=True, max_length=200, json_schema_extra=_SHOWN_PRINTABLE), Printable
]
Tags = Annotated[dict[TagKey, TagValue], Field(max_length=MAX_TAGS, json_schema_extra=_SHOWN_KEYS)]


class BackoffOptions(BaseModel):
    """Waiting before the next attempt; what is absent is the job type's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    initial: Annotated[Number | None, Field(ge=0, le=DAY_SECONDS)] = None
    factor: Annotated[Number | None, Field(ge=1, le=10)] = None
    max: Annotated[Number | None, Field(ge=0, le=DAY_SECONDS)] = None
    jitter: Annotated[Number | None, Field(ge=0, le=1)] = None

    def over(self, default: Backoff) -> Backoff:
        return Backoff(
            initial=self.initial if self.initial is not None else default.initial,
            factor=self.factor if self.factor is not None else default.factor,
            maximum=self.max if self.max is not None else default.maximum,
            jitter=self.jitter if self.jitter is not None else default.jitter,
        )


class ConcurrencyOptions(BaseModel):
    """At most `limit` jobs of this key run at once, among those of one API key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[
        str,
        Field(strict=True, min_length=1, max_length=100, json_schema_extra=_SHOWN_PRINTABLE),
        Printable,
    ]
    limit: Annotated[int, Field(strict=True, ge=1, le=1000), Whole]


def _check_locale(value: str | None) -> str | None:
    if value is not None:
        try:
            for name in OUTCOME_TEMPLATES:
                templates().get(name, internal=True).locale(value)
        except UnknownLocaleError as error:
            raise ValueError(str(error)) from None
    return value


def _describe_locale(schema: JsonDict) -> None:
    pattern = templates().get(OUTCOME_TEMPLATES[0]).locale_pattern()
    shown: JsonDict = {"type": "string", "pattern": pattern, "maxLength": MAX_LOCALE}
    schema["anyOf"] = [shown, {"type": "null"}]


class NotifyOptions(BaseModel):
    """Mail on the job's outcome, with its first file or a link to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: Recipients
    on: Annotated[
        list[Literal["finished", "failed", "canceled", "stopped"]],
        Field(min_length=1, max_length=10),
    ] = ["finished", "failed"]
    locale: Annotated[
        str | None, AfterValidator(_check_locale), Field(json_schema_extra=_describe_locale)
    ] = None


# What the validators of Options say of two fields together.
_SHOWN_TOGETHER: JsonDict = {
    "not": {
        "required": ["delay", "scheduled_at"],
        "properties": {"delay": {"type": "number"}, "scheduled_at": {"type": "string"}},
    },
    "if": {"required": ["allow_failure"], "properties": {"allow_failure": {"const": True}}},
    "then": {"required": ["depends_on"], "properties": {"depends_on": {"type": "array"}}},
}


class Options(BaseModel):
    """How a job is run; null is the same as absent. Durations are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_SHOWN_TOGETHER)

    delay: Annotated[Number | None, Field(ge=0, le=YEAR_SECONDS)] = None
    scheduled_at: Time | None = None
    priority: Literal["high", "default", "low"] | None = None
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=25), Whole] | None = None
    backoff: BackoffOptions | None = None
    timeout: Annotated[Number | None, Field(gt=0, le=DAY_SECONDS)] = None
    retention: Annotated[Number | None, Field(ge=0, le=30 * DAY_SECONDS)] = None
    dry_run: Annotated[bool | None, Field(strict=True)] = None
    expires_at: Time | None = None
    depends_on: Annotated[list[JobIdText] | None, Field(min_length=1, max_length=MAX_PARENTS)] = (
        None
    )
    allow_failure: Annotated[bool | None, Field(strict=True)] = None
    concurrency: ConcurrencyOptions | None = None
    notify: NotifyOptions | None = None
    tags: Tags | None = None

    @field_validator("allow_failure", mode="after")
    @classmethod
    def _need_parents(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        # Faulty parents are not in `data`, and are fault enough.
        if value and info.data.get("depends_on", "") is None:
            raise ValueError("means nothing without depends_on")
        return value

    @model_validator(mode="after")
    def _check_start(self) -> Options:
        if self.delay is not None and self.scheduled_at is not None:
            raise ValueError("delay and scheduled_at exclude each other")
        return self


NO_OPTIONS = Options()


class JobSubmission(BaseModel):
    """The body of POST /v1/jobs."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(strict=True)]
    params: dict[str, Any] = {}
    options: Options = NO_OPTIONS


class RetryRequest(BaseModel):
    """The body of POST /v1/jobs/{id}/retry. What is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    params: dict[str, Any] | None = None
    options: Options | None = None


class BatchSubmission(BaseModel):
    """The body of POST /v1/batches. Each of `jobs` is checked by itself, as a JobSubmission."""

    model_config = ConfigDict(extra="forbid")

    jobs: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]
    mode: Literal["strict", "permissive"] = "strict"


def faults_of(error: ValidationError, raw: object, base: str = "") -> list[Fault]:
    """A validation error as pointers into what the client sent; never its values.

    `base` is the pointer of `raw` in the body.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        Fault(
            base + _pointer(fault["loc"], raw),
            _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, ")[:300]),
        )
        for fault in found
    ]


def _pointer(location: Sequence[int | str], raw: Any) -> str:
    """RFC 6901. pydantic also names variants of a union, which are no places in the body."""
    pointer = ""
    for index, part in enumerate(location):
        found = _child(raw, part)
        is_absent_field = isinstance(raw, dict) and index == len(location) - 1
        if found:
            raw = found[0]
        elif not (is_absent_field and _FIELD.fullmatch(str(part))):
            continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _child(raw: Any, part: int | str) -> list[Any]:
    """What stands there, as a list of one; empty when nothing does."""
    if isinstance(raw, list) and isinstance(part, int):
        return raw[part : part + 1]
    if isinstance(raw, dict) and part in raw:
        return [raw[part]]
    return []
