"""The inbox page: what the local catcher received, rendered by the server. Development only."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zlib import crc32

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from app.http.mail_headers import Person
from app.http.mail_html import SafeDocument, safe_document
from app.http.mailbox import LISTED, Mailbox, MailNotFoundError, OpenedMail, Summary, list_stamp

PAGES = Path(__file__).parent / "pages" / "inbox"
VIEWS = ("html", "text", "source", "headers")
# What the reader pane shows of a source; the link beside it has it whole.
SHOWN_SOURCE_BYTES = 256 * 1024

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
# No script, nothing from elsewhere, an origin of its own. A click on a link opens a
# new tab outside the sandbox: trying out a password reset is what the page is for.
HTML_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'self';"
    " sandbox allow-popups allow-popups-to-escape-sandbox"
)
FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_RASTER_PICTURE = re.compile(r"image/(?:avif|bmp|gif|jpeg|png|webp)")
_URL = re.compile(r"https?://[^\s<>\"']+")

T = TypeVar("T")


def routes(folder: Path) -> list[BaseRoute]:
    """The page and what belongs to it, all under /inbox, on the folder that the catcher fills."""
    inbox = _Inbox(Mailbox(folder))
    return [
        Route("/inbox", inbox.page, name="inbox"),
        Route("/inbox/mails.json", inbox.mails),
        Mount("/inbox/assets", _Assets(directory=PAGES / "assets")),
        Route("/inbox/{mail_id}", inbox.mail),
        Route("/inbox/{mail_id}/html", inbox.html),
        Route("/inbox/{mail_id}/source", inbox.source),
        Route("/inbox/{mail_id}/parts/{number:int}", inbox.part),
    ]


class _Assets(StaticFiles):
    """The page's own files, asked about each time: a new release shows at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response


