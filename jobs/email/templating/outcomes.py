"""What filling in a template comes to: an e-mail's words, or what is wrong with it."""

from collections.abc import Sequence
from typing import NamedTuple


class Filled(NamedTuple):
    """What a template and its variables make."""

    subject: str
    text: str
    html: str


class TemplatesFaultError(Exception):
    """Templates cannot be loaded: one sentence a fault, each naming its file."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class UnknownTemplateError(LookupError):
    """There is no template of that name; the message names those that there are."""


class UnknownLocaleError(LookupError):
    """The template is not written in that language; the message names those that it is."""


class CannotFillError(Exception):
    """These variables make no e-mail, as it would be too large or its parts do not go together."""
