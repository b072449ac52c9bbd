"""What bin/dev prints: a line of each part behind its name, in colour on a terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

OWN_NAME = "dev"
_COLOURS = (35, 36, 32, 33, 34)
_ALERT = 31


class Console:
    """Writes whole lines; goes quiet when the terminal is gone, so that ending goes on."""

    def __init__(self, stream: TextIO, names: Sequence[str]) -> None:
        self._stream = stream
        self._width = max(len(name) for name in (OWN_NAME, *names))
        self._colours = dict(zip(names, _COLOURS, strict=False))
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org

    def line(self, name: str, text: str) -> None:
        """One line that a part has written."""
        self._write(self._painted(f"{name:<{self._width}} |", self._colours.get(name)) + f" {text}")

    def say(self, text: str) -> None:
        """One line of our own."""
        self.line(OWN_NAME, text)

    def alarm(self, text: str) -> None:
        """One line of our own that must not be overlooked."""
        self.line(OWN_NAME, self._painted(text, _ALERT))

    def page(self, text: str) -> None:
        """Lines without a prefix, so that they can be copied whole."""
        self._write(text)

    def _painted(self, text: str, colour: int | None) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour is not None else text

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # closed terminal, broken pipe, closed stream
            return
