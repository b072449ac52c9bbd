"""E-mails that are written once and filled in often: subject, text and HTML, by language.

A template is a folder under `jobs/email/templates/`: `template.toml` says what it has to be
given, and for each locale there are `<locale>.txt` and `<locale>.html`. A deployment adds its
own by putting a folder there; what is wrong with one is found when it is loaded.

What is filled in depends on the template and its variables alone, on no clock and no chance:
the web process fills it in to refuse what cannot be, keeps the variables (a hundredth of the
size), and each attempt of the job fills it in again to the same e-mail.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.email.templating.outcomes import (
    CannotFillError,
    Filled,
    TemplatesFaultError,
    UnknownLocaleError,
    UnknownTemplateError,
)

if TYPE_CHECKING:
    from jobs.email.templating.template import Template, Templates

__all__ = [
    "CannotFillError",
    "Filled",
    "Template",
    "Templates",
    "TemplatesFaultError",
    "UnknownLocaleError",
    "UnknownTemplateError",
    "templates",
]

FOLDER = Path(__file__).parent.parent / "templates"


@cache
def templates() -> Templates:
    """The templates of this deployment, loaded once. Raises TemplatesFaultError."""
    # Here, so that the processes of `def` jobs, which send no mail, load no Jinja.
    from jobs.email.templating.loading import load_folder  # noqa: PLC0415

    return load_folder(FOLDER)
