"""The language of templates: as much of Jinja as can neither run for ever nor reach out.

A template may choose (`if`), insert what it was given and put it in form (filters), and build
on the files that all share (`extends`, `include`, `with`). There are no loops, no calls and no
arithmetic, so none runs for ever and none has to be watched; what filters work on is counted,
as is what comes out (measured: the costliest that could be written takes a third of a second,
our own a ten-thousandth). The sandbox of Jinja stands behind that all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, MutableMapping
from types import CodeType
from typing import Any

from jinja2 import BaseLoader, StrictUndefined, Template, TemplateNotFound, nodes, pass_context
from jinja2 import Environment as JinjaEnvironment
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from jobs.email.templating.formats import shown
from jobs.email.templating.outcomes import CannotFillError

# What every template has besides its variables.
GIVEN = frozenset({"locale", "subject"})
# Under this name a Meter comes along; no template can say it.
METER = "METER"
MAX_FILTERED = 1024 * 1024
_STATEMENTS = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Block, nodes.If)
_EXPRESSIONS = (
    nodes.Name, nodes.Const, nodes.Filter, nodes.Test, nodes.And, nodes.Or, nodes.Not,
    nodes.Compare, nodes.Operand, nodes.CondExpr, nodes.Keyword,
)  # fmt: skip
# Not for the files that all share: a part within a part within a part doubles each time.
_BUILDING = (nodes.Extends, nodes.Include, nodes.With)
_WORDS = {
    "For": "{% for %}", "Call": "a call", "Getattr": "an attribute", "Getitem": "an index",
    "Assign": "{% set %}", "AssignBlock": "{% set %}", "Macro": "{% macro %}", "Concat": "~",
    "Import": "{% import %}", "FromImport": "{% import %}", "Include": "{% include %}",
    "With": "{% with %}", "Extends": "{% extends %}", "CallBlock": "{% call %}",
    "FilterBlock": "{% filter %}",
}  # fmt: skip
_LINK = re.compile(r"""\b(?:href|src|action|background)\s*=\s*["']\s*$""", re.IGNORECASE)
_BARE_VALUE = re.compile(r"<[^>]*=\s*$")
_PARAGRAPH = '<p style="margin:0 0 16px">'
_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")


class Environment(ImmutableSandboxedEnvironment):
    """Jinja with our filters only; HTML is escaped, and a name that is not there is an error."""

    def __init__(self) -> None:
        # Compiled when they were checked, and only then: half of the start's time.
        self.compiled: dict[str, CodeType] = {}
        super().__init__(
            loader=_Loader(self.compiled),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.globals.clear()
        self.filters = {name: _metered(work) for name, work in _FILTERS.items()}
        self.tests = {"none": self.tests["none"]}


class _Loader(BaseLoader):
    """Knows what was compiled, and no files."""

    def __init__(self, compiled: dict[str, CodeType]) -> None:
        self._compiled = compiled

    def load(
        self,
        environment: JinjaEnvironment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's word
    ) -> Template:
        code = self._compiled.get(name)
        if code is None:
            raise TemplateNotFound(name)
        return environment.template_class.from_code(
            environment, code, globals if globals is not None else {}
        )


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    return shown(value, context["locale"])


class Meter:
    """What the filters of one filling-in have worked on, in characters."""

    def __init__(self) -> None:
        self._left = MAX_FILTERED

    def spend(self, value: Any) -> None:
        if isinstance(value, str):
            self._left -= len(value)
        if self._left < 0:
            raise CannotFillError(f"make filters work on more than {MAX_FILTERED} characters")


def _metered(work: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def metered(context: Context, value: Any, *arguments: Any) -> Any:
        context[METER].spend(value)
        return work(value, *arguments)

    return metered


def _default(value: Any, other: Any) -> Any:
    return other if value is None or value == "" else value


def _truncated(value: str, length: int = 140) -> str:
    """The beginning, in whole words and one line, for a preview."""
    line = " ".join(value[: 4 * length].split())
    if len(line) <= length:
        return line
    kept = line[: length - 1]
    return (kept.rpartition(" ")[0] or kept) + "…"


def _paragraphs(value: str) -> Markup:
    """A text of several lines as HTML: empty lines part paragraphs, others are broken there."""
    text = str(escape(value.replace("\r\n", "\n").replace("\r", "\n").strip()))
    pieces = [piece.replace("\n", "<br>\n") for piece in _PARAGRAPHS.split(text)]
    # Escaped as a whole, above: piece by piece it takes ten times as long.
    return Markup(_PARAGRAPH + f"</p>\n{_PARAGRAPH}".join(pieces) + "</p>")  # noqa: S704


_FILTERS: dict[str, Callable[..., Any]] = {
    "capitalize": str.capitalize,
    "default": _default,
    "lower": str.lower,
    "paragraphs": _paragraphs,
    "trim": str.strip,
    "truncate": _truncated,
    "upper": str.upper,
}


def breaches(
    tree: nodes.Template, *, urls: Collection[str], parts: Collection[str], is_shared: bool
) -> Iterator[str]:
    """What a template has that the language has not, one sentence each, with its line.

    `urls` are the variables that are known to be safe in a link, `parts` the files that it may
    build on; `is_shared`: it is one of them.
    """
    allowed = _STATEMENTS + _EXPRESSIONS + (() if is_shared else _BUILDING)
    for node in _all(tree):
        if isinstance(node, nodes.Extends | nodes.Include) and not is_shared:
            wanted = node.template
            if not (isinstance(wanted, nodes.Const) and wanted.value in parts):
                yield f"line {node.lineno}: only shared files can be named: {_listed(parts)}"
        elif isinstance(node, nodes.With) and not is_shared:
            yield from _with_breaches(node, urls)
        elif not isinstance(node, allowed):
            word = _WORDS.get(type(node).__name__, type(node).__name__)
            yield f"line {node.lineno}: {word} cannot be used in a template"


def _all(tree: nodes.Node) -> Iterator[nodes.Node]:
    yield tree
    for child in tree.iter_child_nodes():
        yield from _all(child)


def link_breaches(tree: nodes.Template, *, urls: Collection[str], is_shared: bool) -> Iterator[str]:
    """Of HTML: a link to what is no URL, or a value that could end its attribute for lack of
    quotes. What stands before a value is the text before it, whatever branch that is in.
    """
    before = ""
    for each in (child for output in _all(tree) for child in _printed(output)):
        if isinstance(each, nodes.TemplateData):
            before = each.data
        elif _BARE_VALUE.search(before) is not None:
            yield f"line {each.lineno}: the attribute's value must stand in quotes"
        elif _LINK.search(before) is not None and not _is_url(each, urls, is_shared=is_shared):
            yield f"line {each.lineno}: only a variable of type url may stand in a link"


def _printed(node: nodes.Node) -> list[nodes.Expr]:
    return node.nodes if isinstance(node, nodes.Output) else []


def _with_breaches(node: nodes.With, urls: Collection[str]) -> Iterator[str]:
    for target, value in zip(node.targets, node.values, strict=True):
        if not isinstance(target, nodes.Name):
            yield f"line {node.lineno}: {{% with %}} takes plain names"
        elif target.name == "url" and not _is_url(value, urls, is_shared=False):
            yield f"line {node.lineno}: `url` must be a variable of type url"


def _is_url(node: nodes.Node, urls: Collection[str], *, is_shared: bool) -> bool:
    name = node.name if isinstance(node, nodes.Name) else None
    return name == "url" if is_shared else name in urls


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
