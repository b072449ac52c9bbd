"""One command's time with Redis: opened, used, closed; what goes wrong is one sentence."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import uvloop
from pydantic_core import to_json

from app import logs
from app.queue.connection import Reachability, connect
from app.queue.control import Control
from app.queue.errors import QueueUnavailableError
from app.queue.overview import Overview
from app.queue.views import Views
from app.settings import Settings, load, refuse
from jobs import catalog
from jobs.catalog import Catalog

FAILED_STATUS = 1


@dataclass(frozen=True, slots=True)
class Session:
    """What a command may use."""

    settings: Settings
    catalog: Catalog
    views: Views
    overview: Overview
    control: Control
    client: Any
    reachability: Reachability


def run(use: Callable[[Session], Awaitable[None]]) -> None:
    """Run a command. Exit status 2: settings; 1, with one sentence: it could not be done."""
    settings = load()
    # A command says what there is to say itself.
    logs.configure(settings.log_style, "error")
    try:
        job_types = catalog.load(settings.job_modules)
    except ImportError as error:
        refuse([str(error)])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_within(settings, job_types, use))
        sys.stdout.flush()
    except QueueUnavailableError as error:
        fail(f"{error.reason}.")
    except BrokenPipeError:
        # Who reads has seen enough: `| head`. Nothing more can be written, nor flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def fail(sentence: str) -> NoReturn:
    """Say why, and end with status 1."""
    sys.stderr.write(f"{sentence}\n")
    raise SystemExit(FAILED_STATUS)


def write_json(value: Any) -> None:
    """For programs: the same shapes as over HTTP."""
    sys.stdout.write(to_json(value, indent=2, inf_nan_mode="null").decode() + "\n")


def who() -> str:
    """Whose act it is, in trails."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


async def _within(
    settings: Settings, job_types: Catalog, use: Callable[[Session], Awaitable[None]]
) -> None:
    client, reachability = connect(settings.redis_location), Reachability()
    budgets = settings.max_queue_jobs, settings.max_queue_bytes
    views, control = Views(client, reachability, budgets), Control(client, reachability)
    overview = Overview(client, reachability, job_types.queues())
    try:
        await use(Session(settings, job_types, views, overview, control, client, reachability))
    finally:
        for part in (views, control, client):
            await part.aclose()
