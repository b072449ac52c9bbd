"""One e-mail address as a client writes it: `a@b.c` or `Name <a@b.c>`, checked by syntax only."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MAX_TEXT = 1000
MAX_NAME = 320
MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
MAX_SPEC_OCTETS = 254  # RFC 5321 4.5.3.1.3, less the angle brackets (RFC 3696 errata 1690)
MAX_DOMAIN_OCTETS = 253

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# A label whose third and fourth characters are hyphens is an encoded one (`xn--`), or
# reserved: the full check knows. A last label of digits alone would be an IP address.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN_DOMAIN = rf"(?:{_LABEL}\.)+(?=[^.]*[A-Za-z]){_LABEL}"
_PLAIN = re.compile(
    rf"(?=[^@]{{1,{MAX_LOCAL_OCTETS}}}@)[{_ATEXT}]+(?:\.[{_ATEXT}]+)*@({_PLAIN_DOMAIN})"
)
_WIRE_DOMAIN = re.compile(_PLAIN_DOMAIN.replace(r"(?!..--)", ""))
# What is left of ASCII: with all beyond it named in place of that, compiling takes 4 ms.
_NO_ATEXT = r"\x00-\x20\x7f\"(),.:;<>@\[\\\]"
_DOT_ATOM = re.compile(rf"[^{_NO_ATEXT}]+(?:\.[^{_NO_ATEXT}]+)*")
_NAMED = re.compile(r"(.*?) *<([^<>]*)>", re.DOTALL)
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
# Unquoted, these would make a list, a group, a comment or another address of the name.
_NAME_SPECIALS = re.compile(r'[<>@,;:"()\[\]\\]')
# A name could be read backwards, and so could the address behind it.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = "\u200c\u200d"  # part of some scripts' spelling; IDNA allows them in context


class AddressError(ValueError):
    """The text is not one address. The message says why and does not repeat the text."""


class Address(NamedTuple):
    """One address. `addr_spec` is as given; `ascii_addr_spec` goes on the wire.

    The latter has its domain in IDNA A-labels; its local part still has what characters it
    was given, and then `needs_smtputf8` is true. `display_name` is empty when there is none.
    """

    display_name: str
    addr_spec: str
    ascii_addr_spec: str
    needs_smtputf8: bool = False

    @property
    def domain(self) -> str:
        """The domain as on the wire."""
        return self.ascii_addr_spec.rpartition("@")[2]


def is_plain(text: str) -> bool:
    """Whether it is an address as nearly all are, which needs no closer look."""
    return len(text) <= MAX_SPEC_OCTETS and _PLAIN.fullmatch(text) is not None


def parse_address(text: str) -> Address:
    """Parse exactly one address. Raises AddressError for anything else."""
    if is_plain(text):
        return Address("", text, text)
    if len(text) > MAX_TEXT:
        raise AddressError("is too long for an address")
    _refuse_controls(text)
    stripped = text.strip(" ")
    if not stripped:
        raise AddressError("is empty")
    if stripped.endswith(">"):
        named = _NAMED.fullmatch(stripped)
        if named is None:
            raise AddressError("must be one address: a@b.c or Name <a@b.c>")
        return _parse_spec(named[2], _parse_name(named[1].strip(" ")))
    return _parse_spec(stripped, "")


def _refuse_controls(text: str) -> None:
    for character in text:
        category = unicodedata.category(character)
        if category in {"Cc", "Zl", "Zp"}:
            raise AddressError("has a line break or a control character")
        if category == "Cs":
            raise AddressError("has half of a surrogate pair, which is no character")


def _parse_name(name: str) -> str:
    if len(name) > MAX_NAME:
        raise AddressError(f"has a name of more than {MAX_NAME} characters")
    if not _DIRECTIONS.isdisjoint(name):
        raise AddressError("has a name that turns the direction of writing around")
    quoted = _QUOTED_NAME.fullmatch(name)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1]).strip()
    if _NAME_SPECIALS.search(name) is not None:
        raise AddressError(
            "must be one address; a name with , ; : @ ( ) or quotes in it stands in quotes"
        )
    return name


def _parse_spec(spec: str, name: str) -> Address:
    if is_plain(spec):
        return Address(name, spec, spec)
    local, at, domain = spec.rpartition("@")
    if not at:
        raise AddressError("has no @")
    if "@" in local:
        raise AddressError("has more than one @")
    _check_local(local)
    wire = f"{local}@{_encode_domain(domain)}"
    if max(_octets(wire), _octets(spec)) > MAX_SPEC_OCTETS:
        raise AddressError(f"is longer than {MAX_SPEC_OCTETS} octets")
    return Address(name, spec, wire, needs_smtputf8=not local.isascii())


def _check_local(local: str) -> None:
    if not local:
        raise AddressError("has nothing before the @")
    if _octets(local) > MAX_LOCAL_OCTETS:
        raise AddressError(f"has more than {MAX_LOCAL_OCTETS} octets before the @")
    if _DOT_ATOM.fullmatch(local) is None:
        raise AddressError("has characters or dots before the @ that cannot stand there")
    if local.isascii():
        return
    _refuse_invisible(local, allowed=_JOINERS)
    # Not at the top: only addresses beyond ASCII pay for it.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    try:
        # The domain is checked by itself: this check refuses names such as `.local` and
        # `.test`, which mail servers inside a network do serve.
        checked = validate_email(f"{local}@example.com", check_deliverability=False, strict=True)
    except EmailNotValidError:
        raise AddressError("has characters before the @ that cannot stand there") from None
    if checked.local_part != local:
        raise AddressError("is not in Unicode's normal form NFC before the @")


def _encode_domain(domain: str) -> str:
    if not domain:
        raise AddressError("has nothing after the @")
    if domain.startswith("["):
        raise AddressError("has an IP address in place of a domain")
    if len(domain) > MAX_DOMAIN_OCTETS:
        raise AddressError("has a domain that is too long")
    _refuse_invisible(domain, allowed=_JOINERS)
    if "." not in domain and domain.isascii():
        raise AddressError("has a domain without a dot")
    encoded = domain if _WIRE_DOMAIN.fullmatch(domain) is not None else ""
    if not encoded or "--" in encoded:
        encoded = _idna(domain)
    if _WIRE_DOMAIN.fullmatch(encoded) is None or len(encoded) > MAX_DOMAIN_OCTETS:
        raise AddressError("has no valid domain after the @")
    return encoded


def _idna(domain: str) -> str:
    import idna  # noqa: PLC0415 - as above

    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise AddressError("has no valid domain after the @") from None


def _refuse_invisible(text: str, *, allowed: str) -> None:
    """UTS 46 would drop a soft hyphen or a zero-width space and reach another address."""
    for character in text:
        if unicodedata.category(character)[0] in "CZ" and character not in allowed:
            raise AddressError("has a space or an invisible character")


def _octets(text: str) -> int:
    return len(text.encode())
