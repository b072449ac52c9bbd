"""`status`, `queues`, `workers`: how the service stands."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from app.commands.session import Session, run, write_json
from app.commands.tables import console, queue_table, worker_table
from app.queue.errors import QueueUnavailableError

LOOK_SECONDS = 1.0


def queues(options: argparse.Namespace) -> None:
    """`python -m app queues`."""

    async def use(session: Session) -> None:
        found = await session.overview.queues()
        if options.json:
            write_json({"data": [each.shown() for each in found]})
        else:
            console().print(queue_table(found))

    run(use)


def workers(options: argparse.Namespace) -> None:
    """`python -m app workers`."""

    async def use(session: Session) -> None:
        found = await session.overview.workers()
        if options.json:
            write_json({"data": [asdict(each) for each in found]})
        elif found:
            console().print(worker_table(found))
        else:
            console().print("No worker is registered: start one with python -m app.worker.")

    run(use)


def status(options: argparse.Namespace) -> None:
    """`python -m app status`: once into a pipe or a file, else until Ctrl-C."""

    async def use(session: Session) -> None:
        if options.json:
            write_json(await _facts(session))
        elif options.once or not sys.stdout.isatty():
            console().print(await _picture(session))
        else:
            await _watch(session)

    run(use)


async def _watch(session: Session) -> None:
    # The first look fails as any command would; later it says so and goes on looking.
    seen = await _picture(session)
    with Live(seen, auto_refresh=False, screen=True) as live:
        while True:
            live.refresh()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                seen = await _picture(session)
                live.update(seen)
            except QueueUnavailableError as error:
                away = Text(f"{error.reason}; this is how it was. Still trying.", "bold red")
                live.update(Group(away, seen))


async def _facts(session: Session) -> dict[str, Any]:
    queues, workers, reasons = await asyncio.gather(
        session.overview.queues(),
        session.overview.workers(),
        session.views.readiness(session.catalog.queues()),
    )
    return {
        "status": "unavailable" if reasons else "ok",
        "reasons": reasons,
        "queues": [each.shown() for each in queues],
        "workers": [asdict(each) for each in workers],
    }


async def _picture(session: Session) -> RenderableType:
    queues, workers, reasons = await asyncio.gather(
        session.overview.queues(),
        session.overview.workers(),
        session.views.readiness(session.catalog.queues()),
    )
    head = [Text(f"✗ {reason}", "bold red") for reason in reasons] or [Text("✓ ready", "green")]
    return Group(*head, Text(), queue_table(queues), worker_table(workers))
