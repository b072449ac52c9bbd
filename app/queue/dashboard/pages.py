"""rq-dashboard's own templates and scripts, made fit for a strict Content Security Policy.

rq-dashboard 0.9.0 writes inline scripts with values from the URL in them (`queue.name`
unescaped inside a string), compiles underscore templates in the browser, which needs
`eval`, and most of those print with the raw `<%=`, so that HTML in an exception message,
a result or a name runs. Here, once at start:

- each underscore template is compiled to a JavaScript function in a served file, which is
  what `_.template` would make of it, but every `<%=` escapes;
- each script becomes a served file, its Jinja holes replaced by fields of `PAGE`, the JSON
  that the page carries;
- `style` attributes, and what deletes or compacts, are taken out.

base.html and navbar.html are our own. All of this can go when rq-dashboard escapes, and
runs under `script-src 'self'`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import rq_dashboard
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader

HERE = Path(__file__).parent
THEIRS = Path(rq_dashboard.__file__).parent / "templates" / "rq_dashboard"
PAGES = ("queues", "jobs", "job", "workers")

_UNDERSCORE = re.compile(
    r'<script name="(?P<name>[\w-]+)" type="text/template">(?P<text>.*?)</script>', re.DOTALL
)
_MARK = re.compile(r"<%([=-]?)(.*?)%>", re.DOTALL)
_ESCAPED_BY_HAND = re.compile(r"\$\('<div/>'\)\.text\((.*)\)\.html\(\)")
_HOLE = re.compile(r"'?\{\{\s*([\w.]+)\s*(?:\|\s*tojson\s*\|\s*safe\s*)?\}\}'?")
_STYLE = re.compile(r'\sstyle="[^"]*"')
_DELETING = re.compile(r"\{% if enable_delete %\}.*?\{% endif %\}", re.DOTALL)
_COMPACTING = re.compile(r"<a href=\"\{\{ url_for\('rq_dashboard\.compact_queue'.*?</a>", re.DOTALL)


class UnexpectedPageError(RuntimeError):
    """The installed rq-dashboard has templates that the rules here do not cover."""


def template_loader() -> ChoiceLoader:
    """Our templates first, then theirs, rewritten."""
    theirs = {
        f"rq_dashboard/{path.name}": _rewrite(path.read_text(encoding="utf-8"))[0]
        for path in THEIRS.glob("*.html")
    }
    return ChoiceLoader([FileSystemLoader(HERE / "templates"), DictLoader(theirs)])


def assets() -> dict[str, str]:
    """Each served file of ours by name; `page.js` goes before the script of a page."""
    compiled: dict[str, str] = {}
    for page in PAGES:
        compiled |= _rewrite((THEIRS / f"{page}.html").read_text(encoding="utf-8"))[1]
    functions = ",\n".join(f"{json.dumps(name)}: {code}" for name, code in compiled.items())
    prelude = (HERE / "assets" / "prelude.js").read_text(encoding="utf-8")
    scripts = {f"{page}.js": _script(page) for page in PAGES}
    return scripts | {
        "page.js": f"var TEMPLATES = {{\n{functions}\n}};\n{prelude}\n{_script('dashboard')}",
        "recado.css": (HERE / "assets" / "recado.css").read_text(encoding="utf-8"),
    }


def compile_template(text: str) -> str:
    """An underscore template as the source of a function of its data: d, url or number."""
    pieces = _MARK.split(text)
    code = [f"out += {json.dumps(pieces[0])};"]
    for printing, inside, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        expression = _ESCAPED_BY_HAND.sub(r"\1", inside.strip())
        code.append(f"out += escapeHtml({expression});" if printing else expression)
        code.append(f"out += {json.dumps(literal)};")
    body = "\n".join(code)
    return (
        "function (data) {\nvar d = data.d, url = data.url, number = data.number, out = '';\n"
        f"{body}\nreturn out;\n}}"
    )


def _rewrite(source: str) -> tuple[str, dict[str, str]]:
    """The template without what the policy forbids, and its underscore templates, compiled."""
    compiled: dict[str, str] = {}

    def cut(match: re.Match[str]) -> str:
        if "<%" not in match["text"]:
            return match[0]  # plain markup, which the scripts take as it is
        compiled[match["name"]] = compile_template(match["text"])
        return f'<script name="{match["name"]}" type="text/template">{match["name"]}</script>'

    source = _STYLE.sub("", _COMPACTING.sub("", _DELETING.sub("", source)))
    source = _UNDERSCORE.sub(cut, source)
    for name, code in compiled.items():
        if "{%" in code or "{{" in code:
            raise UnexpectedPageError(f"the template {name} of rq-dashboard has Jinja inside")
    return source, compiled


def _script(name: str) -> str:
    source = (THEIRS / "scripts" / f"{name}.js").read_text(encoding="utf-8")
    source = _HOLE.sub(lambda hole: f"PAGE[{json.dumps(hole[1])}]", source)
    if "{{" in source or "{%" in source:
        raise UnexpectedPageError(f"{name}.js of rq-dashboard has Jinja that is not a plain value")
    return source
