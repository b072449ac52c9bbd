"""How a long one goes, as a bar beside the answer: only where somebody sits before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from app.commands.terminal import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from app.commands.drawing import Line
    from app.queue.figures import Emptied
    from app.queue.records.failed import OperationView
    from app.queue.records.views import JobView


@contextmanager
def screen() -> Iterator[Callable[[Sequence[Line]], None]]:
    """All of the terminal for as long as it lasts; the function shows lines in place of others."""
    from rich.console import Console  # noqa: PLC0415 - where something moves
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(markup=False, emoji=False, highlight=False)
    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda lines: live.update(
            Text("\n").join(Text.assemble(*line.pieces, no_wrap=True) for line in lines),
            refresh=True,
        )


class _Bar:
    """One bar on stderr; nothing at all where that is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            self._progress = _new_bar()
            self._progress.start()
            self._task = self._progress.add_task("", total=None, facts="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _draw(self, words: str, done: float, total: float | None, facts: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description=visible(words), completed=done, total=total,
                facts=visible(facts),
            )  # fmt: skip


class JobBar(_Bar):
    """A job that is waited for."""

    def __enter__(self) -> JobBar:
        super().__enter__()
        return self

    def show(self, view: JobView) -> None:
        said = view.progress or {}
        done, total = said.get("current"), said.get("total")
        words = str(said.get("message") or view.status)
        is_known = isinstance(done, int | float) and isinstance(total, int | float) and total > 0
        facts = f"{done:g} of {total:g} {said.get('unit') or ''}" if is_known else ""
        self._draw(
            " ".join(words.split())[:60],
            float(done or 0) if is_known else 0.0,
            float(total or 0) if is_known else None,
            facts,
        )


class OperationBar(_Bar):
    """An operation on many jobs."""

    def __enter__(self) -> OperationBar:
        super().__enter__()
        return self

    def show(self, view: OperationView) -> None:
        done = view.done + view.failed
        facts = f"{done} of {view.total}"
        if view.failed:
            facts += f", {view.failed} could not be"
        self._draw(f"{view.action}: {view.state}", done, max(view.total, 1), facts)


class QueueBar(_Bar):
    """A queue that is emptied."""

    def __enter__(self) -> QueueBar:
        super().__enter__()
        return self

    def show(self, emptied: Emptied, waiting: int) -> None:
        facts = f"{emptied.canceled} of {waiting}"
        self._draw("canceled", emptied.canceled, max(waiting, 1), facts)


def _new_bar() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - where something moves
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True, markup=False, emoji=False, highlight=False),
        transient=True,
    )
