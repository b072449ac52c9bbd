"""Header fields of e-mails that anybody may have written: decoded, bounded, never an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from itertools import islice
from typing import Any, TypeVar

# The standard library takes 0.1 s for the worst 4,000 characters of addresses, and
# grows faster than they do.
MAX_FIELD_CHARS = 4_000
_MAX_PERSONS = 100
_LINE_BREAKS = re.compile(r"[\t\r\n\v\f\x85\u2028\u2029]+")
# Controls but tab and newline, and lone surrogates: no HTML, JSON or header can carry them.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """A display name, possibly empty, and an address, possibly none that works."""

    name: str
    address: str

    @property
    def label(self) -> str:
        return self.name or self.address or "(nobody)"


def attempt(read: Callable[[], T], default: T) -> T:
    """What the standard library's parser says, or the default when the input breaks it.

    Python 3.11 answers malformed fields with IndexError, AttributeError, TypeError,
    RecursionError and more, so that no list of types would hold.
    """
    try:
        return read()
    except Exception:  # noqa: BLE001
        return default


class BoundedPolicy(EmailPolicy):
    """`email.policy.default` that cuts each field to MAX_FIELD_CHARS and raises for none."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:MAX_FIELD_CHARS]

    def header_fetch_parse(self, name: str, value: str) -> Any:
        return attempt(lambda: super(BoundedPolicy, self).header_fetch_parse(name, value), value)


POLICY = BoundedPolicy()


def parse_headers(head: bytes) -> Message:
    """The header fields alone; the body, if any, is not looked at."""
    empty: Message = EmailMessage(policy=POLICY)
    return attempt(lambda: BytesHeaderParser(policy=POLICY).parsebytes(head), empty)


def field_text(message: Message, name: str) -> str:
    """The decoded value of the first field of that name on one line, or ''."""
    return one_line(attempt(lambda: str(message.get(name, "")), ""))


def all_fields(message: Message, limit: int) -> list[tuple[str, str]]:
    """The first fields, `limit` at most, in their order."""
    return [
        (one_line(name), one_line(str(POLICY.header_fetch_parse(name, value))))
        for name, value in islice(message.raw_items(), limit)
    ]


def persons(message: Message, name: str) -> tuple[Person, ...]:
    """Whom an address field names, 100 at most; an unreadable field is one Person as written."""
    field: Any = attempt(lambda: message.get(name), None)
    if field is None:
        return ()
    nobody: list[tuple[str, str]] = []
    addresses = attempt(
        lambda: [(each.display_name, each.addr_spec) for each in field.addresses[:_MAX_PERSONS]],
        nobody,
    )
    found = [Person(one_line(name), one_line(address)) for name, address in addresses]
    as_written = one_line(str(field))
    if not found and as_written:
        return (Person("", as_written),)
    return tuple(found)


def one_line(text: str) -> str:
    """Fit to show in one line: bytes that are no ASCII read as UTF-8, no control characters."""
    return printable(_LINE_BREAKS.sub(" ", text)).strip()


def printable(text: str) -> str:
    """The same text with what cannot be shown replaced; tabs and newlines stay."""
    # Surrogates that stand for no byte refuse to be encoded; the last line takes them out.
    with suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _UNPRINTABLE.sub("\ufffd", text)
