"""The folder of caught e-mails: how one is stored, the newest of them, and one by its id."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

from app.http.mail_headers import Person, field_text, parse_headers, persons
from app.http.mail_parts import Content, read_content

SUFFIX = ".eml"
# More than anybody scrolls through; bounds what the first look at a full folder costs.
LISTED = 100
# The header fields of an ordinary e-mail take 2 to 10 KiB.
_HEAD_BYTES = 64 * 1024
# 1,000 recipients take about 60 KiB.
_ENVELOPE_BYTES = 1024 * 1024
_ENVELOPE_FIELD = b"X-Recado-Envelope: "
_ID = re.compile(r"[0-9]{20}-[0-9a-f]{8}")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An opened page asks for the same e-mail several times: page, HTML, inline pictures.
_OPENED = 3


class MailNotFoundError(LookupError):
    """No stored e-mail has that id (any longer)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What was said over SMTP, which the header fields need not repeat (Bcc)."""

    sender: str
    recipients: tuple[str, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the list; every string is decoded and free of control characters."""

    id: str
    sender: Person
    to: tuple[Person, ...]
    subject: str
    received_at: datetime
    size_bytes: int
    has_attachments: bool


@dataclass(frozen=True, slots=True, eq=False)
class OpenedMail:
    """One e-mail, read. Equal only to itself, so that what is made of it can be remembered."""

    summary: Summary
    envelope: Envelope
    content: Content
    source: bytes


def mail_id(microseconds: int) -> str:
    """The file name, without suffix, of what arrived then (since 1970): sorts by arrival."""
    return f"{microseconds:020d}-{os.urandom(4).hex()}"


def is_mail_id(text: str) -> bool:
    """Whether the text may be part of a file name here. Nothing else reaches the disk."""
    return _ID.fullmatch(text) is not None


def encode(envelope: Envelope, source: bytes) -> bytes:
    """The stored form: the envelope as a first header line of ASCII JSON, then the source as is."""
    facts = {
        "sender": envelope.sender,
        "recipients": envelope.recipients,
        "received_at": envelope.received_at.isoformat(),
    }
    return _ENVELOPE_FIELD + json.dumps(facts).encode("ascii") + b"\r\n" + source


class Mailbox:
    """Reads the folder that the catcher writes. Blocking; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._summaries: dict[str, Summary] = {}
        self._opened: OrderedDict[str, OpenedMail] = OrderedDict()

    def ids(self) -> list[str]:
        """All ids, the newest first. A folder that is not there yet is empty."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        ids = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
        return sorted(filter(is_mail_id, ids), reverse=True)

    def newest(self, ids: list[str]) -> list[Summary]:
        """The first of the given ids, `LISTED` at most; reads only what it has not read before."""
        listed = ids[:LISTED]
        found: dict[str, Summary] = {}
        for each in listed:
            summary = self._summaries.get(each)
            if summary is None:
                summary = self._summarize(each)
            if summary is not None:
                found[each] = summary
        self._summaries = found
        return list(found.values())

    def open(self, wanted: str) -> OpenedMail:
        """One e-mail. Raises MailNotFoundError, also for text that is no id."""
        if not is_mail_id(wanted) or not self._path(wanted).is_file():
            raise MailNotFoundError(wanted)
        with self._lock:
            known = self._opened.get(wanted)
        return known if known is not None else self._remember(self._read(wanted))

    def _read(self, wanted: str) -> OpenedMail:
        try:
            with self._path(wanted).open("rb") as file:
                envelope = _decode_envelope(file.readline(_ENVELOPE_BYTES), wanted)
                if envelope is None:
                    file.seek(0)
                source = file.read()
        except FileNotFoundError as error:
            raise MailNotFoundError(wanted) from error
        content = read_content(source)
        summary = _summary(wanted, envelope, source[:_HEAD_BYTES], len(source))
        return OpenedMail(
            summary=summary,
            envelope=envelope or Envelope("", (), summary.received_at),
            content=content,
            source=source,
        )

    def _remember(self, mail: OpenedMail) -> OpenedMail:
        with self._lock:
            self._opened[mail.summary.id] = mail
            while len(self._opened) > _OPENED:
                self._opened.popitem(last=False)
        return mail

    def _summarize(self, wanted: str) -> Summary | None:
        try:
            with self._path(wanted).open("rb") as file:
                envelope = _decode_envelope(file.readline(_ENVELOPE_BYTES), wanted)
                begin = file.tell() if envelope is not None else 0
                file.seek(begin)
                head = file.read(_HEAD_BYTES)
                size_bytes = os.fstat(file.fileno()).st_size - begin
        except FileNotFoundError:
            return None
        return _summary(wanted, envelope, head, size_bytes)

    def _path(self, wanted: str) -> Path:
        return self._folder / f"{wanted}{SUFFIX}"


def _summary(wanted: str, envelope: Envelope | None, head: bytes, size_bytes: int) -> Summary:
    end = _END_OF_HEAD.search(head)
    fields = parse_headers(head[: end.end()] if end is not None else head)
    senders = persons(fields, "from")
    to = persons(fields, "to")
    if envelope is not None:
        senders = senders or (Person("", envelope.sender),)
        to = to or tuple(Person("", address) for address in envelope.recipients)
    return Summary(
        id=wanted,
        sender=senders[0] if senders else Person("", ""),
        to=to,
        subject=field_text(fields, "subject"),
        received_at=envelope.received_at if envelope is not None else _arrived_at(wanted),
        size_bytes=size_bytes,
        # The list reads no bodies; this is how mail programs write one with attachments.
        has_attachments=field_text(fields, "content-type").lower().startswith("multipart/mixed"),
    )


def _decode_envelope(line: bytes, wanted: str) -> Envelope | None:
    """The envelope of a stored first line; None for a file that somebody put here by hand."""
    if not line.startswith(_ENVELOPE_FIELD):
        return None
    try:
        facts = json.loads(line.removeprefix(_ENVELOPE_FIELD))
        recipients = tuple(_printable(str(address)) for address in facts["recipients"])
        return Envelope(_printable(str(facts["sender"])), recipients, _arrived_at(wanted))
    except (ValueError, TypeError, KeyError):
        return None


def _printable(address: str) -> str:
    """An address of raw bytes arrives with lone surrogates, which no response can carry."""
    return address.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _arrived_at(wanted: str) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=int(wanted[:20]))
    except OverflowError:
        return _EPOCH


def list_stamp(ids: list[str]) -> str:
    """Equal for equal lists: an ETag that costs no reading."""
    return hashlib.sha256("".join(ids).encode("ascii")).hexdigest()[:24]
