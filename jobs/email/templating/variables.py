"""The types that a template declares for its variables, and the model that checks them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

MAX_STRING = 500
MAX_TEXT = 50_000
MAX_URL = 2_000
# As far as a double, which is what many clients' JSON has, counts every one of them.
MAX_INTEGER = 2**53
MAX_NUMBER = 1e15

# JSON Schema's own words, in the dialect that Python's `re` shares.
_ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_LINES = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"
# Only what opens a page: `javascript:` in a mail's link would be run by whoever shows the mail.
_URL = (
    r"^[hH][tT][tT][pP][sS]?://"
    r"[^\u0000-\u0020\u007f-\u00a0\u2028\u2029\"<>\\^`{|}/?#]+"
    r"([/?#][^\u0000-\u0020\u007f-\u00a0\u2028\u2029\"<>\\^`{|}]*)?$"
)
# No JSON of a client has it, and regular expressions of JSON Schema cannot say it.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable as declared; `kind` is a key of KINDS."""

    name: str
    kind: str
    required: bool

    @property
    def type(self) -> str:
        """What clients are told: string, integer, number, boolean or time."""
        return "string" if self.kind in {"text", "url"} else self.kind


def _matching(pattern: str, complaint: str) -> AfterValidator:
    compiled = re.compile(pattern.removesuffix("$"))

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None or _HALF_A_PAIR.search(value) is not None:
            raise PydanticCustomError("template_variable", "{complaint}", {"complaint": complaint})
        return value

    return AfterValidator(check)


def _read_time(value: Any) -> Any:
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise PydanticCustomError(
            "time", "must be an RFC 3339 time with its zone, like 2030-01-31T12:00:00Z"
        )
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise PydanticCustomError("time", "is no time that exists") from None


def _accept_whole(value: Any) -> Any:
    # In JSON 10.0 is an integer (JSON Schema 2020-12, 6.1.1); "10" and true are not.
    return int(value) if type(value) is float and value.is_integer() else value


def _text(pattern: str, complaint: str, limit: int, **shown: Any) -> Callable[[bool], Any]:
    def build(required: bool) -> Any:
        least = 1 if required and "format" not in shown else 0
        field = Field(
            strict=True,
            min_length=least,
            max_length=limit,
            json_schema_extra={"pattern": pattern, **shown},
        )
        return Annotated[str, field, _matching(pattern, complaint)]

    return build


def _plain(annotation: Any) -> Callable[[bool], Any]:
    return lambda _: annotation


_ShownTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
# What may stand in a declaration. A required string has at least one character.
KINDS: dict[str, Callable[[bool], Any]] = {
    "string": _text(_ONE_LINE, "must be one line without control characters", MAX_STRING),
    "text": _text(_LINES, "has a control character that is no line break", MAX_TEXT),
    "url": _text(_URL, "must be a URL that begins with https:// or http://", MAX_URL, format="uri"),
    "integer": _plain(
        Annotated[
            int,
            Field(strict=True, ge=-MAX_INTEGER, le=MAX_INTEGER),
            BeforeValidator(_accept_whole),
        ]
    ),
    "number": _plain(Annotated[float, Field(strict=True, ge=-MAX_NUMBER, le=MAX_NUMBER)]),
    "boolean": _plain(Annotated[bool, Field(strict=True)]),
    "time": _plain(
        Annotated[datetime, BeforeValidator(_read_time, json_schema_input_type=_ShownTime)]
    ),
}


def model_of(name: str, variables: Iterable[Variable]) -> type[BaseModel]:
    """The model that checks the variables of a template; null is the same as absent."""
    fields: dict[str, Any] = {}
    for each in variables:
        annotation = KINDS[each.kind](each.required)
        fields[each.name] = (annotation, ...) if each.required else (annotation | None, None)
    return create_model(
        f"{name}_variables", __config__=ConfigDict(extra="forbid"), __module__=__name__, **fields
    )
