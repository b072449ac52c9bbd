"""What is inside an e-mail's source: text, HTML, attachments. Bounded, never an error."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.parser import BytesParser

from app.http.mail_headers import POLICY, all_fields, attempt, one_line, printable

# The same as the service takes in `text` and `html`; the source shows the rest.
MAX_BODY_CHARS = 1024 * 1024
_MAX_FIELDS = 200
# Beyond these the parser's time or memory grows faster than the e-mail: each level
# of nesting is tried on every line, each boundary makes an object.
_MAX_BOUNDARIES = 100
_MAX_DASHED_LINES = 10_000
_BOUNDARY = re.compile(rb"boundary\s*[*=]", re.IGNORECASE)
# Python codecs that are no charsets of e-mail, and take quadratic time or run escapes.
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"}
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}")
# Directions that make gpj.exe read exe.jpg.
_BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Part:
    """An attachment, or a picture that the HTML shows by its `content_id`."""

    number: int
    filename: str
    content_type: str
    content_id: str | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """An e-mail's inside. `fault` says why there is less than in the source, for people."""

    fields: list[tuple[str, str]]
    text: str | None
    html: str | None
    parts: list[Part]
    fault: str | None = None


def read_content(source: bytes) -> Content:
    """Take the source apart. What cannot be is left out, and `fault` says so."""
    head = re.split(rb"\r?\n\r?\n", source[: 1024 * 1024], maxsplit=1)[0]
    if _is_overgrown(source):
        fields = all_fields(_parse(head), _MAX_FIELDS)
        return Content(fields, None, None, [], "It has too many parts to be taken apart.")
    message = _parse(source)
    content = Content(all_fields(message, _MAX_FIELDS), None, None, [])
    return attempt(lambda: _sort(message, content), content)


def _is_overgrown(source: bytes) -> bool:
    return (
        sum(1 for _ in _BOUNDARY.finditer(source)) > _MAX_BOUNDARIES
        or source.count(b"\n--") > _MAX_DASHED_LINES
    )


def _parse(source: bytes) -> Message:
    unreadable: Message = EmailMessage(policy=POLICY)
    unreadable.set_payload("")
    return attempt(lambda: BytesParser(policy=POLICY).parsebytes(source), unreadable)


def _sort(message: Message, content: Content) -> Content:
    """The first text and the first HTML that are no attachments are the body."""
    text: str | None = None
    html: str | None = None
    parts: list[Part] = []
    for leaf in _leaves(message):
        media_type = _media_type(leaf)
        if _is_body(leaf) and media_type == "text/plain" and text is None:
            text = _text(leaf)
        elif _is_body(leaf) and media_type == "text/html" and html is None:
            html = _text(leaf)
        else:
            parts.append(_part(leaf, len(parts) + 1, media_type))
    fault = None
    if max(len(text or ""), len(html or "")) > MAX_BODY_CHARS:
        fault = "It is shown in part: its body is larger than 1 MiB."
    cut_text = text[:MAX_BODY_CHARS] if text is not None else None
    cut_html = html[:MAX_BODY_CHARS] if html is not None else None
    return Content(content.fields, cut_text, cut_html, parts, fault)


def _leaves(message: Message) -> Iterator[Message]:
    """All parts that are no containers; a forwarded e-mail counts as one attachment."""
    waiting: list[Message] = [message]
    while waiting:
        part = waiting.pop()
        inner = part.get_payload()
        if isinstance(inner, list) and not _media_type(part).startswith("message/"):
            waiting.extend(each for each in reversed(inner) if isinstance(each, Message))
        else:
            yield part


def _is_body(part: Message) -> bool:
    disposition = attempt(part.get_content_disposition, None)
    return disposition != "attachment" and attempt(part.get_filename, None) is None


def _media_type(part: Message) -> str:
    declared = attempt(part.get_content_type, "application/octet-stream")
    return declared if _MEDIA_TYPE.fullmatch(declared) else "application/octet-stream"


def _part(part: Message, number: int, media_type: str) -> Part:
    content_id = one_line(attempt(lambda: str(part.get("content-id", "")), "")).strip("<> ")
    return Part(
        number=number,
        filename=_filename(attempt(part.get_filename, None), number),
        content_type=media_type,
        content_id=content_id or None,
        content=_bytes(part),
    )


def _filename(declared: str | None, number: int) -> str:
    """A plain name: no folders, no controls, no characters that change its direction."""
    name = one_line(declared) if declared is not None else ""
    name = _BIDI_CONTROLS.sub("", re.split(r"[/\\]", name)[-1]).strip(". ")
    return name[-150:] if name else f"part-{number}"


def _bytes(part: Message) -> bytes:
    if part.is_multipart():
        inner = part.get_payload(0)
        return attempt(inner.as_bytes, b"") if isinstance(inner, Message) else b""
    decoded: object = attempt(lambda: part.get_payload(decode=True), None)
    return decoded if isinstance(decoded, bytes) else b""


def _text(part: Message) -> str:
    charset = attempt(part.get_content_charset, None)
    return printable(decode(_bytes(part), charset).replace("\r\n", "\n").replace("\r", "\n"))


def decode(content: bytes, charset: str | None) -> str:
    """Text of bytes whose declared charset may be absent, unknown or wrong.

    The order is what real e-mail turns out to be: as declared, UTF-8, Windows-1252.
    """
    for name in (charset, "utf-8"):
        if name is not None and _is_charset(name):
            try:
                return content.decode(name)
            except (UnicodeError, LookupError):
                continue
    return content.decode("cp1252", "replace")


def _is_charset(name: str) -> bool:
    try:
        return codecs.lookup(name).name not in _NO_CHARSETS
    except (LookupError, ValueError):  # ValueError: a name with a null character
        return False
