"""`failed retry|discard|operation|operations`: many failed jobs, looked at first, and watched."""

from __future__ import annotations

import argparse
import asyncio
from typing import Literal

from app.commands.pages import page_of, say_page
from app.commands.session import Session, request_id, run, who
from app.commands.tables import detail_text, operation_table
from app.commands.terminal import (
    FAILED_STATUS,
    agreed,
    cell,
    facts,
    fail,
    note,
    say,
    write_json,
)
from app.commands.watching import OperationBar
from app.http.showing import show_operation
from app.queue.errors import (
    OperationEndedError,
    OperationNotFoundError,
    QueueUnavailableError,
    SelectionNotFoundError,
)
from app.queue.records.failed import FailureFilter, OperationView, Order, Selection
from app.queue.records.names import OPERATIONS_QUEUE

LOOK_SECONDS = 0.2
ENDED = frozenset({"finished", "stopped", "failed"})
_SHOWN = 3
_FILTERS = ("type", "queue", "error", "tag", "batch", "created_after", "created_before")
_DONE = {"retry": "retried", "discard": "discarded"}


def retry(options: argparse.Namespace) -> None:
    """`python -m app failed retry`: of a cause, or of all that fit."""
    _change(options, Order("retry", pace=options.pace, canary=options.canary))


def discard(options: argparse.Namespace) -> None:
    """`python -m app failed discard`."""
    _change(options, Order("discard", pace=options.pace))


def show_all(options: argparse.Namespace) -> None:
    """`python -m app failed operations`: the newest first."""

    async def use(session: Session) -> None:
        page = await page_of(session.operations.page(options.limit, options.cursor))
        if options.json:
            data = [show_operation(view, await _warnings(session, view)) for view in page.data]
            write_json({"data": data, "next_cursor": page.next_cursor})
        else:
            say_page(
                operation_table(page.data) if page.data else "There was no operation.",
                page.next_cursor,
            )

    run(use)


def show(options: argparse.Namespace) -> None:
    """`python -m app failed operation ID`."""

    async def use(session: Session) -> None:
        try:
            view = await session.operations.view(options.id)
            if options.act is not None:
                view = await session.operations.act(options.id, options.act, who())
        except OperationNotFoundError:
            fail(f"There is no operation {options.id}.")
        except OperationEndedError as error:
            fail(f"Operation {options.id} is {error.state} already.")
        if options.watch:
            await _follow(session, view, has_lines=options.json)
        else:
            await _tell(session, view, is_json=options.json)

    run(use)


def _change(options: argparse.Namespace, order: Order) -> None:
    """Look, ask, act: exactly what was looked at, even if more fail meanwhile."""
    selection = _preview(_wanted(options))
    if not selection.count:
        fail("No failed job is meant by that.")
    if not options.yes and not agreed(_question(order, selection)):
        fail("Nothing was done.")

    async def use(session: Session) -> None:
        try:
            view = await session.operations.start(selection.id, order, who(), request_id())
        except SelectionNotFoundError:
            fail("Nothing was done: the answer took longer than an hour.")
        if options.no_wait:
            await _tell(session, view, is_json=options.json)
        else:
            await _follow(session, view, is_json=options.json)

    run(use)


def _wanted(options: argparse.Namespace) -> FailureFilter:
    is_filter = options.fingerprint is not None or any(
        getattr(options, name) is not None for name in _FILTERS
    )
    if is_filter == options.all:
        options.parser.error("name a FINGERPRINT, give a filter, or --all by itself")
    return FailureFilter(
        fingerprint=options.fingerprint,
        type=options.type,
        queue=options.queue,
        error=options.error,
        tag=options.tag,
        batch_id=options.batch,
        created_after=options.created_after,
        created_before=options.created_before,
    )


def _preview(wanted: FailureFilter) -> Selection:
    """Before anybody is asked, and closed by then: Ctrl-C at the question is one."""
    found: list[Selection] = []

    async def use(session: Session) -> None:
        found.append(await session.operations.select(wanted))

    run(use)
    return found[0]


def _question(order: Order, selection: Selection) -> str:
    some = ", ".join(selection.sample[:_SHOWN]) + (" …" if selection.count > _SHOWN else "")
    verb = {"retry": "Retry", "discard": "Discard for good"}[order.action]
    return f"{verb} {selection.count} failed {_jobs(selection.count)} ({some})?"


async def _follow(
    session: Session, view: OperationView, *, is_json: bool = False, has_lines: bool = False
) -> None:
    """Until it has ended: how, also as the exit status."""
    warned: set[str] = set()
    try:
        with OperationBar() as bar:
            while view.state not in ENDED:
                for each in set(await _warnings(session, view)) - warned:
                    note(f"It waits: {each}.")
                    warned.add(each)
                bar.show(view)
                if has_lines:
                    _write(view, [], is_line=True)
                await asyncio.sleep(LOOK_SECONDS)
                view = await session.operations.view(view.id)
    except (asyncio.CancelledError, QueueUnavailableError):
        note(
            "The operation goes on by itself."
            f"\n  to watch it: python -m app failed operation {view.id} --watch"
            f"\n  to stop it:  python -m app failed operation {view.id} --stop"
        )
        raise
    if has_lines:
        _write(view, [], is_line=True)
    else:
        await _tell(session, view, is_json=is_json)
    if view.state != "finished" or view.failed:
        raise SystemExit(FAILED_STATUS)


async def _tell(session: Session, view: OperationView, *, is_json: bool) -> None:
    warnings = await _warnings(session, view)
    if is_json:
        _write(view, warnings)
        return
    rest = max(0, view.total - view.done - view.failed - view.skipped)
    lines = facts(
        {
            "operation": view.id,
            "state": view.state + _why(view),
            _DONE[view.action]: f"{view.done} of {view.total}",
            "could not be": view.failed or None,
            "gone before": view.skipped or None,
            "left alone" if view.state in ENDED else "to come": rest or None,
            "waits for": ", ".join(view.waits_for),
            "which": detail_text(view.filter),
            "by": view.created_by,
            "warnings": "; ".join(warnings),
        }
    )
    say(*lines)
    if view.state not in ENDED:
        say(cell(f"Watch it: python -m app failed operation {view.id} --watch", "dim"))


def _why(view: OperationView) -> str:
    return "" if view.stopped_by is None else f" by {view.stopped_by}"


def _write(view: OperationView, warnings: list[str], *, is_line: bool = False) -> None:
    write_json(show_operation(view, warnings), is_line=is_line)


async def _warnings(session: Session, view: OperationView) -> list[str]:
    """Why it, or its canaries, cannot go on."""
    if view.state in ENDED:
        return []
    queues = {OPERATIONS_QUEUE, view.queue or OPERATIONS_QUEUE}
    return [each for queue in sorted(queues) for each in await session.views.warnings(queue)]


def _jobs(count: int) -> Literal["job", "jobs"]:
    return "job" if count == 1 else "jobs"
