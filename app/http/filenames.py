"""Names and media types of files, as headers carry them and as we keep and send them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from app.http.faults import UnsupportedMediaTypeError

FILENAME_BYTES = 255
DEFAULT_CONTENT_TYPE = "application/octet-stream"
# What a name is cut down to keeps its ending: the format of the data is guessed from it.
_SUFFIX_BYTES = 32
_CONTENT_TYPE_CHARACTERS = 255

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - RFC 9110, 5.6.2
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_CONTENT_TYPE = re.compile(
    rf"({_TOKEN}/{_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*)"
)
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s]*)\s*(?=;|$)', re.DOTALL)
# They turn text around: `report\u202efdp.exe` is read as `reportexe.pdf`.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}


def content_type(raw: bytes | None) -> str:
    """A Content-Type that may be kept and sent again. Raises UnsupportedMediaTypeError."""
    if raw is None or not raw.strip():
        return DEFAULT_CONTENT_TYPE
    text = raw[: _CONTENT_TYPE_CHARACTERS + 1].decode("latin-1").strip().rstrip(";").rstrip()
    match = _CONTENT_TYPE.fullmatch(text)
    if match is None or len(raw) > _CONTENT_TYPE_CHARACTERS or not text.isascii():
        raise UnsupportedMediaTypeError(
            "The Content-Type must be type/subtype, like text/csv.", accepted=None
        )
    return match[1].lower() + match[2]


def parameters_of(raw: bytes | None) -> dict[str, bytes]:
    """What stands behind the first semicolon, undecoded; the first of a name counts."""
    if raw is None:
        return {}
    _, semicolon, rest = raw.decode("latin-1").partition(";")
    found: dict[str, bytes] = {}
    for name, value in _parameters(semicolon + rest):
        found.setdefault(name, value)
    return found


def filename(parameters: dict[str, bytes], *, extended: bool) -> str | None:
    """A bare name that is safe to keep and show, or None.

    `extended`: look at `filename*` too, which RFC 7578 forbids in forms.
    """
    if extended and "filename*" in parameters:
        name = _extended(parameters["filename*"])
        if name is not None:
            return clean(name)
    raw = parameters.get("filename")
    return None if raw is None else clean(_decoded(raw))


def clean(name: str) -> str | None:
    """Without folders, control characters and what turns text around; None: nothing is left."""
    seen = "".join(each for each in name if unicodedata.category(each) not in _UNSEEN)
    base = re.split(r"[/\\]", _DIRECTIONS.sub("", seen))[-1].strip()
    if base in {"", ".", ".."}:
        return None
    return _cut(base)


def _cut(name: str) -> str:
    if len(name.encode()) <= FILENAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) >= _SUFFIX_BYTES:
        stem, suffix = name, ""
    ending = (dot + suffix).encode() if suffix else b""
    return (stem.encode()[: FILENAME_BYTES - len(ending)] + ending).decode(errors="ignore")


def _parameters(text: str) -> Iterator[tuple[str, bytes]]:
    at = 0
    while match := _PARAMETER.match(text, at):
        value = match[2]
        if value.startswith('"'):
            # Only what must be escaped: Windows' programs send folders with single backslashes.
            value = re.sub(r'\\(["\\])', r"\1", value[1:-1])
        yield match[1].lower(), value.encode("latin-1")
        at = match.end()


def _extended(value: bytes) -> str | None:
    """RFC 8187: charset'language'percent-encoded."""
    charset, quote, rest = value.partition(b"'")
    _, second, encoded = rest.partition(b"'")
    if not quote or not second or charset.lower() not in {b"utf-8", b"iso-8859-1"}:
        return None
    try:
        return unquote_to_bytes(encoded).decode(charset.decode())
    except UnicodeDecodeError:
        return None


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
