"""Job types that the tests bring along, by JOB_MODULES: each does one thing worth watching."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from jobs.catalog import Backoff, job
from jobs.context import JobContext
from jobs.errors import PermanentError, RetryLater

QUICK = Backoff(initial=0.05, factor=1.0, maximum=1.0, jitter=0.0)


class Params(BaseModel):
    """`journal` is a file that gets a line for each run; the rest is for the one job."""

    model_config = ConfigDict(extra="forbid")

    journal: str | None = None
    gate: str | None = None
    succeed_on: int = 1
    message: str = ""
    seconds: float = 0.0
    size: int = 0


def _note(params: Params, context: JobContext, word: str) -> None:
    """One write, appended: lines of several processes never mix."""
    if params.journal is not None:
        line = f"{context.job_id} {word} {context.attempt} {os.getpid()}\n".encode()
        handle = os.open(params.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def _facts(context: JobContext) -> dict[str, Any]:
    return {"attempt": context.attempt, "recovered": context.recovered, "pid": os.getpid()}


@job("test.note", backoff=QUICK)
async def note(params: Params, context: JobContext) -> dict[str, Any]:
    """Leaves a line and is done."""
    _note(params, context, "ran")
    return _facts(context)


@job("test.note_process", backoff=QUICK)
def note_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "ran")
    return _facts(context)


@job("test.flaky", backoff=QUICK)
async def flaky(params: Params, context: JobContext) -> dict[str, Any]:
    """Fails until attempt `succeed_on`."""
    _note(params, context, "ran")
    if context.attempt < params.succeed_on:
        raise RetryLater(params.message or "not yet", result={"tried": context.attempt})
    return _facts(context) | {"previous_result": context.previous_result}


@job("test.flaky_process", backoff=QUICK)
def flaky_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "ran")
    if context.attempt < params.succeed_on:
        raise RetryLater(params.message or "not yet", result={"tried": context.attempt})
    return _facts(context) | {"previous_result": context.previous_result}


@job("test.fail_once", backoff=QUICK)
async def fail_once(params: Params, context: JobContext) -> dict[str, Any]:
    """Fails until a run of it has failed, however many were abandoned."""
    _note(params, context, "ran")
    if context.previous_result is None:
        raise RetryLater("not yet", result={"tried": context.attempt})
    return _facts(context)


@job("test.fail_once_process", backoff=QUICK)
def fail_once_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "ran")
    if context.previous_result is None:
        raise RetryLater("not yet", result={"tried": context.attempt})
    return _facts(context)


@job("test.later", backoff=QUICK)
async def later(params: Params, context: JobContext) -> dict[str, Any]:
    """Asks for another attempt in `seconds`, once, and leaves a result for it."""
    if context.previous_result is None:
        raise RetryLater("later", delay_seconds=params.seconds, result={"seen": context.attempt})
    return _facts(context) | {"previous_result": context.previous_result}


@job("test.later_process", backoff=QUICK)
def later_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    if context.previous_result is None:
        raise RetryLater("later", delay_seconds=params.seconds, result={"seen": context.attempt})
    return _facts(context) | {"previous_result": context.previous_result}


@job("test.permanent", backoff=QUICK)
async def permanent(params: Params, context: JobContext) -> None:
    """Fails for good."""
    _note(params, context, "ran")
    raise PermanentError(params.message or "never", code="refused", result={"kept": True})


@job("test.crash", max_attempts=2, backoff=QUICK)
async def crash(params: Params, context: JobContext) -> None:
    """Fails with an exception that is nobody's business but the job's."""
    _note(params, context, "ran")
    raise ValueError(params.message or "crashed")


@job("test.wait", backoff=QUICK)
async def wait(params: Params, context: JobContext) -> dict[str, Any]:
    """Runs until the file `gate` exists."""
    _note(params, context, "began")
    while params.gate is not None and not Path(params.gate).exists():
        await asyncio.sleep(0.01)
    _note(params, context, "ran")
    return _facts(context)


@job("test.wait_process", backoff=QUICK)
def wait_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "began")
    pause = threading.Event()
    while params.gate is not None and not Path(params.gate).exists():
        pause.wait(0.01)
    _note(params, context, "ran")
    return _facts(context)


@job("test.nap", backoff=QUICK)
async def nap(params: Params, context: JobContext) -> dict[str, Any]:
    """Takes `seconds` and leaves the loop to others."""
    _note(params, context, "began")
    await asyncio.sleep(params.seconds)
    _note(params, context, "ran")
    return _facts(context)


@job("test.nap_process", backoff=QUICK)
def nap_process(params: Params, context: JobContext) -> dict[str, Any]:
    """The same in a child process."""
    _note(params, context, "began")
    threading.Event().wait(params.seconds)
    _note(params, context, "ran")
    return _facts(context)


@job("test.block", backoff=QUICK)
async def block(params: Params, context: JobContext) -> dict[str, Any]:
    """Holds the worker's whole loop, as a coroutine must not."""
    _note(params, context, "began")
    threading.Event().wait(params.seconds)
    return _facts(context)


@job("test.swallow", backoff=QUICK)
async def swallow(params: Params, context: JobContext) -> None:
    """Will not be cancelled."""
    _note(params, context, "began")
    while params.gate is not None and not Path(params.gate).exists():
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            _note(params, context, "cancelled")


@job("test.memory", max_attempts=1)
def memory(params: Params, context: JobContext) -> int:
    """Takes `size` bytes."""
    return len(bytearray(params.size))


