"""Attachments: how a client names them, and what of them a mail is built from."""

from __future__ import annotations

import binascii
import itertools
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jobs.errors import PermanentError
from jobs.files import MOST_CARRIED_BYTES, FileNeeds, Files, NamedFile, StoredFile

MAX_ATTACHMENTS = 20
# Encoded it is a third more; few mail servers take more than 35 MB.
MAX_ATTACHMENTS_BYTES = 25 * 1024 * 1024
DEFAULT_CONTENT_TYPE = "application/octet-stream"
_ID_PATTERN = r"^[A-Za-z0-9_-]{20,40}$"
_UNFIT_FOR_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069/\\\\]")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,60}"  # noqa: S105 - RFC 6838 section 4.2
_CONTENT_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(; ?[A-Za-z0-9-]{{1,30}}=[A-Za-z0-9._-]{{1,60}})*")
_CONTENT_ID = re.compile(r"[A-Za-z0-9._+-]{1,100}(@[A-Za-z0-9.-]{1,100})?")
_SPACE = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class Attached:
    """One attachment, ready to go into a mail: `content` is base64 text, or in storage."""

    filename: str
    content_type: str
    content_id: str | None
    content: str | StoredFile

    @property
    def size_bytes(self) -> int:
        if isinstance(self.content, StoredFile):
            return self.content.size_bytes
        return decoded_bytes(self.content)


def decoded_bytes(base64: str) -> int:
    """Of checked base64 without white space."""
    return len(base64) // 4 * 3 - base64[-2:].count("=")


def _check_content(value: str) -> str:
    """Strict base64; line breaks, which many programs put in, are taken out."""
    compact = _SPACE.sub("", value)
    try:
        binascii.a2b_base64(compact.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise PydanticCustomError("base64", "is not base64") from None
    return compact


def _check_filename(value: str) -> str:
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "surrogate", "has half of a surrogate pair, which is no character"
        ) from None
    if _UNFIT_FOR_A_NAME.search(value) is not None or value.strip(". ") == "":
        raise PydanticCustomError("filename", "is no file name: no slash, no control character")
    if size_bytes > 255:
        raise PydanticCustomError("filename", "has more than 255 bytes of UTF-8")
    return value


def _check_content_type(value: str) -> str:
    if _CONTENT_TYPE.fullmatch(value) is None:
        raise PydanticCustomError("content_type", "must be type/subtype, like application/pdf")
    if not _may_be_encoded(value):
        raise PydanticCustomError(
            "content_type", "cannot be attached as such; application/octet-stream can"
        )
    return value


def _may_be_encoded(content_type: str) -> bool:
    """RFC 2046 sections 5.1 and 5.2.1 forbid base64 for a mail in a mail."""
    return not content_type.lower().startswith(("multipart/", "message/"))


def _check_content_id(value: str) -> str:
    if _CONTENT_ID.fullmatch(value) is None:
        raise PydanticCustomError("content_id", "has letters, digits and . _ + - only, like logo")
    return value


_SOURCES = {"content": ["content", "filename"], "upload_id": ["upload_id"], "job_id": ["job_id"]}
# JSON Schema's own words for what the checks above and below say.
_ONE_SOURCE: dict[str, Any] = {
    "oneOf": [
        {"required": needed, "properties": {name: {"type": "string"} for name in needed}}
        for needed in _SOURCES.values()
    ],
    "not": {
        "anyOf": [
            {
                "required": [one, other],
                "properties": {one: {"type": "string"}, other: {"type": "string"}},
            }
            for one, other in itertools.combinations(_SOURCES, 2)
        ]
    },
}


