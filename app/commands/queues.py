"""`queues`, `queues pause|resume|empty`: work that waits, held or thrown away."""

from __future__ import annotations

import argparse
import asyncio
import sys

from app.commands.session import Session, run, who
from app.commands.tables import queue_table
from app.commands.terminal import fail, note, say, visible, write_json
from app.commands.watching import QueueBar
from app.queue.errors import QueueUnavailableError
from app.queue.figures import Emptied
from app.queue.records.names import split_queue_name


def show_all(options: argparse.Namespace) -> None:
    """`python -m app queues`."""

    async def use(session: Session) -> None:
        found = await session.overview.queues()
        if options.json:
            write_json({"data": [each.shown() for each in found]})
        else:
            say(queue_table(found))

    run(use)


def pause(options: argparse.Namespace) -> None:
    """`python -m app queues pause NAME`: what runs goes on, nothing more is begun."""
    _hold(options, is_paused=True)


def resume(options: argparse.Namespace) -> None:
    """`python -m app queues resume NAME`."""
    _hold(options, is_paused=False)


def empty(options: argparse.Namespace) -> None:
    """`python -m app queues empty NAME`: what waits there is canceled, once the name was given."""
    name, _ = split_queue_name(options.name)

    async def look(session: Session) -> None:
        await _known(session, name)

    run(look)
    confirmed = options.confirm if options.confirm is not None else _asked(name)
    if confirmed != name:
        fail(f"Nothing was done: to empty the queue, give its name, {name}.")

    async def use(session: Session) -> None:
        emptied = await _empty(session, name)
        if options.json:
            write_json({"name": name, **emptied._asdict()})
        else:
            say(f"{name}: {emptied.canceled} canceled")

    run(use)


async def _empty(session: Session, name: str) -> Emptied:
    found = await session.overview.queue(name)
    waiting, emptied = found.depth if found is not None else 0, Emptied(0, is_complete=False)
    try:
        with QueueBar() as bar:
            async for emptied in session.control.empty(name, who()):
                bar.show(emptied, waiting)
    except (asyncio.CancelledError, QueueUnavailableError):
        note(f"{emptied.canceled} are canceled; for the rest, type it again.")
        raise
    return emptied


def _hold(options: argparse.Namespace, *, is_paused: bool) -> None:
    name, _ = split_queue_name(options.name)

    async def use(session: Session) -> None:
        await _known(session, name)
        await (session.control.pause if is_paused else session.control.resume)(name, who())
        if options.json:
            write_json({"name": name, "paused": is_paused})
        else:
            say(f"{name}: {'paused' if is_paused else 'resumed'}")

    run(use)


async def _known(session: Session, name: str) -> None:
    # Another program's queue in the same Redis can be held, too, where there is one.
    if name not in session.catalog.queues() and await session.overview.queue(name) is None:
        fail(f"There is no queue {name}.")


def _asked(name: str) -> str:
    note(f"All that waits in queue {name}, in all its priorities, is canceled.")
    sys.stderr.write(visible(f"Type {name} to go on: "))
    sys.stderr.flush()
    return sys.stdin.readline().strip()
