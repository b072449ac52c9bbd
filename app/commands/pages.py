"""Lists that go on: a page, and what to type for the next one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from app.commands.drawing import Line, Table
from app.commands.terminal import cell, fail, say
from app.queue.errors import BadCursorError

BAD_CURSOR = "--cursor takes what the page before ended with."
T = TypeVar("T")


async def page_of(asking: Awaitable[T]) -> T:
    """The page that is asked for; a cursor that is none ends the command."""
    try:
        return await asking
    except BadCursorError:
        fail(BAD_CURSOR)


def say_page(shown: Table | str, next_cursor: str | None, hint: str | None = None) -> None:
    """What is on it, and how to go on; on the last one `hint` says what else there is to type."""
    say(shown)
    if next_cursor is not None:
        say(cell(f"There are more: --cursor {next_cursor}", "dim"))
    elif hint is not None:
        say(Line(hint, "dim"))