class _Inbox:
    """The endpoints. Reading and rendering happen in threads: e-mails are large and strange."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._templates = Environment(
            loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(
            size=_size, tint=_tint, initial=_initial, links=_with_links, people=_people
        )

    async def page(self, request: Request) -> Response:
        return await run_in_threadpool(self._render, request, None, "")

    async def mail(self, request: Request) -> Response:
        def render() -> Response:
            opened = self._mailbox.open(request.path_params["mail_id"])
            return self._render(request, opened, request.query_params.get("view", ""))

        return await _found(render)

    async def mails(self, request: Request) -> Response:
        """The list for scripts; cheap when nothing is new, since the page asks all the time."""
        ids = await run_in_threadpool(self._mailbox.ids)
        headers = _headers("default-src 'none'") | {"ETag": f'"{list_stamp(ids)}"'}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        summaries = await run_in_threadpool(self._mailbox.newest, ids)
        body = {"data": [_listed(summary) for summary in summaries], "total": len(ids)}
        return JSONResponse(body, headers=headers)

    async def html(self, request: Request) -> Response:
        def render() -> Response:
            opened = self._mailbox.open(request.path_params["mail_id"])
            document = _document(opened)
            if document is None:
                raise HTTPException(404, "This e-mail has no HTML.")
            return HTMLResponse(document.html, headers=_headers(HTML_POLICY))

        return await _found(render)

    async def source(self, request: Request) -> Response:
        def render() -> Response:
            opened = self._mailbox.open(request.path_params["mail_id"])
            text = opened.source.decode("utf-8", "replace")
            return PlainTextResponse(text, headers=_headers(FILE_POLICY))

        return await _found(render)

    async def part(self, request: Request) -> Response:
        """An attachment to keep, or a picture of the HTML: never a page of this origin."""

        def render() -> Response:
            opened = self._mailbox.open(request.path_params["mail_id"])
            number = request.path_params["number"]
            part = next((each for each in opened.content.parts if each.number == number), None)
            if part is None:
                raise HTTPException(404, "This e-mail has no such part.")
            raster = _RASTER_PICTURE.fullmatch(part.content_type) is not None
            headers = _headers(FILE_POLICY) | {"Content-Disposition": _disposition(part.filename)}
            media_type = part.content_type if raster else "application/octet-stream"
            return Response(part.content, media_type=media_type, headers=headers)

        return await _found(render)

    def _render(self, request: Request, opened: OpenedMail | None, view: str) -> Response:
        ids = self._mailbox.ids()
        page = self._templates.get_template("page.html").render(
            mails=self._mailbox.newest(ids),
            total=len(ids),
            listed=LISTED,
            stamp=list_stamp(ids),
            base_url=str(request.base_url).rstrip("/"),
            opened=_reader(opened, view) if opened is not None else None,
        )
        return HTMLResponse(page, headers=_headers(PAGE_POLICY))


async def _found(render: Callable[[], T]) -> T:
    try:
        return await run_in_threadpool(render)
    except MailNotFoundError as error:
        raise HTTPException(404, "There is no such e-mail (any longer).") from error


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _listed(summary: Summary) -> dict[str, Any]:
    return {
        "id": summary.id,
        "from": _person(summary.sender),
        "to": [_person(each) for each in summary.to],
        "subject": summary.subject,
        "received_at": summary.received_at.isoformat().replace("+00:00", "Z"),
        "size": summary.size_bytes,
        "attachments": summary.has_attachments,
        "href": f"/inbox/{summary.id}",
    }


def _person(person: Person) -> dict[str, str]:
    return {"name": person.name, "address": person.address}


def _reader(opened: OpenedMail, view: str) -> dict[str, Any]:
    """What the reader pane shows of one e-mail."""
    document = _document(opened)
    views = [
        each
        for each in VIEWS
        if not (each == "html" and document is None)
        and not (each == "text" and opened.content.text is None)
    ]
    shown = view if view in views else views[0]
    source = opened.source[:SHOWN_SOURCE_BYTES] if shown == "source" else b""
    return {
        "mail": opened.summary,
        "envelope": opened.envelope,
        "content": opened.content,
        "cc": _field(opened, "cc"),
        "reply_to": _field(opened, "reply-to"),
        "views": views,
        "view": shown,
        "blocked": document.blocked if document is not None else 0,
        "source": source.decode("utf-8", "replace"),
        "source_is_cut": len(opened.source) > SHOWN_SOURCE_BYTES,
    }


def _field(opened: OpenedMail, wanted: str) -> str:
    return next((value for name, value in opened.content.fields if name.lower() == wanted), "")


@lru_cache(maxsize=4)
def _document(opened: OpenedMail) -> SafeDocument | None:
    if opened.content.html is None:
        return None
    inline = {
        part.content_id: f"/inbox/{opened.summary.id}/parts/{part.number}"
        for part in opened.content.parts
        if part.content_id is not None
    }
    return safe_document(opened.content.html, inline)


def _disposition(filename: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"


def _initial(person: Person) -> str:
    letters = (character for character in person.label if character.isalnum())
    return next(letters, "?").upper()[0]


def _tint(person: Person) -> int:
    """One of eight colours, the same for the same sender."""
    return crc32(person.address.lower().encode("utf-8", "replace")) % 8


def _people(persons: tuple[Person, ...]) -> str:
    names = ", ".join(each.label for each in persons[:3])
    return f"{names} and {len(persons) - 3} more" if len(persons) > 3 else names


def _with_links(text: str) -> Markup:
    """Escaped text in which addresses of pages can be clicked."""
    pieces: list[Markup] = []
    end = 0
    for found in _URL.finditer(text):
        url = found[0].rstrip(".,;:!?)]}")
        pieces.append(escape(text[end : found.start()]))
        pieces.append(
            Markup('<a href="{0}" target="_blank" rel="noopener noreferrer">{0}</a>').format(url)
        )
        end = found.start() + len(url)
    pieces.append(escape(text[end:]))
    return Markup("").join(pieces)
