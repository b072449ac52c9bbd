"""From params to the bytes and the envelope that a mail server gets."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from jobs.email.addresses import Address, parse_address
from jobs.email.attachments import Attached
from jobs.email.extra_headers import is_structured
from jobs.email.headers import address_field, raw_field, text_field
from jobs.email.mime import EncodedFile, Piece, body_of, digest
from jobs.email.params import EmailParams
from jobs.errors import PermanentError

_ID_LEFT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class OutgoingEmail:
    """One e-mail, ready to hand over.

    `sender` and `recipients` are the envelope: addresses as on the wire, each recipient
    once, in the order of to, cc and bcc. `source` and then `rest` are RFC 5322 with CRLF line
    ends; each piece begins a line, the last ends one. There is no Bcc. `message_id` has its
    angle brackets.
    """

    sender: str
    recipients: tuple[str, ...]
    source: bytes
    message_id: str
    needs_smtputf8: bool = False
    rest: tuple[Piece, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.source) + sum(
            len(piece) if isinstance(piece, bytes) else piece.size_bytes for piece in self.rest
        )

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """All of it, files as they are read; each chunk begins a line."""
        yield self.source
        for piece in self.rest:
            if isinstance(piece, EncodedFile):
                async with aclosing(piece.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            else:
                yield piece


def build(
    params: EmailParams, job_id: str, now: datetime, attached: Sequence[Attached] = ()
) -> OutgoingEmail:
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
            text_field("Subject", "" if params.subject is None else params.subject),
            *_extra_fields(params),
            "MIME-Version: 1.0\r\n",
        ]
        body = body_of(params.text, params.html, attached, job_id)
        assert isinstance(body[0], bytes)
        source = "".join(fields).encode() + body[0]
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
        rest=tuple(body[1:]),
    )


def _extra_fields(params: EmailParams) -> list[str]:
    return [
        raw_field(name, value) if is_structured(name) else text_field(name, value)
        for name, value in (params.headers or {}).items()
    ]


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
    return f"<{job_id if fits else digest(job_id)}@{domain}>"