@job("test.die", max_attempts=2, backoff=QUICK)
def die(params: Params, context: JobContext) -> None:
    """Kills its own process with the signal in `size`, or exits with it when it is negative."""
    _note(params, context, "began")
    if params.size < 0:
        os._exit(-params.size)
    os.kill(os.getpid(), signal.Signals(params.size))


@job("test.die_of_memory", max_attempts=2, backoff=QUICK, crash_code="memory")
def die_of_memory(params: Params, context: JobContext) -> None:
    """The same, of a type that says what its crashes mean."""
    die(params, context)


@job("test.spin", max_attempts=1)
def spin(params: Params, context: JobContext) -> None:
    """Uses `seconds` of CPU; `size` is a limit that it sets itself, as the worker would."""
    if params.size:
        resource.setrlimit(resource.RLIMIT_CPU, (params.size, params.size + 5))
    _note(params, context, "began")
    until = time.process_time() + params.seconds
    while time.process_time() < until:
        pass


@job("test.freeze", max_attempts=1)
def freeze(params: Params, context: JobContext) -> None:
    """Stops the process in `size`, its worker, and goes on by itself."""
    os.kill(params.size, signal.SIGSTOP)
    _note(params, context, "frozen")
    spin(params.model_copy(update={"size": 0}), context)


@job("test.deaf", max_attempts=1)
def deaf(params: Params, context: JobContext) -> None:
    """Minds no signal that can be ignored, until the file `gate` exists."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    wait_process(params, context)


@job("test.programs", backoff=QUICK)
def programs(params: Params, context: JobContext) -> None:
    """Starts a program, one in a session of its own and a daemon, and waits for the gate.

    Each notes its own pid, as `_note` would.
    """
    note = f'echo "{context.job_id} program 1 $$" >> "{params.journal}"; exec sleep 600'
    subprocess.Popen(["/bin/sh", "-c", note])
    subprocess.Popen(["/bin/sh", "-c", note], start_new_session=True)
    start = ["/bin/sh", "-c", 'sh -c "$0" & exit', note]
    subprocess.run(start, start_new_session=True, check=True)
    wait_process(params, context)


def _bad(params: Params) -> Any:
    bad = {"set": {1, 2}, "nan": float("nan"), "surrogate": "\ud800"}
    return bad[params.message] if params.message else "x" * params.size


@job("test.bad_result")
async def bad_result(params: Params, context: JobContext) -> Any:
    """Returns what JSON has not (`message` says what), or `size` bytes of it."""
    return _bad(params)


@job("test.bad_result_process")
def bad_result_process(params: Params, context: JobContext) -> Any:
    """The same in a child process."""
    return _bad(params)


class OwnBaseError(BaseException):
    """Neither an Exception nor one that Python knows."""


class MuteError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _odd_error(name: str) -> BaseException:
    odd: dict[str, BaseException] = {
        "surrogate": ValueError("half \ud800 a pair"),
        "base": OwnBaseError("not an Exception"),
        "mute": MuteError(),
        "code": PermanentError("odd", code=b"bytes"),  # type: ignore[arg-type]
        "result": RetryLater("odd", result={1, 2}),
        "word": RetryLater("odd", delay_seconds="soon"),  # type: ignore[arg-type]
        "nan": RetryLater("odd", delay_seconds=float("nan")),
        "never": RetryLater("odd", delay_seconds=float("inf")),
    }
    return odd[name]


@job("test.odd", max_attempts=2, backoff=QUICK)
async def odd(params: Params, context: JobContext) -> None:
    """Raises what is no decent exception; `message` says which."""
    raise _odd_error(params.message)


@job("test.odd_process", max_attempts=2, backoff=QUICK)
def odd_process(params: Params, context: JobContext) -> None:
    """The same in a child process."""
    raise _odd_error(params.message)


@job("test.exit", max_attempts=1)
async def leave(params: Params, context: JobContext) -> None:
    """Raises what would end a process."""
    raise SystemExit(params.message)


@job("test.exit_process", max_attempts=1)
def leave_process(params: Params, context: JobContext) -> None:
    """The same in a child process."""
    raise SystemExit(params.message)


@job("test.print", max_attempts=1)
def write_to_terminal(params: Params, context: JobContext) -> None:
    """Prints, the last of it without an end of line, as a library may."""
    print(f"out {params.message}")
    print(f"err {params.message}", file=sys.stderr)
    print(f"unfinished {params.message}", end="")


@job("test.environment", max_attempts=1)
def environment(params: Params, context: JobContext) -> list[str]:
    """The names of the variables that a child sees."""
    return sorted(os.environ)


def refuse(number: int) -> int:
    """A helper of a job's, which fails in the same place for whoever calls it."""
    raise ValueError(f"never {number}")


@job("test.refuse", max_attempts=1)
async def refuse_here(params: Params, context: JobContext) -> int:
    """Fails in a helper, or with `message` here."""
    if params.message:
        raise ValueError(params.message)
    return refuse(params.size)


@job("test.refuse_process", max_attempts=1)
def refuse_in_process(params: Params, context: JobContext) -> int:
    """The same in a child process."""
    if params.message:
        raise ValueError(params.message)
    return refuse(params.size)


@job("test.progress")
async def progress(params: Params, context: JobContext) -> None:
    """Tells each of `size` rows, and one that is no number."""
    context.progress(float("nan"))
    for row in range(params.size):
        context.progress(row, None, "rows")


@job("test.progress_process")
def progress_in_process(params: Params, context: JobContext) -> None:
    """The same in a child process."""
    context.progress(float("nan"))
    for row in range(params.size):
        context.progress(row, None, "rows")
