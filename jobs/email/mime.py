"""The body of a mail: its texts and files as MIME parts, in pieces that fit into memory."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote

from jobs.email.attachments import Attached
from jobs.errors import PermanentError
from jobs.files import StoredFile

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
# RFC 5322 section 2.1.1: 998 octets a line; the other controls are no text of 7 bits.
_SEVEN_BIT = re.compile(rb"(?:[\t -~]{0,998}+\n)*+[\t -~]{0,998}+")
_FOREIGN = bytes(octet for octet in range(256) if not 32 <= octet <= 126 and octet not in b"\t\n")
_BASE64_LINE = 76  # RFC 2045 section 6.8
_LINE_OCTETS = 57  # what such a line encodes
# Without what a reader would take for an encoded word, or take away.
_PLAIN_NAME = re.compile(r"(?!.*=\?)(?! )[ !#-\[\]-~]{1,60}(?<! )")
# With its name and number, under the 78 of RFC 5322 section 2.1.1.
_SEGMENT = 50


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file in base64, read while it is sent: a mail in memory would be a third larger than it."""

    file: StoredFile

    @property
    def size_bytes(self) -> int:
        lines, rest = divmod(self.file.size_bytes, _LINE_OCTETS)
        return lines * (_BASE64_LINE + 2) + ((rest + 2) // 3 * 4 + 2 if rest else 0)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Whole lines. Raises what reading raises, and FileChangedError for another size."""
        rest, size_bytes = b"", 0
        async with aclosing(await self.file.open()) as contents:
            async for piece in contents:
                size_bytes += len(piece)
                octets = rest + piece
                whole = len(octets) // _LINE_OCTETS * _LINE_OCTETS
                rest = octets[whole:]
                if whole:
                    yield _base64_lines(octets[:whole])
        if size_bytes != self.file.size_bytes:
            raise FileChangedError("an attachment is not as long as it was")
        if rest:
            yield _base64_lines(rest)


class FileChangedError(Exception):
    """A file has not the size that the server has been told."""


Piece = bytes | EncodedFile


def body_of(
    text: str | None, html: str | None, attached: Sequence[Attached], job_id: str
) -> list[Piece]:
    """The body with its own header fields. Each piece begins a line, and the last ends one.

    The plainest part first (RFC 2046 section 5.1.4). What `html` shows stands beside it
    (RFC 2387); without `html` it is attached like the rest.
    """
    inline = [each for each in attached if html is not None and each.content_id is not None]
    others = [each for each in attached if each not in inline]
    texts: list[list[Piece]] = [[_text_part("plain", text)]] if text is not None else []
    if html is not None:
        shown: list[Piece] = [_text_part("html", html)]
        if inline:
            parts = [shown, *(_file_part(each, "inline") for each in inline)]
            shown = _multipart('related; type="text/html"', parts, job_id, "/related")
        texts.append(shown)
    body = texts[0] if len(texts) == 1 else _multipart("alternative", texts, job_id, "")
    if others:
        parts = [body, *(_file_part(each, "attachment") for each in others)]
        body = _multipart("mixed", parts, job_id, "/mixed")
    if isinstance(body[-1], bytes) and not body[-1].endswith(b"\r\n"):
        body[-1] += b"\r\n"
    return body


def digest(text: str) -> str:
    """Letters and digits that stand for it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _multipart(
    subtype: str, parts: Sequence[Sequence[Piece]], job_id: str, label: str
) -> list[Piece]:
    texts = [piece for part in parts for piece in part if isinstance(piece, bytes)]
    boundary = _boundary(f"{job_id}{label}", texts)
    media, semicolon, parameters = subtype.partition("; ")
    more = f"; {parameters}" if semicolon else ""
    opening = f'Content-Type: multipart/{media}{more};\r\n boundary="{boundary}"\r\n\r\n'
    pieces: list[Piece] = [opening.encode()]
    for part in parts:
        pieces += [f"--{boundary}\r\n".encode(), *part, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return _joined(pieces)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if joined and isinstance(piece, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _boundary(name: str, parts: Iterable[bytes]) -> str:
    """Equal over retries. `=_` keeps it out of base64 and quoted-printable; a part of 7 bits
    that has it anyway, because someone quotes a mail of the same job, moves it on."""
    for number in range(1000):
        boundary = f"=_{digest(f'{name}/{number}')[:32]}"
        if not any(boundary.encode() in part for part in parts):
            return boundary
    raise PermanentError("no boundary fits between the parts", code="bad_text")


def _text_part(subtype: str, text: str) -> bytes:
    encoding, body = _encode_text(text)
    head = (
        f"Content-Type: text/{subtype}; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode() + body


def _encode_text(text: str) -> tuple[str, bytes]:
    """The cheapest encoding that every server passes on unchanged."""
    lines = _LINE_BREAK.sub("\n", text) if "\r" in text else text
    octets = lines.encode()
    if lines.isascii() and _SEVEN_BIT.fullmatch(octets) is not None:
        return "7bit", octets.replace(b"\n", b"\r\n")
    foreign = len(octets) - len(octets.translate(None, delete=_FOREIGN))
    # Quoted-printable adds two octets for each foreign one, base64 a third of all.
    if foreign * 6 <= len(octets):
        return "quoted-printable", binascii.b2a_qp(octets).replace(b"\n", b"\r\n")
    return "base64", base64.encodebytes(octets.replace(b"\n", b"\r\n")).replace(b"\n", b"\r\n")


def _file_part(attached: Attached, disposition: str) -> list[Piece]:
    head = (
        f"Content-Type: {attached.content_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {disposition};{_name_parameters(attached.filename)}\r\n"
    )
    if attached.content_id is not None:
        head += f"Content-ID: <{attached.content_id}>\r\n"
    octets = f"{head}\r\n".encode()
    if isinstance(attached.content, StoredFile):
        return [octets, EncodedFile(attached.content)]
    return [octets + _in_lines(attached.content.encode())]


def _name_parameters(filename: str) -> str:
    """`filename=` for plain ones, RFC 2231 with its continuations for all others."""
    if _PLAIN_NAME.fullmatch(filename) is not None:
        return f'\r\n filename="{filename}"'
    encoded = "utf-8''" + quote(filename, safe="")
    if len(encoded) <= _SEGMENT:
        return f"\r\n filename*={encoded}"
    segments = [""]
    for each in re.findall("%..|.", encoded):
        if len(segments[-1]) + len(each) > _SEGMENT:
            segments.append("")
        segments[-1] += each
    return ";".join(f"\r\n filename*{n}*={part}" for n, part in enumerate(segments))


def _base64_lines(octets: bytes) -> bytes:
    return _in_lines(binascii.b2a_base64(octets, newline=False))


def _in_lines(encoded: bytes) -> bytes:
    lines = [encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE)]
    lines.append(b"")
    return b"\r\n".join(lines)
