"""A template that was found to be in order, and all of them by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateError
from pydantic import BaseModel

from jobs.email.templating.formats import MAX_LOCALE, language_of
from jobs.email.templating.language import METER, Meter
from jobs.email.templating.outcomes import (
    CannotFillError,
    Filled,
    UnknownLocaleError,
    UnknownTemplateError,
)
from jobs.email.templating.variables import Variable

# What an e-mail's subject and parts may have that a client writes by itself, too.
MAX_SUBJECT = 998
MAX_PART_BYTES = 1024 * 1024
_BREAKS = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Wording:
    """A template in one language."""

    subject: JinjaTemplate
    text: JinjaTemplate
    html: JinjaTemplate


@dataclass(frozen=True, slots=True)
class Template:
    """`model` checks the variables; `wordings` are by locale, the default one first."""

    name: str
    variables: tuple[Variable, ...]
    model: type[BaseModel]
    wordings: Mapping[str, Wording] = field(repr=False)
    is_internal: bool = False

    @property
    def locales(self) -> list[str]:
        return list(self.wordings)

    def locale(self, asked: str | None) -> str:
        """The locale to use: the very one, or one of its language. None: the default.

        Raises UnknownLocaleError.
        """
        if asked is None:
            return self.locales[0]
        if _LOCALE.fullmatch(asked) is not None and len(asked) <= MAX_LOCALE:
            exact = asked.replace("_", "-").lower()
            same = [each for each in self.locales if language_of(each) == language_of(exact)]
            # A bare `pt` comes before `pt-BR`: it is for all who have none of their own.
            for each in sorted(same, key=lambda each: (each.lower() != exact, len(each))):
                return each
        raise UnknownLocaleError(f"there is {', '.join(self.locales)}")

    def locale_pattern(self) -> str:
        """Which texts `locale` takes, as JSON Schema says it."""
        languages = {language_of(each) for each in self.locales}
        words = ("".join(f"[{c}{c.upper()}]" for c in each) for each in sorted(languages))
        return f"^({'|'.join(words)})([-_][A-Za-z0-9]{{2,8}})*$"

    def fill_in(self, variables: BaseModel, locale: str) -> Filled:
        """Subject, text and HTML; `variables` is of `model`, `locale` one of ours.

        Raises CannotFillError.
        """
        values = {name: getattr(variables, name) for name in type(variables).model_fields}
        wording = self.wordings[locale]
        given = values | {"locale": locale, METER: Meter()}
        subject = _BREAKS.sub(" ", _fill(wording.subject, given)).strip()
        if len(subject) > MAX_SUBJECT:
            raise CannotFillError(f"make a subject of more than {MAX_SUBJECT} characters")
        given["subject"] = subject
        return Filled(subject, _fill(wording.text, given), _fill(wording.html, given))


@dataclass(frozen=True, slots=True)
class Templates:
    """All that there are; iterates over those that clients may name, in order of name."""

    by_name: Mapping[str, Template]

    def __iter__(self) -> Iterator[Template]:
        return (each for each in self.by_name.values() if not each.is_internal)

    def get(self, name: str, *, internal: bool = False) -> Template:
        """One that clients may name, or any if `internal`. Raises UnknownTemplateError."""
        found = self.by_name.get(name)
        if found is None or (found.is_internal and not internal):
            known = ", ".join(each.name for each in self)
            raise UnknownTemplateError(f"there is no such template, only {known}")
        return found


def _fill(template: JinjaTemplate, values: dict[str, Any]) -> str:
    """The template's output, given up as soon as it is too large."""
    pieces, size_bytes = [], 0
    try:
        for piece in template.generate(values):
            size_bytes += len(piece) if piece.isascii() else len(piece.encode())
            if size_bytes > MAX_PART_BYTES:
                raise CannotFillError(f"make an e-mail of more than {MAX_PART_BYTES} bytes")
            pieces.append(piece)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise CannotFillError(
            f"cannot be filled in: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    return "".join(pieces)
