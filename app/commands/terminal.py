"""What an operator sees and is asked: what jobs and errors say arrives as text, never as orders
to the terminal.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pydantic_core import to_json

from app.commands.drawing import Line, Table
from app.settings import is_colourless

# Exit statuses, as docs/operating.md has them.
FAILED_STATUS = 1
USAGE_STATUS = 2
UNAVAILABLE_STATUS = 3
UNDER_WAY_STATUS = 4
INTERRUPTED_STATUS = 130

# Where no terminal says how wide it is: nothing is cut off for `grep`.
PIPE_WIDTH = 250
# Control characters but for line feed and tab, marks that turn the direction of writing around,
# halves of surrogate pairs.
_ORDERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def say(*shown: Line | Table | str) -> None:
    """Answer people: a line for each text. None of it reaches the terminal but visibly."""
    is_plain = not sys.stdout.isatty() or is_colourless()
    for line in lines_of(*shown):
        sys.stdout.write(f"{line.text if is_plain else line.coloured()}\n")


def lines_of(*shown: Line | Table | str) -> list[Line]:
    """The same as lines, as wide as the terminal is."""
    lines: list[Line] = []
    for each in shown:
        if isinstance(each, Table):
            lines += each.lines(_width(), "─" if _is_unicode() else "-")
        else:
            lines.append(Line(each) if isinstance(each, str) else each)
    for line in lines:
        line.pieces = tuple((visible(text), style) for text, style in line.pieces)
    return lines


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "utf-8").casefold().startswith("utf")


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


def cell(text: object, style: str = "") -> Line:
    """A text of somebody else's on one line."""
    return Line(visible(" ".join(str(text).split())), style)


def facts(named: Mapping[str, object]) -> list[Line]:
    """A line for each that there is, the names in one column."""
    there = {name: value for name, value in named.items() if value is not None and value != ""}
    width = max((len(name) for name in there), default=0)
    return [
        Line.of(Line(f"{name:>{width}}  ", "dim"), cell(value)) for name, value in there.items()
    ]


def advice(lines: Sequence[tuple[str, str]]) -> list[Line]:
    """What to type next, and what that does."""
    width = max(len(typed) for typed, _ in lines)
    return [
        Line.of(Line(f"  {visible(typed):<{width}}", "bold"), Line(f"  # {what}", "dim"))
        for typed, what in lines
    ]
