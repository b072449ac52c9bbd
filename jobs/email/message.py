"""From params to the bytes and the envelope that a mail server gets."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from jobs.email.addresses import Address, parse_address
from jobs.email.headers import address_field, text_field
from jobs.email.params import EmailParams
from jobs.errors import PermanentError

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
# RFC 5322 section 2.1.1: 998 octets a line; the other controls are no text of 7 bits.
_SEVEN_BIT = re.compile(rb"(?:[\t -~]{0,998}+\n)*+[\t -~]{0,998}+")
_FOREIGN = bytes(octet for octet in range(256) if not 32 <= octet <= 126 and octet not in b"\t\n")
_ID_LEFT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class OutgoingEmail:
    """One e-mail, ready to hand over.

    `sender` and `recipients` are the envelope: addresses as on the wire, each recipient
    once, in the order of to, cc and bcc. `source` is RFC 5322 with CRLF line ends, ends
    with one, and has no Bcc. `message_id` has its angle brackets.
    """

    sender: str
    recipients: tuple[str, ...]
    source: bytes
    message_id: str
    needs_smtputf8: bool = False


def build(params: EmailParams, job_id: str, now: datetime) -> OutgoingEmail:
    """Build the e-mail of a job. `now` is its Date; its Message-ID depends on the job alone.

    Raises PermanentError for text that cannot be encoded.
    """
    sender = parse_address(params.sender)
    to = _parse_all(params.to)
    cc, bcc, reply_to = _parse_all(params.cc), _parse_all(params.bcc), _parse_all(params.reply_to)
    message_id = _message_id(job_id, sender.domain)
    fields = [
        f"Date: {format_datetime(now)}\r\n",
        address_field("From", [sender]),
        address_field("To", to),
    ]
    if cc:
        fields.append(address_field("Cc", cc))
    if reply_to:
        fields.append(address_field("Reply-To", reply_to))
    try:
        fields += [
            f"Message-ID: {message_id}\r\n",
            text_field("Subject", params.subject),
            "MIME-Version: 1.0\r\n",
        ]
        source = "".join(fields).encode() + _content(params, job_id)
    except UnicodeEncodeError:
        raise PermanentError(
            "the e-mail has half of a surrogate pair, which is no character", code="bad_text"
        ) from None
    return OutgoingEmail(
        sender=sender.ascii_addr_spec,
        recipients=_envelope([*to, *cc, *bcc]),
        source=source,
        message_id=message_id,
        needs_smtputf8=any(a.needs_smtputf8 for a in [sender, *to, *cc, *bcc, *reply_to]),
    )


def _parse_all(texts: Iterable[str] | None) -> list[Address]:
    return [] if texts is None else [parse_address(text) for text in texts]


def _envelope(addresses: Iterable[Address]) -> tuple[str, ...]:
    """Each mailbox once; only the domain compares without case (RFC 5321 section 2.4)."""
    found: dict[str, str] = {}
    for address in addresses:
        local, _, domain = address.ascii_addr_spec.rpartition("@")
        found.setdefault(f"{local}@{domain.lower()}", address.ascii_addr_spec)
    return tuple(found.values())


def _message_id(job_id: str, domain: str) -> str:
    # A stock producer may have chosen an id that cannot stand in a Message-ID.
    fits = len(job_id) <= 200 and _ID_LEFT.fullmatch(job_id) is not None
    return f"<{job_id if fits else _digest(job_id)}@{domain}>"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _content(params: EmailParams, job_id: str) -> bytes:
    """The body with its own header fields; the plainest part first (RFC 2046 section 5.1.4)."""
    parts = [
        _text_part(subtype, text)
        for subtype, text in (("plain", params.text), ("html", params.html))
        if text is not None
    ]
    if len(parts) == 1:
        part = parts[0]
        return part if part.endswith(b"\r\n") else part + b"\r\n"
    boundary = _boundary(job_id, parts)
    opening = b'Content-Type: multipart/alternative; boundary="%s"\r\n\r\n' % boundary
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts)
    return opening + body + b"--%s--\r\n" % boundary


def _boundary(job_id: str, parts: Iterable[bytes]) -> bytes:
    """Equal over retries. `=_` keeps it out of base64 and quoted-printable; a part of 7 bits
    that has it anyway, because someone quotes a mail of the same job, moves it on."""
    for number in range(1000):
        boundary = f"=_{_digest(f'{job_id}/{number}')[:32]}".encode()
        if not any(boundary in part for part in parts):
            return boundary
    raise PermanentError("no boundary fits between the parts", code="bad_text")


def _text_part(subtype: str, text: str) -> bytes:
    encoding, body = _encode_text(text)
    return (
        f"Content-Type: text/{subtype}; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + body


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
