"""/problems: what each `type` of a problem means, for people and for programs."""

from __future__ import annotations

from html import escape

from starlette.requests import Request

from app.http.answers import Answer, html_answer, json_answer
from app.http.faults import NotFoundError
from app.http.problems import TYPES, ProblemType

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;
color:#222;background:#fff}}code{{background:#f2f2f2;padding:.1em .3em;border-radius:.2em}}
@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}code{{background:#333}}
a{{color:#8bf}}}}</style></head>
<body><main><h1>{title}</h1>{content}</main></body></html>
"""


async def list_problems(request: Request) -> Answer:
    """GET /problems."""
    if not _wants_html(request):
        return json_answer({"data": [_show(kind) for kind in TYPES.values()]}, cacheable=True)
    items = "".join(
        f'<li><a href="/problems/{kind.slug}"><code>{kind.slug}</code></a>'
        f" {kind.status}: {escape(kind.title)}</li>"
        for kind in TYPES.values()
    )
    return html_answer(_PAGE.format(title="Problems", content=f"<ul>{items}</ul>"))


async def explain_problem(request: Request) -> Answer:
    """GET /problems/{slug}."""
    kind = TYPES.get(request.path_params["slug"])
    if kind is None:
        raise NotFoundError
    if not _wants_html(request):
        return json_answer(_show(kind), cacheable=True)
    content = (
        f"<p>Status {kind.status}, <code>/problems/{kind.slug}</code></p>"
        f"<p>{_code(escape(kind.explanation))}</p>"
        '<p><a href="/problems">All problems</a></p>'
    )
    return html_answer(_PAGE.format(title=escape(kind.title), content=content))


def _show(kind: ProblemType) -> dict[str, object]:
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "explanation": kind.explanation,
    }


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _code(text: str) -> str:
    parts = text.split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )
