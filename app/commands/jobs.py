"""`jobs list|show|cancel`: single jobs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from app.commands.session import Session, fail, run, who, write_json
from app.commands.tables import console, job_table
from app.http.showing import show_event, show_job
from app.queue.errors import BadCursorError, JobEndedError, JobNotFoundError
from app.queue.records import Event, JobFilter, JobView


def list_jobs(options: argparse.Namespace) -> None:
    """`python -m app jobs list`: newest first."""
    wanted = JobFilter(
        status=options.status,
        type=options.type,
        queue=options.queue,
        error=options.error,
        fingerprint=options.fingerprint,
        batch_id=options.batch,
    )

    async def use(session: Session) -> None:
        try:
            page = await session.views.jobs(wanted, options.limit, options.cursor)
        except BadCursorError:
            fail("--cursor takes what the page before ended with.")
        if options.json:
            data = [show_job(view, []) for view in page.jobs]
            write_json({"data": data, "next_cursor": page.next_cursor})
            return
        out = console()
        out.print(job_table(page.jobs) if page.jobs else "No such job.")
        if page.next_cursor is not None:
            out.print(f"There are more: --cursor {page.next_cursor}", style="dim")

    run(use)


def show(options: argparse.Namespace) -> None:
    """`python -m app jobs show ID`: all that is known of it, but for its params."""

    async def use(session: Session) -> None:
        view = await session.views.job(options.id)
        trail = await session.views.trail(options.id)
        if view is None or trail is None:
            fail(f"There is no job {options.id}.")
        warnings = await session.views.warnings(view.queue) if view.ended_at is None else []
        if options.json:
            shown = show_job(view, warnings, {"traceback"})
            write_json(shown | {"trail": [show_event(each) for each in trail]})
            return
        out = console()
        for line in _lines(view, warnings):
            out.print(line)
        out.print(Text("\nWhat happened", "bold"))
        for event in trail:
            out.print(_line_of(event))
        if view.traceback:
            out.print(Text("\nTraceback", "bold"))
            out.print(Text(view.traceback))

    run(use)


def cancel(options: argparse.Namespace) -> None:
    """`python -m app jobs cancel ID`: before it runs; while it does, it is asked to stop."""

    async def use(session: Session) -> None:
        try:
            done = await session.control.cancel(options.id, who())
        except JobNotFoundError:
            fail(f"There is no job {options.id}.")
        except JobEndedError as error:
            fail(f"Job {options.id} is {error.status} already.")
        if options.json:
            write_json({"id": options.id, "status": done})
        else:
            console().print(f"{options.id}: {done}")

    run(use)


def _lines(view: JobView, warnings: list[str]) -> Iterator[Text]:
    facts: dict[str, Any] = {
        "job": view.id,
        "type": view.type,
        "queue": f"{view.queue}, priority {view.priority}",
        "status": view.status + (f" ({view.reason})" if view.reason else ""),
        "attempt": f"{view.attempt} of {view.max_attempts}",
        "position": view.position,
        "created": view.created_at,
        "scheduled": view.scheduled_at,
        "next attempt": view.next_attempt_at,
        "started": view.started_at,
        "ended": view.ended_at,
        "submitted by": view.submitted_by,
        "request": view.request_id,
        "batch": view.batch_id,
        "depends on": ", ".join(view.parent_ids),
        "tags": ", ".join(f"{key}:{value}" for key, value in view.tags.items()),
        "error": None if view.error is None else f"{view.error.code}: {view.error.message}",
        "warnings": "; ".join(warnings),
    }
    for name, value in facts.items():
        if value not in {None, ""}:
            yield Text.assemble((f"{name:>13}  ", "dim"), str(value))


def _line_of(event: Event) -> Text:
    detail = " ".join(f"{name}={value}" for name, value in event.detail.items())
    return Text.assemble((f"{event.at:%Y-%m-%d %H:%M:%S.%f} ", "dim"), event.name, f" {detail}")
