"""Job types that leave artifacts behind, or try to."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict

from jobs.catalog import Backoff, job
from jobs.context import JobContext
from jobs.errors import RetryLater

# Files that runs of this process have not closed.
HELD: list[BinaryIO] = []
QUICK = Backoff(initial=0.05, factor=1.0, maximum=1.0, jitter=0.0)


class Params(BaseModel):
    """`journal` is a file that gets the run's folder; `how` says what goes wrong."""

    model_config = ConfigDict(extra="forbid")

    journal: str | None = None
    gate: str | None = None
    how: str = ""
    size: int = 10


def _leave(params: Params, context: JobContext) -> dict[str, Any]:
    path = context.new_artifact("rows.csv", "text/csv")
    report = context.new_artifact("report.html", content_type="text/html")
    if params.journal is not None:
        Path(params.journal).write_text(str(path.parent))
    path.write_bytes(bytes([context.attempt]) * params.size)
    if params.how != "missing":
        report.write_bytes(b"<p>done</p>")
    if params.how == "link":
        report.unlink()
        report.symlink_to("/etc/passwd")
    if params.how == "pipe":
        report.unlink()
        os.mkfifo(report)
    if params.how == "hold":
        HELD.append(path.open("r+b", buffering=0))
    if params.how == "write later":
        HELD.pop().write(b"changed")
    if params.how == "fail" and context.attempt == 1:
        raise RetryLater("once more")
    return {"folder": str(path.parent)}


@job("test.leave", max_attempts=2, backoff=QUICK)
async def leave(params: Params, context: JobContext) -> dict[str, Any]:
    """Leaves two artifacts."""
    result = _leave(params, context)
    while params.gate is not None and not Path(params.gate).exists():
        await asyncio.sleep(0.01)
    return result


@job("test.leave_process", max_attempts=2, backoff=QUICK)
def leave_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    result = _leave(params, context)
    if params.how == "die" and context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    pause = threading.Event()
    while params.gate is not None and not Path(params.gate).exists():
        pause.wait(0.01)
    return result
