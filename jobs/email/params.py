"""What a client says of an e-mail: the params of `email.send`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

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
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from jobs.email.addresses import AddressError, is_plain, parse_address
from jobs.email.attachments import MAX_ATTACHMENTS, Attachment, check_together, needs_of
from jobs.email.extra_headers import ExtraHeaders
from jobs.email.template_params import (
    FilledVariables,
    TemplateLocale,
    TemplateName,
    TemplateVariables,
    template_schemas,
)
from jobs.files import FileNeeds, NamesFiles

MAX_ADDRESSES = 50
MAX_SUBJECT = 998
MAX_BODY_BYTES = 1024 * 1024

_UNFIT_FOR_A_HEADER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# JSON Schema's own words for what the checks below say.
_HEADER_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_A_BODY: list[JsonDict] = [
    {"required": ["text"], "properties": {"text": {"type": "string"}}},
    {"required": ["html"], "properties": {"html": {"type": "string"}}},
]
_ABSENT: JsonDict = {"type": "null"}


def _check_address(value: str) -> str:
    try:
        if not is_plain(value):
            parse_address(value)
    except AddressError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": str(error)}) from error
    return value


def _describe_content(schema: JsonDict) -> None:
    """What the validators say of the fields together: written by the client, or a template."""
    written: JsonDict = {
        "required": ["subject"],
        "properties": {
            "subject": {"type": "string"},
            **dict.fromkeys(("template", "variables", "locale"), _ABSENT),
        },
        "anyOf": [*_A_BODY],
    }
    no_body: JsonDict = {"properties": dict.fromkeys(("text", "html"), _ABSENT)}
    filled: list[JsonDict] = [{**each, "allOf": [no_body]} for each in template_schemas()]
    schema["anyOf"] = [written, *filled]


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


def _need_a_sender(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError(
            "sender_missing", "is needed: MAIL_FROM, the default sender, is not set"
        )
    return value


def _accept_lone(value: Any) -> Any:
    """A lone string stands for a list of one; its fault is at `/to`, where it stands."""
    return [_check_address(value)] if isinstance(value, str) else value


# RFC 5322's word for `a@b.c` or `Name <a@b.c>`; no format of JSON Schema's own has it.
_Mailbox = Annotated[str, Field(json_schema_extra={"format": "mailbox"})]
AddressText = Annotated[_Mailbox, AfterValidator(_check_address)]
_AtMost = Field(max_length=MAX_ADDRESSES)
_AtLeastOne = Field(min_length=1, max_length=MAX_ADDRESSES)
OptionalAddresses = (
    Annotated[
        list[AddressText],
        _AtMost,
        BeforeValidator(
            _accept_lone, json_schema_input_type=_Mailbox | Annotated[list[_Mailbox], _AtMost]
        ),
    ]
    | None
)
Recipients = Annotated[
    list[AddressText],
    _AtLeastOne,
    BeforeValidator(
        _accept_lone, json_schema_input_type=_Mailbox | Annotated[list[_Mailbox], _AtLeastOne]
    ),
]
# null is the same as absent: `_use_default_sender` has seen to both by then.
Sender = Annotated[
    str,
    AfterValidator(_check_address),
    BeforeValidator(_need_a_sender, json_schema_input_type=_Mailbox | None),
]
BodyText = Annotated[
    str,
    AfterValidator(_check_size),
    Field(
        description=f"At most {MAX_BODY_BYTES} bytes of UTF-8.",
        json_schema_extra={"maxLength": MAX_BODY_BYTES},
    ),
]


SubjectText = Annotated[
    str,
    Field(max_length=MAX_SUBJECT, json_schema_extra={"pattern": _HEADER_PATTERN}),
    AfterValidator(_check_subject),
]


class EmailParams(NamesFiles, BaseModel):
    """One e-mail: who, to whom, and what. Addresses are `a@b.c` or `Name <a@b.c>`.

    Subject and body are written by the client, or made by a template.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_describe_content)

    sender: Sender = Field(
        alias="from", default_factory=str, description="Default: the service's own sender."
    )
    to: Recipients
    cc: OptionalAddresses = None
    bcc: OptionalAddresses = None
    reply_to: OptionalAddresses = None
    template: TemplateName = None
    locale: TemplateLocale = None
    variables: TemplateVariables = None
    subject: Annotated[
        SubjectText | None,
        Field(validate_default=True, description="With `template`, instead of the template's."),
    ] = None
    html: BodyText | None = None
    text: Annotated[
        BodyText | None,
        Field(
            validate_default=True,
            description="Needed unless `html` or `template` is there.",
        ),
    ] = None
    headers: ExtraHeaders | None = None
    attachments: (
        Annotated[
            list[Attachment], Field(max_length=MAX_ATTACHMENTS), AfterValidator(check_together)
        ]
        | None
    ) = None
    delivery: Annotated[
        Literal["at_least_once", "at_most_once"] | None,
        Field(
            description="What becomes of a mail whose worker died while it was handed over:"
            " sent again (`at_least_once`, the default), or failed as `delivery_unknown`."
        ),
    ] = None  # fmt: skip

    @property
    def is_sent_once(self) -> bool:
        return self.delivery == "at_most_once"

    def file_needs(self) -> FileNeeds | None:
        """Which files have to be there when it is submitted; see jobs/files.py."""
        return needs_of(self.attachments) if self.attachments else None

    @model_validator(mode="before")
    @classmethod
    def _use_default_sender(cls, data: Any, info: ValidationInfo) -> Any:
        """The service's own sender comes with validation, as `context={"sender": …}`."""
        if not isinstance(data, dict) or data.get("from") is not None:
            return data
        sender = info.context.get("sender") if isinstance(info.context, dict) else None
        return {**data, "from": sender}

    @field_validator("subject", mode="after")
    @classmethod
    def _need_a_subject(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("template", "") is None:
            raise PydanticCustomError("missing", "is needed")
        return value

    @field_validator("html", "text", mode="after")
    @classmethod
    def _need_one_body(cls, value: str | None, info: ValidationInfo) -> str | None:
        template = info.data.get("template", "")
        if value is not None and template:
            raise PydanticCustomError("two_bodies", "excludes `template`, which makes it")
        # A faulty `html` is not in `data`, and is fault enough.
        if value is None and template is None and info.data.get("html", "") is None:
            raise PydanticCustomError("body_missing", "is needed: `text`, `html` or `template`")
        return value

    def written(self) -> EmailParams:
        """The same e-mail with subject and body in words, whoever made them."""
        if not isinstance(self.variables, FilledVariables):
            return self
        made = self.variables.filled
        subject = made.subject if self.subject is None else self.subject
        words = {"subject": subject, "text": made.text, "html": made.html}
        return self.model_copy(update=words | dict.fromkeys(("template", "locale", "variables")))
