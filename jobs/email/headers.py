"""Header fields in bytes that survive: RFC 5322 folding, RFC 2047 words, any script.

Made here and not by the standard library, whose header objects decode `=?…?=` that a
client wrote literally, line breaks in it among them (CVE-2024-6923, Python up to 3.11.9).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from jobs.email.addresses import Address

LINE_LENGTH = 76  # RFC 2047 section 2: a line with an encoded word has no more
LONGEST_WORD = 900  # well under the 998 of RFC 5322 section 2.1.1
# 39 octets make 52 characters of base64 and a word of 64: beside the longest field
# name (`Reply-To: `) it still fits into one line.
WORD_OCTETS = 39
LONGEST_PHRASE = 60

_PRINTABLE = re.compile(r"[ -~]*")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


def text_field(name: str, value: str) -> str:
    """A field of free text. A reader gets exactly `value` back."""
    return _fold(name, _text_words(value))


def raw_field(name: str, value: str) -> str:
    """A field that programs read: ASCII as it is, folded between its words only."""
    return _fold(name, value.split())


def address_field(name: str, addresses: Iterable[Address]) -> str:
    """A field of addresses, separated by commas."""
    words: list[str] = []
    for address in addresses:
        if words:
            words[-1] += ","
        if address.display_name:
            words += [*_phrase_words(address.display_name), f"<{address.ascii_addr_spec}>"]
        else:
            words.append(address.ascii_addr_spec)
    return _fold(name, words)


def _text_words(value: str) -> list[str]:
    words = value.split(" ")
    # A run of spaces, or one at an end, would be lost or folded into an empty line.
    lossless = all(words) and max(map(len, words)) <= LONGEST_WORD
    if not value or (lossless and _is_literal(value)):
        return words
    return _encoded_words(value)


def _phrase_words(name: str) -> list[str]:
    if len(name) > LONGEST_PHRASE or not _is_literal(name):
        return _encoded_words(name)
    if _PHRASE.fullmatch(name) is not None:
        return [name]
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def _is_literal(value: str) -> bool:
    """True when a reader will not take any part of it for an encoded word."""
    return _PRINTABLE.fullmatch(value) is not None and "=?" not in value


def _encoded_words(value: str) -> list[str]:
    """RFC 2047 section 5: no character is split between two words."""
    chunks: list[bytes] = []
    chunk = b""
    for character in value:
        octets = character.encode()
        if len(chunk) + len(octets) > WORD_OCTETS:
            chunks.append(chunk)
            chunk = b""
        chunk += octets
    chunks.append(chunk)
    return [f"=?utf-8?b?{base64.b64encode(octets).decode()}?=" for octets in chunks]


def _fold(name: str, words: Iterable[str]) -> str:
    lines = [f"{name}:"]
    for word in words:
        # The first word stays beside the name: a line of white space only is not allowed.
        if len(lines[-1]) + 1 + len(word) > LINE_LENGTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines) + "\r\n"
