"""Times and numbers as they are written in a language."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

# The longest that BCP 47 expects of an implementation (RFC 5646, 4.4.1).
MAX_LOCALE = 35
_ENGLISH_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_PORTUGUESE_MONTHS = (
    "janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro",
    "outubro", "novembro", "dezembro",
)  # fmt: skip
# Between the groups of thousands, and before the decimals. Other languages: what ISO 80000-1
# has, which nobody takes for a decimal sign.
_SIGNS = {"en": (",", "."), "pt": (".", ",")}
_NEUTRAL_SIGNS = ("\N{NARROW NO-BREAK SPACE}", ".")
_YES_AND_NO = {"en": ("yes", "no"), "pt": ("sim", "não")}


def shown(value: Any, locale: str) -> Any:
    """What stands for a variable in an e-mail; strings are as they are, None is nothing."""
    language = language_of(locale)
    if value is None:
        return ""
    if isinstance(value, bool):
        return _YES_AND_NO.get(language, ("✓", "✗"))[0 if value else 1]
    if isinstance(value, int):
        return _grouped(f"{value:,d}", language)
    if isinstance(value, float):
        return _grouped(f"{value:,.6f}".rstrip("0").rstrip("."), language)
    if isinstance(value, datetime):
        return _time(value, language)
    return value


def language_of(locale: str) -> str:
    """`pt` of `pt-BR`."""
    return locale.replace("_", "-").partition("-")[0].lower()


def _grouped(text: str, language: str) -> str:
    group, point = _SIGNS.get(language, _NEUTRAL_SIGNS)
    return text.translate({ord(","): group, ord("."): point})


def _time(at: datetime, language: str) -> str:
    """To the minute, with the offset from UTC that it was given with."""
    clock, zone = f"{at:%H:%M}", _zone(at.utcoffset() or timedelta())
    if language == "en":
        return f"{_ENGLISH_MONTHS[at.month - 1]} {at.day}, {at.year}, {clock} {zone}"
    if language == "pt":
        return f"{at.day} de {_PORTUGUESE_MONTHS[at.month - 1]} de {at.year}, {clock} {zone}"
    return f"{at:%Y-%m-%d} {clock} {zone}"


def _zone(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    sign = "+" if minutes >= 0 else "\N{MINUS SIGN}"
    hours, rest = divmod(abs(minutes), 60)
    clock = f"{hours}:{rest:02d}" if rest else f"{hours}"
    return f"UTC{sign}{clock}" if minutes else "UTC"
