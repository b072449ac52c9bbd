"""Header fields that a client may add: for lists, threads and filters, and never ours."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from jobs.email.headers import LONGEST_WORD

MAX_HEADERS = 30
MAX_VALUE = 2000
# Beside `X-…`. All but the last are read by programs: they stay as they are, in ASCII.
_STRUCTURED = {
    "auto-submitted", "feedback-id", "importance", "in-reply-to", "list-archive", "list-help",
    "list-id", "list-owner", "list-post", "list-subscribe", "list-unsubscribe",
    "list-unsubscribe-post", "precedence", "priority", "references", "sensitivity",
}  # fmt: skip
_FREE_TEXT = {"comments", "keywords", "organization"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ASCII = re.compile(r"[ -~]*")


def is_structured(name: str) -> bool:
    """Whether a program reads the field, which an encoded word would hide from it."""
    return name.lower() in _STRUCTURED


def _check(headers: dict[str, str]) -> dict[str, str]:
    """Raises for the first that may not stand; the message names it, not its value."""
    seen = set()
    for name, value in headers.items():
        lower = name.lower()
        if _NAME.fullmatch(name) is None:
            raise _fault("{name} is no header name", name)
        if lower in seen:
            raise _fault("{name} comes twice", name)
        seen.add(lower)
        if not (lower.startswith("x-") or lower in _STRUCTURED or lower in _FREE_TEXT):
            raise _fault("{name} may not be set: X-… and those for lists and threads may", name)
        if _UNFIT.search(value) is not None:
            raise _fault("{name} has a line break or a control character", name)
        if not value.strip():
            raise _fault("{name} is empty", name)
        if lower in _STRUCTURED:
            _check_structured(name, value)
    return headers


def _check_structured(name: str, value: str) -> None:
    if _ASCII.fullmatch(value) is None:
        raise _fault("{name} has characters beyond ASCII, which it cannot carry", name)
    if max(map(len, value.split(" "))) > LONGEST_WORD:
        raise _fault("{name} has a word that is too long for a line", name)


def _fault(message: str, name: str) -> PydanticCustomError:
    shown = name[:80].encode("ascii", "replace").decode()
    return PydanticCustomError("header", message, {"name": shown})


def _in_any_case(name: str) -> str:
    """JSON Schema's patterns have no flag for it."""
    return "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in name)


# JSON Schema's own words for what the checks above say of names, and of every value.
_NAMES = "|".join(map(_in_any_case, sorted(_STRUCTURED | _FREE_TEXT)))
_VALUE_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
# In two: who makes up values of 2,000 characters by one pattern that looks ahead takes minutes.
_VALUE_SHOWN: dict[str, Any] = {"pattern": _VALUE_PATTERN, "not": {"pattern": r"^\s*$"}}
_SHOWN: dict[str, Any] = {
    "propertyNames": {"pattern": rf"^(?:[Xx]-[A-Za-z0-9-]{{0,74}}|{_NAMES})$"},
    "description": "`X-…`, and those for lists and threads: `List-Unsubscribe`, `References` ….",
}
ExtraHeaders = Annotated[
    dict[
        str,
        Annotated[
            str,
            Field(
                strict=True,
                min_length=1,
                max_length=MAX_VALUE,
                json_schema_extra=_VALUE_SHOWN,
            ),
        ],
    ],
    Field(max_length=MAX_HEADERS, json_schema_extra=_SHOWN),
    AfterValidator(_check),
]
