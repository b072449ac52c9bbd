"""Job types on three queues; each run leaves a line outside Redis when it begins and ends."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from pydantic import BaseModel, ConfigDict

from jobs.catalog import Backoff, job
from jobs.context import JobContext
from jobs.errors import RetryLater
from tests.chaos.clock import shifted_by

QUEUES = ("alpha", "beta", "gamma")
QUICK = Backoff(initial=0.2, factor=1.0, maximum=1.0, jitter=0.0)


class Params(BaseModel):
    """`journal` is the file for the lines; a run takes `seconds`."""

    model_config = ConfigDict(extra="forbid")

    journal: str
    seconds: float


def _note(params: Params, context: JobContext, word: str) -> None:
    """One write, appended: lines of several processes never mix, and none is half written."""
    line = f"{context.job_id} {word} {context.attempt} {os.getpid()} {shifted_by()}\n"
    handle = os.open(params.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@job("chaos.coroutine", queue="alpha", backoff=QUICK)
async def coroutine(params: Params, context: JobContext) -> dict[str, Any]:
    """Takes its time in the worker's loop."""
    _note(params, context, "began")
    await asyncio.sleep(params.seconds)
    _note(params, context, "ended")
    return {"attempt": context.attempt}


@job("chaos.process", queue="beta", backoff=QUICK)
def process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "began")
    threading.Event().wait(params.seconds)
    _note(params, context, "ended")
    return {"attempt": context.attempt}


@job("chaos.second", queue="gamma", backoff=QUICK)
async def second(params: Params, context: JobContext) -> dict[str, Any]:
    """Fails once by itself, so that it waits for its next attempt meanwhile."""
    _note(params, context, "began")
    await asyncio.sleep(params.seconds)
    _note(params, context, "ended")
    if context.previous_result is None:
        raise RetryLater("not yet", result={"attempt": context.attempt})
    return {"attempt": context.attempt}


TYPES = ("chaos.coroutine", "chaos.process", "chaos.second")
