"""One command's time with Redis: opened, used, closed; what goes wrong is one sentence."""

from __future__ import annotations

import asyncio
import gc
import os
import pwd
import sys
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeVar

from app import logs
from app.commands.terminal import INTERRUPTED_STATUS, UNAVAILABLE_STATUS, fail
from app.queue.connection import UNEXPECTED, Reachability, connect, end_tasks
from app.queue.errors import QueueUnavailableError
from app.settings import Settings, load, refuse

if TYPE_CHECKING:
    from app.queue.audit import AuditTrail
    from app.queue.capacity import Capacity
    from app.queue.control import Control
    from app.queue.failures import FailureGroups
    from app.queue.operations import Operations
    from app.queue.overview import Overview
    from app.queue.schedules import Schedules
    from app.queue.submitting import Submitter
    from app.queue.views import Views
    from jobs.catalog import Catalog


class _Closable(Protocol):
    async def aclose(self) -> object: ...


T = TypeVar("T", bound=_Closable)


class Session:
    """What a command may use. A part is loaded when it is first asked for: most need few."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = connect(settings.redis_location)
        self.reachability = Reachability()
        self.budgets = settings.max_queue_jobs, settings.max_queue_bytes
        self._parts: list[_Closable] = []

    def kept(self, part: T) -> T:
        """The part, which is closed with the session."""
        self._parts.append(part)
        return part

    @cached_property
    def catalog(self) -> Catalog:
        return load_catalog(self.settings)

    @cached_property
    def views(self) -> Views:
        from app.queue.views import Views  # noqa: PLC0415 - see the class

        _ = self.catalog  # a record leaves out what its type has anyway
        return self.kept(Views(self.client, self.reachability, self.budgets))

    @cached_property
    def capacity(self) -> Capacity:
        from app.queue.capacity import Capacity  # noqa: PLC0415

        return Capacity(self.client, self.reachability, self.budgets)

    @cached_property
    def overview(self) -> Overview:
        from app.queue.overview import Overview  # noqa: PLC0415

        return Overview(self.client, self.reachability, self.catalog.queues())

    @cached_property
    def control(self) -> Control:
        from app.queue.control import Control  # noqa: PLC0415

        return self.kept(Control(self.client, self.reachability, *self.budgets))

    @cached_property
    def failures(self) -> FailureGroups:
        from app.queue.failures import FailureGroups  # noqa: PLC0415

        return FailureGroups(self.client, self.reachability)

    @cached_property
    def operations(self) -> Operations:
        from app.queue.operations import Operations  # noqa: PLC0415

        return self.kept(Operations(self.client, self.reachability))

    @cached_property
    def schedules(self) -> Schedules:
        from app.queue.schedules import Schedules  # noqa: PLC0415

        return self.kept(Schedules(self.client, self.reachability))

    @cached_property
    def audit(self) -> AuditTrail:
        from app.queue.audit import AuditTrail  # noqa: PLC0415

        return AuditTrail(self.client, self.reachability)

    @cached_property
    def submitter(self) -> Submitter:
        from app.queue.submitting import Submitter  # noqa: PLC0415

        seconds = self.settings.submit_timeout_seconds
        return self.kept(Submitter(self.client, self.reachability, seconds, *self.budgets))

    async def aclose(self) -> None:
        for part in reversed(self._parts):
            await part.aclose()
        # Beside an answer that failed others may still be awaited, on connections of the client.
        current = asyncio.current_task()
        await end_tasks([task for task in asyncio.all_tasks() if task is not current])
        await self.client.aclose()


def run(use: Callable[[Session], Awaitable[None]]) -> None:
    """Run a command. Exit status 2: settings; 3: Redis cannot be asked, or does not do it."""
    settings = load()
    if not gc.isenabled():
        # Off since app/__main__.py. What has been loaded stays: nobody need look for garbage there.
        gc.freeze()
        gc.enable()
    # A command says what there is to say itself.
    logs.configure(settings.log_style, "error")
    try:
        with asyncio.Runner() as runner:
            runner.run(_within(settings, use))
        sys.stdout.flush()
    except QueueUnavailableError as error:
        fail(f"{error.reason}.", UNAVAILABLE_STATUS)
    except UNEXPECTED as error:
        said = " ".join(str(error).split())
        fail(f"Redis gave an answer that nobody expects: {said}", UNAVAILABLE_STATUS)
    except BrokenPipeError:
        # Who reads has seen enough: `| head`. Nothing more can be written, nor flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED_STATUS) from None


def who() -> str:
    """Whose act it is, in trails."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def request_id() -> str:
    """What the trails of one command have in common."""
    return f"cli-{os.urandom(9).hex()}"


def load_catalog(settings: Settings) -> Catalog:
    """The job types; exit status 2 when a module of the settings cannot be loaded."""
    from jobs import catalog  # noqa: PLC0415 - loads what sends mail and reads data

    try:
        return catalog.load(settings.job_modules, with_params=False)
    except ImportError as error:
        refuse([str(error)])


async def _within(settings: Settings, use: Callable[[Session], Awaitable[None]]) -> None:
    session = Session(settings)
    try:
        await use(session)
    finally:
        await session.aclose()
