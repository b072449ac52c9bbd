"""A terminal at which commands are typed, and what it shows."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from tests.harness import JOB_MODULES
from tests.heart_scene import Scene, scene_on

# What takes longer waits for what will not come.
MOST_SECONDS = 60


class Terminal:
    """Types commands at this machine, against one Redis."""

    def __init__(
        self, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capture = capture
        self._monkeypatch = monkeypatch
        self.status = 0
        self.output = self.errors = ""

    def type(self, *arguments: str, answer: str | bytes = b"") -> str:
        """`answer` is what is typed or piped in meanwhile."""
        self.status = 0
        content = answer.encode() if isinstance(answer, str) else answer
        with self._monkeypatch.context() as patch, _impatience():
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))
            try:
                main(arguments)
            except SystemExit as error:
                self.status = int(error.code or 0)
        self.output, self.errors = self._capture.readouterr()
        assert "Traceback (most recent call last)" not in self.errors
        return self.output

    def json(self, *arguments: str, answer: str = "") -> Any:
        return json.loads(self.type(*arguments, "--json", answer=answer))


@contextmanager
def _impatience() -> Iterator[None]:
    """A command that waits for ever gets Ctrl-C, and fails its test by its status."""
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def terminal_in(
    folder: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
) -> Iterator[Terminal]:
    """In a folder without settings. Commands are programs: their logging is not the tests'."""
    loggers = [logging.getLogger(name) for name in ("", "asyncio", "uvicorn.access")]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("JOB_MODULES", JOB_MODULES)
    yield Terminal(capture, monkeypatch)
    for logger, level, handlers in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def given(url: str, prepare: Callable[[Scene], Any]) -> Any:
    """What `prepare` does on the stage of the heart, done before anything is typed."""

    async def run() -> Any:
        async with scene_on(url) as scene:
            return await prepare(scene)

    return asyncio.run(run())
