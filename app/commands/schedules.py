"""`schedules`, `schedules show|run|delete`: what runs again and again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.commands.drawing import Line
from app.commands.pages import page_of, say_page
from app.commands.session import Session, run, who
from app.commands.tables import schedule_table, time_text, when_text
from app.commands.terminal import cell, facts, fail, json_text, say, write_json
from app.http.showing import show_job, show_schedule
from app.queue.errors import ScheduleFromFileError, ScheduleNotFoundError

if TYPE_CHECKING:
    from app.schedule import ScheduleView


def show_all(options: argparse.Namespace) -> None:
    """`python -m app schedules`: in order of name."""

    async def use(session: Session) -> None:
        page = await page_of(session.schedules.page(options.limit, options.cursor))
        if options.json:
            data = [show_schedule(each, _warnings(each)) for each in page.data]
            write_json({"data": data, "next_cursor": page.next_cursor})
        else:
            say_page(
                schedule_table(page.data) if page.data else "There is no schedule.",
                page.next_cursor,
            )

    run(use)


def show(options: argparse.Namespace) -> None:
    """`python -m app schedules show NAME`: with its next five runs."""

    async def use(session: Session) -> None:
        view = await _view(session, options.name)
        if options.json:
            write_json(show_schedule(view, _warnings(view)))
        else:
            _tell(view)

    run(use)


def run_now(options: argparse.Namespace) -> None:
    """`python -m app schedules run NAME`: its job once more, beside its ticks."""
    from app.commands.submission import Desk, refused  # noqa: PLC0415 - slow to load
    from app.http.faults import InvalidRequestError  # noqa: PLC0415
    from app.http.schedule_bodies import tick_job  # noqa: PLC0415
    from app.http.submissions import view_of  # noqa: PLC0415
    from app.queue.records.drafts import new_job_id  # noqa: PLC0415

    async def use(session: Session) -> None:
        schedule = (await _view(session, options.name)).schedule
        desk = Desk(session)
        try:
            draft = tick_job(schedule, desk.terms, desk.origin(), new_job_id())
            await desk.take(draft, schedule.job.get("options"))
        except InvalidRequestError as error:
            refused(error)
        if options.json:
            write_json(show_job(view_of(draft), await session.views.warnings(draft.queue)))
        else:
            say(draft.id)

    run(use)


def delete(options: argparse.Namespace) -> None:
    """`python -m app schedules delete NAME`."""

    async def use(session: Session) -> None:
        try:
            await session.schedules.delete(options.name, who())
        except ScheduleNotFoundError:
            fail(f"There is no schedule {options.name}.")
        except ScheduleFromFileError:
            fail(f"{options.name} stands in SCHEDULES_FILE, and is ended there.")
        if options.json:
            write_json({"name": options.name, "deleted": True})
        else:
            say(cell(f"{options.name}: deleted"))

    run(use)


async def _view(session: Session, name: str) -> ScheduleView:
    try:
        return await session.schedules.view(name)
    except ScheduleNotFoundError:
        fail(f"There is no schedule {name}.")


def _tell(view: ScheduleView) -> None:
    skip = view.last_skip
    named = {
        "schedule": view.schedule.name,
        "when": when_text(view),
        "missed": view.schedule.missed,
        "overlap": view.schedule.overlap,
        "source": view.source,
        "by": view.created_by,
        "changed": time_text(view.updated_at),
        "last skip": None if skip is None else f"{time_text(skip.at)} ({skip.reason})",
        "waits": view.fault,
    }
    say(*facts(named), "", Line("Next runs (UTC)", "bold"))
    say(*(f"  {time_text(at)}" for at in view.next_runs))
    say("", Line("Last runs", "bold"))
    for job_id in view.last_runs:
        say(cell(job_id))
    if not view.last_runs:
        say("  none yet")
    say("", Line("Its job", "bold"), json_text(view.schedule.job))


def _warnings(view: ScheduleView) -> list[str]:
    return [] if view.fault is None else [f"its tick waits: {view.fault}"]
