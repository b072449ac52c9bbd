"""Lists that are read a page at a time: `limit` and `cursor`, and where the next page is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

from app.http.answers import RawHeaders
from app.http.faults import Fault, InvalidRequestError
from app.http.job_list import read_limit
from app.queue.errors import BadCursorError


class Page(Protocol):
    """What a page of any list has."""

    @property
    def next_cursor(self) -> str | None: ...


AnyPage = TypeVar("AnyPage", bound=Page)


def limit_of(request: Request, *others: Fault) -> int:
    """How many are asked for. Raises InvalidRequestError, with the faults of other parameters."""
    faults: list[Fault] = []
    limit = read_limit(request.query_params.get("limit"), faults)
    faults += others
    if faults:
        raise InvalidRequestError(faults)
    return limit


async def read_page(
    request: Request, limit: int, read: Callable[[int, str | None], Awaitable[AnyPage]]
) -> tuple[AnyPage, RawHeaders]:
    """The page of the cursor, and the header that leads on (RFC 8288). Raises
    InvalidRequestError for a cursor that the list did not give."""
    given = request.query_params
    try:
        page = await read(limit, given.get("cursor"))
    except BadCursorError:
        detail = "is none that this list gave"
        raise InvalidRequestError.parameter("cursor", detail) from None
    if page.next_cursor is None:
        return page, []
    query = urlencode({**given, "cursor": page.next_cursor})
    return page, [(b"link", f'<{request.scope["path"]}?{query}>; rel="next"'.encode())]
