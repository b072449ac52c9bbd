"""`failed list|show`: what failed for good, by cause."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from app.commands.drawing import Line
from app.commands.pages import page_of, say_page
from app.commands.session import Session, run
from app.commands.tables import failure_table, job_table, time_text
from app.commands.terminal import advice, facts, fail, say, write_json
from app.http.showing import show_group, show_job
from jobs.errors import CODES

if TYPE_CHECKING:
    from app.queue.records.failed import FailureGroup
    from app.queue.records.views import JobView


def show_all(options: argparse.Namespace) -> None:
    """`python -m app failed list`: that which failed last first."""

    async def use(session: Session) -> None:
        page = await page_of(session.failures.page(options.limit, options.cursor))
        if options.json:
            data = [show_group(group) for group in page.data]
            write_json({"data": data, "next_cursor": page.next_cursor})
        else:
            say_page(
                failure_table(page.data) if page.data else "Nothing has failed for good.",
                page.next_cursor,
                "One of them: python -m app failed show FINGERPRINT" if page.data else None,
            )

    run(use)


def show(options: argparse.Namespace) -> None:
    """`python -m app failed show FINGERPRINT`: one cause, some of its jobs, and what to do."""

    async def use(session: Session) -> None:
        group = await session.failures.group(options.fingerprint)
        if group is None:
            fail(f"Nothing that has failed has the cause {options.fingerprint}.")
        samples = [await session.views.job(job_id) for job_id in group.samples]
        jobs = [view for view in samples if view is not None]
        if options.json:
            _write(group, jobs)
        else:
            _tell(group, jobs)

    run(use)


def _write(group: FailureGroup, jobs: list[JobView]) -> None:
    code = _code(jobs)
    error: dict[str, Any] = {"code": code, "meaning": CODES.get(code or "")}
    shown = show_group(group)
    shown["error"] = {**error, "class": group.error_class, "message": group.message}
    write_json(shown | {"jobs": [show_job(view, []) for view in jobs]})


def _tell(group: FailureGroup, jobs: list[JobView]) -> None:
    code = _code(jobs)
    trend = group.trend
    lines = facts(
        {
            "cause": group.fingerprint,
            "state": "it had been cleared, and came back" if group.is_regressed else "open",
            "jobs": group.count,
            "failures": f"{trend['1h']} in 1 h, {trend['24h']} in 24 h, {trend['7d']} in 7 d",
            "first seen": time_text(group.first_seen),
            "last seen": time_text(group.last_seen),
            "type": group.type,
            "queue": group.queue,
            "error": f"{group.error_class}: {group.message}",
            "code": None
            if code is None
            else f"{code}: {CODES.get(code, 'of the job type itself')}",
        }
    )
    say(*lines, "", Line("The last that failed of it", "bold"), job_table(jobs))
    say("", Line("What to type", "bold"), *advice(_next(group)))


def _next(group: FailureGroup) -> list[tuple[str, str]]:
    cause = group.fingerprint
    lines = [
        (f"python -m app failed retry {cause} --canary", "once it is mended: one, ten, the rest"),
        (f"python -m app failed discard {cause}", "when they shall not run any more"),
        (f"python -m app queues pause {group.queue}", "to spare the attempts of those that wait"),
    ]
    if group.samples:
        job = group.samples[0]
        lines.insert(0, (f"python -m app jobs show {job}", "all that happened to the last of them"))
        lines.append((f"python -m app jobs retry {job} --params @FILE", "one, with other params"))
    return lines


def _code(jobs: list[JobView]) -> str | None:
    return next((view.error.code for view in jobs if view.error is not None), None)
