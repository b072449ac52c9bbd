"""`status`, `workers`, `audit`: how the service stands, and who did what."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from app.commands.drawing import Line, Table
from app.commands.pages import page_of, say_page
from app.commands.session import Session, run
from app.commands.tables import act_table, queue_table, worker_table
from app.commands.terminal import cell, lines_of, say, write_json
from app.commands.watching import screen
from app.queue.errors import QueueUnavailableError

LOOK_SECONDS = 1.0


def workers(options: argparse.Namespace) -> None:
    """`python -m app workers`."""

    async def use(session: Session) -> None:
        found = await session.overview.workers()
        if options.json:
            write_json({"data": [each._asdict() for each in found]})
        elif found:
            say(worker_table(found))
        else:
            say("No worker is registered: start one with python -m app.worker.")

    run(use)


def audit(options: argparse.Namespace) -> None:
    """`python -m app audit`: the latest first."""

    async def use(session: Session) -> None:
        page = await page_of(session.audit.page(options.limit, options.cursor))
        if options.json:
            data = [act._asdict() for act in page.data]
            write_json({"data": data, "next_cursor": page.next_cursor})
        else:
            say_page(
                act_table(page.data) if page.data else "Nobody has done anything.", page.next_cursor
            )

    run(use)


def status(options: argparse.Namespace) -> None:
    """`python -m app status`: once into a pipe or a file, else until Ctrl-C."""

    async def use(session: Session) -> None:
        if options.json:
            write_json(await _facts(session))
        elif options.once or not sys.stdout.isatty():
            say(*await _picture(session))
        else:
            await _watch(session)

    run(use)


async def _watch(session: Session) -> None:
    # The first look fails as any command would; later it says so and goes on looking.
    seen = await _picture(session)
    with screen() as show:
        show(lines_of(*seen))
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                seen = await _picture(session)
                show(lines_of(*seen))
            except QueueUnavailableError as error:
                away = cell(f"{error.reason}; this is how it was. Still trying.", "bold red")
                show(lines_of(away, *seen))


async def _facts(session: Session) -> dict[str, Any]:
    queues, workers, reasons = await asyncio.gather(
        session.overview.queues(),
        session.overview.workers(),
        session.capacity.readiness(session.catalog.queues()),
    )
    return {
        "status": "unavailable" if reasons else "ok",
        "reasons": reasons,
        "queues": [each.shown() for each in queues],
        "workers": [each._asdict() for each in workers],
    }


async def _picture(session: Session) -> list[Line | Table | str]:
    queues, workers, reasons = await asyncio.gather(
        session.overview.queues(),
        session.overview.workers(),
        session.capacity.readiness(session.catalog.queues()),
    )
    head = [cell(f"✗ {reason}", "bold red") for reason in reasons] or [Line("✓ ready", "green")]
    return [*head, "", queue_table(queues), "", worker_table(workers)]
