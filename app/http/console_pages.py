"""How the console's pages are made: templates, what they share, and what is said instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.http import console_words as words
from app.http.auth import acting_key
from app.http.entrance import SIGNED_IN_AS
from app.queue.errors import BadCursorError, QueueUnavailableError

PAGES = Path(__file__).parent / "pages" / "console"
Endpoint = Callable[[Request], Awaitable[Response]]


class Pages:
    """Renders for the key of the request; everything in a template is escaped."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(words.FILTERS)

    def page(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> Response:
        """What a job tells may hold half a surrogate pair, which UTF-8 has no bytes for."""
        key, root = acting_key(request), request.scope["root_path"]
        page = self._templates.get_template(template).render(
            root=root,
            site=root.removesuffix("/console"),
            here=request.scope["path"].removeprefix(root),
            signed_in_as=request.scope[SIGNED_IN_AS],
            may_operate="operate" in key.scopes,
            now=datetime.now(UTC),
            **values,
        )
        return Response(page.encode("utf-8", "replace"), status, media_type="text/html")

    def said(self, request: Request, status: int, title: str, detail: str) -> Response:
        """A page with nothing but this on it."""
        return self.page(request, "said.html", status, title=title, detail=detail)

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, which says in a page that Redis is away or that a page is none."""

        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except QueueUnavailableError as error:
                return self.said(request, 503, "Redis does not answer", str(error))
            except BadCursorError:
                return self.said(request, 404, "There is no such page", "Begin at the list's top.")

        return answer


class Assets(StaticFiles):
    """The pages' own files, asked about each time: a new release shows at once."""

    def __init__(self) -> None:
        super().__init__(directory=PAGES / "assets")

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response
