"""From a folder of templates to templates in order, or to all that is wrong with them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from jinja2 import TemplateSyntaxError, meta, nodes
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.email.templating.language import GIVEN, Environment, breaches, link_breaches
from jobs.email.templating.outcomes import CannotFillError, TemplatesFaultError
from jobs.email.templating.template import Template, Templates, Wording
from jobs.email.templating.variables import KINDS, Variable, model_of

DECLARATION = "template.toml"
DEFAULT_LOCALE = "en"
# So that what filling in costs has a bound; a page of text has 3 KiB.
MAX_FILE_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
_SAMPLES: dict[str, Any] = {
    "string": "x", "text": "x\n\nx", "url": "https://example.com/", "integer": 2, "number": 2.5,
    "boolean": True, "time": datetime(2030, 1, 31, 12, tzinfo=UTC),
}  # fmt: skip


class Declaration(BaseModel):
    """`template.toml`: a subject for each locale, and a type for each variable, `?` if optional.

    `internal`: the service's own, which no client can name.
    """

    model_config = ConfigDict(extra="forbid")

    subjects: Annotated[dict[str, str], Field(min_length=1)]
    variables: dict[str, str] = {}
    internal: bool = False

    def declared(self) -> tuple[Variable, ...]:
        return tuple(
            Variable(name, kind.removesuffix("?"), required=not kind.endswith("?"))
            for name, kind in self.variables.items()
        )

    def faults(self) -> Iterator[str]:
        for locale in self.subjects:
            if _LOCALE.fullmatch(locale) is None:
                yield f"{locale!r} is no locale like en or pt-BR"
        for name, kind in self.variables.items():
            if _NAME.fullmatch(name) is None or name in GIVEN | {"url"}:
                yield f"{name!r} is no name for a variable, or has another meaning"
            if kind.removesuffix("?") not in KINDS:
                yield f"variable {name}: {kind!r} is none of {', '.join(KINDS)}, with ? if optional"


def load_folder(folder: Path) -> Templates:
    """Every template under the folder, checked and tried out. Raises TemplatesFaultError."""
    loading = _Loading(folder)
    found = {each.name: each for each in loading.templates()}
    if loading.faults:
        raise TemplatesFaultError(loading.faults)
    return Templates(found)


class _Loading:
    """Collects faults, each told as `folder/file: what is wrong`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.faults: list[str] = []
        self._environment = Environment()
        self._parts = {path.name: self._read(path) for path in self._files(folder)}

    def templates(self) -> Iterator[Template]:
        for name, source in self._parts.items():
            self._compile(name, source, ())
        for folder in sorted(path for path in self._visible(self._folder) if path.is_dir()):
            template = self._template(folder)
            if template is not None:
                yield template

    def _template(self, folder: Path) -> Template | None:
        """None, and at least one fault more, when the folder holds no template."""
        before = len(self.faults)
        if _NAME.fullmatch(folder.name) is None:
            self._blame(folder, "a template's name has lower case, digits and _")
            return None
        declaration = self._declaration(folder)
        if declaration is None:
            return None
        sources = self._sources(folder, declaration)
        for name, source in sources.items():
            self._compile(name, source, declaration.declared())
        if len(self.faults) > before:
            return None
        template = Template(
            name=folder.name,
            variables=declaration.declared(),
            model=model_of(folder.name, declaration.declared()),
            wordings=_wordings(self._environment, folder.name, declaration),
            is_internal=declaration.internal,
        )
        self._try_out(template)
        return template if len(self.faults) == before else None

    def _declaration(self, folder: Path) -> Declaration | None:
        path = folder / DECLARATION
        if not path.is_file():
            self._blame(folder, f"has no {DECLARATION}")
            return None
        try:
            declaration = Declaration.model_validate(tomllib.loads(self._read(path)))
        except tomllib.TOMLDecodeError as error:
            self._blame(path, str(error))
            return None
        except ValidationError as error:
            for each in error.errors():
                self._blame(path, f"{'.'.join(map(str, each['loc']))}: {each['msg']}")
            return None
        faults = list(declaration.faults())
        for fault in faults:
            self._blame(path, fault)
        return None if faults else declaration

    def _sources(self, folder: Path, declaration: Declaration) -> dict[str, str]:
        """Every source of the template by its name in Jinja; subjects are sources too."""
        sources = {}
        wanted = {f"{locale}.{end}" for locale in declaration.subjects for end in ("txt", "html")}
        there = {path.name for path in self._files(folder)} - {DECLARATION}
        for name in sorted(wanted - there):
            self._blame(folder / name, "is missing")
        for name in sorted(there - wanted):
            self._blame(folder / name, f"belongs to no locale of {DECLARATION}")
        for name in sorted(wanted & there):
            sources[f"{folder.name}/{name}"] = self._read(folder / name)
        for locale, subject in declaration.subjects.items():
            sources[_subject_name(folder.name, locale)] = subject
        return sources

    def _compile(self, name: str, source: str, declared: tuple[Variable, ...]) -> None:
        try:
            tree = self._environment.parse(source, name)
            found = list(self._breaches(name, tree, declared))
            self.faults += [f"{name}: {each}" for each in found]
            if not found:
                self._environment.compiled[name] = self._environment.compile(tree, name)
        except TemplateSyntaxError as error:
            self.faults.append(f"{name}: line {error.lineno}: {error.message}")
        except RecursionError:
            self.faults.append(f"{name}: is nested too deeply")

    def _breaches(
        self, name: str, tree: nodes.Template, declared: tuple[Variable, ...]
    ) -> Iterator[str]:
        is_shared = name in self._parts
        urls = {each.name for each in declared if each.kind == "url"}
        yield from breaches(tree, urls=urls, parts=self._parts, is_shared=is_shared)
        if name.endswith(".html"):
            yield from link_breaches(tree, urls=urls, is_shared=is_shared)
        if not is_shared:
            known = {each.name for each in declared} | GIVEN | _own_names(tree)
            for each in sorted(meta.find_undeclared_variables(tree) - known):
                yield f"{each!r} is not declared in {DECLARATION}"

    def _try_out(self, template: Template) -> None:
        """With everything, and with as little as may be."""
        for everything in (True, False):
            values = {
                each.name: _SAMPLES[each.kind] if everything or each.required else None
                for each in template.variables
            }
            for locale in template.locales:
                try:
                    template.fill_in(template.model.model_construct(**values), locale)
                except CannotFillError as error:
                    self.faults.append(f"{template.name}/{locale}: {error}")

    def _read(self, path: Path) -> str:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                self._blame(path, f"has more than {MAX_FILE_BYTES} bytes")
                return ""
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self._blame(path, "cannot be read as UTF-8 text")
            return ""

    def _files(self, folder: Path) -> list[Path]:
        return [path for path in self._visible(folder) if path.is_file()]

    def _visible(self, folder: Path) -> list[Path]:
        """Without what editors and Python leave behind."""
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            self._blame(folder, f"cannot be read ({error.strerror})")
            return []
        return [path for path in found if not path.name.startswith((".", "__"))]

    def _blame(self, path: Path, fault: str) -> None:
        self.faults.append(f"{path.relative_to(self._folder.parent)}: {fault}")


def _own_names(tree: nodes.Template) -> set[str]:
    """What the template names by itself, for the parts that it includes."""
    return {
        target.name
        for each in tree.find_all(nodes.With)
        for target in each.targets
        if isinstance(target, nodes.Name)
    }


def _wordings(
    environment: Environment, name: str, declaration: Declaration
) -> Mapping[str, Wording]:
    """By locale, the default one first."""
    locales = sorted(declaration.subjects, key=lambda each: (each != DEFAULT_LOCALE, each))
    return {
        locale: Wording(
            environment.get_template(_subject_name(name, locale)),
            environment.get_template(f"{name}/{locale}.txt"),
            environment.get_template(f"{name}/{locale}.html"),
        )
        for locale in locales
    }


def _subject_name(template: str, locale: str) -> str:
    return f"{template}/{DECLARATION} (subject {locale})"
