"""What a client says of an e-mail: the params of `email.send`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from jobs.email.addresses import AddressError, parse_address

MAX_ADDRESSES = 50
MAX_SUBJECT = 998
MAX_BODY_BYTES = 1024 * 1024

_UNFIT_FOR_A_HEADER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _check_address(value: str) -> str:
    try:
        parse_address(value)
    except AddressError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": str(error)}) from error
    return value


def _check_subject(value: str) -> str:
    if _UNFIT_FOR_A_HEADER.search(value) is not None:
        raise PydanticCustomError("header", "has a line break or a control character")
    return value


def _check_size(value: str) -> str:
    try:
        size_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "surrogate", "has half of a surrogate pair, which is no character"
        ) from None
    if size_bytes > MAX_BODY_BYTES:
        raise PydanticCustomError(
            "too_large", "has more than {limit} bytes of UTF-8", {"limit": MAX_BODY_BYTES}
        )
    return value


def _accept_lone(value: Any) -> Any:
    """A lone string stands for a list of one; its fault is at `/to`, where it stands."""
    return [_check_address(value)] if isinstance(value, str) else value


AddressText = Annotated[str, AfterValidator(_check_address)]
_AtMost = Field(max_length=MAX_ADDRESSES)
_AtLeastOne = Field(min_length=1, max_length=MAX_ADDRESSES)
OptionalAddresses = (
    Annotated[
        list[AddressText],
        _AtMost,
        BeforeValidator(_accept_lone, json_schema_input_type=str | Annotated[list[str], _AtMost]),
    ]
    | None
)
Recipients = Annotated[
    list[AddressText],
    _AtLeastOne,
    BeforeValidator(_accept_lone, json_schema_input_type=str | Annotated[list[str], _AtLeastOne]),
]
BodyText = Annotated[str, AfterValidator(_check_size)]


class EmailParams(BaseModel):
    """One e-mail: who, to whom, and what. Addresses are `a@b.c` or `Name <a@b.c>`."""

    model_config = ConfigDict(extra="forbid")

    sender: Annotated[
        AddressText,
        Field(
            alias="from",
            description="Default: the service's own sender.",
            json_schema_extra=lambda schema: schema.pop("default", None),
        ),
    ] = ""
    to: Recipients
    cc: OptionalAddresses = None
    bcc: OptionalAddresses = None
    reply_to: OptionalAddresses = None
    subject: Annotated[str, Field(max_length=MAX_SUBJECT), AfterValidator(_check_subject)]
    html: BodyText | None = None
    text: Annotated[
        BodyText | None,
        Field(validate_default=True, description="Needed unless `html` is there."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _use_default_sender(cls, data: Any, info: ValidationInfo) -> Any:
        """The service's own sender comes with validation, as `context={"sender": …}`."""
        if not isinstance(data, dict) or data.get("from") is not None:
            return data
        sender = info.context.get("sender") if isinstance(info.context, dict) else None
        return {**data, "from": sender}

    @field_validator("sender", mode="before")
    @classmethod
    def _need_a_sender(cls, value: Any) -> Any:
        if value is None:
            raise PydanticCustomError(
                "sender_missing", "is needed: MAIL_FROM, the default sender, is not set"
            )
        return value

    @field_validator("text", mode="after")
    @classmethod
    def _need_a_body(cls, value: str | None, info: ValidationInfo) -> str | None:
        # A faulty `html` is not in `data`, and is fault enough.
        if value is None and info.data.get("html", "") is None:
            raise PydanticCustomError("body_missing", "is needed: `text`, `html` or both")
        return value