class Attachment(BaseModel):
    """A file to attach; with a `content_id`, one that `html` shows as `<img src="cid:…">`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_ONE_SOURCE)

    content: (
        Annotated[str, Field(strict=True, description="Base64."), AfterValidator(_check_content)]
        | None
    ) = None
    upload_id: Annotated[str, Field(strict=True, pattern=_ID_PATTERN)] | None = None
    job_id: Annotated[
        str,
        Field(
            strict=True, pattern=_ID_PATTERN, description="The first artifact of that job, when"
            " it has finished; there as long as that job is kept."
        ),
    ] | None = None  # fmt: skip
    filename: (
        Annotated[
            str, Field(strict=True, min_length=1, max_length=255), AfterValidator(_check_filename)
        ]
        | None
    ) = Field(default=None, description="Needed with `content`.")
    content_type: (
        Annotated[str, Field(strict=True, max_length=200), AfterValidator(_check_content_type)]
        | None
    ) = Field(default=None, description="Default: what is known of the file.")
    content_id: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=200,
                json_schema_extra={"pattern": f"^{_CONTENT_ID.pattern}$"},
            ),
            AfterValidator(_check_content_id),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _check_source(self) -> Attachment:
        sources = [each for each in (self.content, self.upload_id, self.job_id) if each is not None]
        if len(sources) != 1:
            raise PydanticCustomError("source", "needs one of `content`, `upload_id` and `job_id`")
        if self.content is not None and self.filename is None:
            raise PydanticCustomError("filename", "needs a `filename` beside `content`")
        return self


def check_together(attachments: list[Attachment]) -> list[Attachment]:
    """What can be wrong with all of them taken together."""
    seen = [each.content_id for each in attachments if each.content_id is not None]
    if len(seen) != len(set(seen)):
        raise PydanticCustomError("content_id", "has a `content_id` twice")
    carried = sum(decoded_bytes(each.content) for each in attachments if each.content is not None)
    if carried > MAX_ATTACHMENTS_BYTES:
        raise PydanticCustomError(
            "too_large", "has more than {limit} bytes in all", {"limit": MAX_ATTACHMENTS_BYTES}
        )
    return attachments


def needs_of(attachments: Sequence[Attachment]) -> FileNeeds:
    """Which files these name; what does not fit into the job's record goes to storage."""
    needs: list[NamedFile] = []
    kept_bytes = 0
    for index, each in enumerate(attachments):
        place = ("attachments", index)
        if each.content is None:
            needs.append(NamedFile(place, each.upload_id, each.job_id))
            continue
        size_bytes = decoded_bytes(each.content)
        if kept_bytes + size_bytes > MOST_CARRIED_BYTES:
            needs.append(NamedFile(place, carried_bytes=size_bytes))
        else:
            kept_bytes += size_bytes
    return FileNeeds(needs, kept_bytes, MAX_ATTACHMENTS_BYTES)


async def find(attachments: Sequence[Attachment], files: Files) -> list[Attached]:
    """Each as it goes into the mail. Raises PermanentError for a file that is gone or too large,
    RetryLater when that cannot be known now."""
    found = [await _find(each, files) for each in attachments]
    if sum(each.size_bytes for each in found) > MAX_ATTACHMENTS_BYTES:
        raise PermanentError(
            f"the attachments have more than {MAX_ATTACHMENTS_BYTES} bytes in all",
            code="attachments_too_large",
        )
    return found


async def _find(attachment: Attachment, files: Files) -> Attached:
    content: str | StoredFile
    if attachment.content is not None:
        content, known = attachment.content, None
    elif attachment.upload_id is not None:
        content = known = await files.upload(attachment.upload_id)
    else:
        assert attachment.job_id is not None
        content = known = await files.artifact(attachment.job_id)
    filename = attachment.filename
    if filename is None:
        filename = (known.filename if known is not None else None) or "attachment"
        filename = _UNFIT_FOR_A_NAME.sub("_", filename)
    content_type = attachment.content_type
    if content_type is None:
        content_type = _type_of(filename, known)
    return Attached(filename, content_type, attachment.content_id, content)


def _type_of(filename: str, known: StoredFile | None) -> str:
    told = known.content_type if known is not None else DEFAULT_CONTENT_TYPE
    if told == DEFAULT_CONTENT_TYPE:
        guessed, encoding = mimetypes.guess_type(filename)
        told = guessed if guessed is not None and encoding is None else told
    fits = _CONTENT_TYPE.fullmatch(told) is not None and _may_be_encoded(told)
    return told if fits else DEFAULT_CONTENT_TYPE
