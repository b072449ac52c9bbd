"""What an operator sees and is asked: what jobs and errors say arrives as text, never as orders
to the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from pydantic_core import to_json
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Exit statuses, as docs/operating.md has them.
FAILED_STATUS = 1
USAGE_STATUS = 2
UNAVAILABLE_STATUS = 3
UNDER_WAY_STATUS = 4
INTERRUPTED_STATUS = 130

BAD_CURSOR = "--cursor takes what the page before ended with."
# Where no terminal says how wide it is: nothing is cut off for `grep`.
PIPE_WIDTH = 250
# Control characters but for line feed and tab, marks that turn the direction of writing around,
# halves of surrogate pairs.
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Screen(Console):
    """Where people read. No text is mark-up, and none reaches the terminal but visibly."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or _ORDERS.search(segment.text) is None:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def console() -> Screen:
    """Where answers go."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Screen(width=width, soft_wrap=True, markup=False, emoji=False, highlight=False)


def note(sentence: str) -> None:
    """Say something beside the answer."""
    sys.stderr.write(f"{visible(sentence)}\n")
    sys.stderr.flush()


def fail(sentence: str, status: int = FAILED_STATUS) -> NoReturn:
    """Say why, and end."""
    note(sentence)
    raise SystemExit(status)


def agreed(question: str) -> bool:
    """Whether the answer begins with y. No answer at all is none."""
    sys.stderr.write(f"{visible(question)} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().casefold() in {"y", "yes"}


def write_json(value: Any, *, is_line: bool = False) -> None:
    """For programs: the same shapes as over HTTP."""
    text = to_json(value, indent=None if is_line else 2, inf_nan_mode="null").decode()
    sys.stdout.write(_ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")
    sys.stdout.flush()


def json_text(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def visible(text: str) -> str:
    """The same with what a terminal would obey written out."""
    return _ORDERS.sub(lambda found: ascii(found[0])[1:-1], text)


def cell(text: object, style: str = "") -> Text:
    """A text of somebody else's on one line."""
    return Text(visible(" ".join(str(text).split())), style)


def facts(named: Mapping[str, object]) -> list[Text]:
    """A line for each that there is, the names in one column."""
    there = {name: value for name, value in named.items() if value is not None and value != ""}
    width = max((len(name) for name in there), default=0)
    return [
        Text.assemble((f"{name:>{width}}  ", "dim"), cell(value)) for name, value in there.items()
    ]


def advice(lines: Sequence[tuple[str, str]]) -> list[Text]:
    """What to type next, and what that does."""
    width = max(len(typed) for typed, _ in lines)
    return [
        Text.assemble("  ", (f"{visible(typed):<{width}}", "bold"), (f"  # {what}", "dim"))
        for typed, what in lines
    ]
