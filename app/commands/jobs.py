"""`jobs list|show|cancel|retry`: single jobs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from app.commands.drawing import Line
from app.commands.pages import page_of, say_page
from app.commands.session import Session, run, who
from app.commands.tables import detail_text, job_table
from app.commands.terminal import cell, facts, fail, say, write_json
from app.http.showing import show_event, show_job
from app.queue.errors import (
    JobEndedError,
    JobNotFailedError,
    JobNotFoundError,
    TooManyUploadsError,
    UnknownParentError,
)
from app.queue.records.views import Event, JobFilter, JobView, Page

if TYPE_CHECKING:
    from app.commands.submission import Desk
    from app.queue.records.drafts import Edit

MOST_BYTES = 1024 * 1024
# What a filter seeks may be rare: so many pages without any are passed.
MOST_EMPTY = 2


def list_jobs(options: argparse.Namespace) -> None:
    """`python -m app jobs list`: newest first."""
    wanted = JobFilter(
        status=options.status,
        type=options.type,
        queue=options.queue,
        error=options.error,
        fingerprint=options.fingerprint,
        batch_id=options.batch,
        tag=options.tag,
        created_after=options.created_after,
        created_before=options.created_before,
    )

    async def use(session: Session) -> None:
        page = await page_of(_first_page(session, wanted, options.limit, options.cursor))
        if options.json:
            data = [show_job(view, []) for view in page.jobs]
            write_json({"data": data, "next_cursor": page.next_cursor})
        else:
            none = "No such job." if page.next_cursor is None else "No such job so far."
            say_page(job_table(page.jobs) if page.jobs else none, page.next_cursor)

    run(use)


async def _first_page(session: Session, wanted: JobFilter, limit: int, cursor: str | None) -> Page:
    """The first one that has any; an empty one with a cursor when so many had none.

    Raises BadCursorError.
    """
    for _ in range(MOST_EMPTY):
        page = await session.views.jobs(wanted, limit, cursor)
        cursor = page.next_cursor
        if page.jobs or cursor is None:
            break
    return page


def show(options: argparse.Namespace) -> None:
    """`python -m app jobs show ID`: all that is known of it; its params only with `--json`."""

    async def use(session: Session) -> None:
        view = await session.views.job(options.id)
        trail = await session.views.trail(options.id)
        if view is None or trail is None:
            fail(f"There is no job {options.id}.")
        warnings = await session.views.warnings(view.queue) if view.ended_at is None else []
        if options.json:
            shown = show_job(view, warnings, {"params", "traceback"})
            write_json(shown | {"trail": [show_event(each) for each in trail]})
            return
        say(*facts(_facts(view, warnings)), "", Line("What happened", "bold"))
        say(*map(_line_of, trail))
        if view.traceback:
            say("", Line("Traceback", "bold"), view.traceback)

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
            say(cell(f"{options.id}: {done}"))

    run(use)


def retry(options: argparse.Namespace) -> None:
    """`python -m app jobs retry ID`: as it is, or with other params or options."""
    from app.commands.submission import Desk, json_object, refused  # noqa: PLC0415 - slow to load
    from app.http.faults import InvalidRequestError  # noqa: PLC0415
    from app.storage import StorageError  # noqa: PLC0415

    given = [name for name in ("params", "options") if getattr(options, name) is not None]
    body = {name: json_object(options, name) for name in given}

    async def use(session: Session) -> None:
        try:
            await _retry(Desk(session), options.id, body)
        except InvalidRequestError as error:
            refused(error)
        except JobNotFoundError:
            fail(f"There is no job {options.id}.")
        except JobNotFailedError as error:
            sentence = f"Job {options.id} is {error.status}: only a failed or stopped one can be"
            fail(f"{sentence} retried.")
        except (StorageError, TooManyUploadsError) as error:
            fail(f"Nothing was changed: {error}")
        view = await session.views.job(options.id)
        if view is None:
            fail(f"Job {options.id} has been retried, and is gone since.")
        if options.json:
            write_json(show_job(view, await session.views.warnings(view.queue)))
        else:
            say(cell(f"{view.id}: {view.status}"))

    run(use)


async def _retry(desk: Desk, job_id: str, body: dict[str, Any]) -> None:
    from app.http.edits import RETRYABLE, Edits, refused_parent  # noqa: PLC0415

    view = await desk.session.views.job(job_id)
    if view is None:
        raise JobNotFoundError(job_id)
    if view.status not in RETRYABLE:
        raise JobNotFailedError(view.status)
    edits = Edits(desk.terms, desk.files, desk.links)
    edit: Edit | None = await edits.read(view, body, desk.key, desk.request_id)
    try:
        await desk.session.control.retry(job_id, desk.key.name, edit)
    except UnknownParentError as error:
        assert edit is not None
        raise refused_parent(error, edit, body) from None


def _facts(view: JobView, warnings: list[str]) -> dict[str, object]:
    return {
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


def _line_of(event: Event) -> Line:
    at = f"{event.at:%Y-%m-%d %H:%M:%S.%f} "
    return Line.of(Line(at, "dim"), cell(f"{event.name} {detail_text(event.detail)}"))
