"""`check`: whether Redis, mail server and storage of this deployment fit, and what to change."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Any

from app.commands.drawing import Line
from app.commands.session import Session, run
from app.commands.terminal import FAILED_STATUS, cell, say, write_json
from app.http.submissions import Terms
from app.queue.errors import QueueUnavailableError
from app.queue.file_store import RedisStorage
from app.queue.fitness import Finding, examine
from app.schedules_file import read_file
from app.settings import Settings
from app.storage import StorageError, open_storage

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "fault": ("✗", "bold red")}


def check(options: argparse.Namespace) -> None:
    """Exit status 0, also with warnings; 1 when a promise would not hold."""

    async def use(session: Session) -> None:
        found = [each async for each in _findings(session)]
        if options.json:
            write_json({"findings": [{"level": each.level, "text": each.text} for each in found]})
        else:
            for each in found:
                mark, style = _MARKS[each.level]
                say(Line.of(Line(f"{mark} ", style), cell(each.text)))
        if any(each.level == "fault" for each in found):
            raise SystemExit(FAILED_STATUS)

    run(use)


async def _findings(session: Session) -> AsyncIterator[Finding]:
    for finding in await _redis(session):
        yield finding
    yield await _mail(session.settings)
    yield await _storage(session)
    for finding in _schedules(session):
        yield finding
    for sentence in session.settings.warnings():
        yield Finding("warning", f"{sentence}.")


async def _redis(session: Session) -> list[Finding]:
    try:
        found = await examine(session.client, session.reachability)
        reasons = await session.capacity.readiness(session.catalog.queues())
    except QueueUnavailableError as error:
        # No promise holds without it; the rest of the deployment is looked at all the same.
        return [Finding("fault", f"{error.reason}.")]
    # What is wrong with Redis has been said; the rest may come with the deployment.
    reasons = [each for each in reasons if not each.startswith("Redis")]
    return [*found, *(Finding("warning", f"{each[0].upper()}{each[1:]}.") for each in reasons)]


def _schedules(session: Session) -> list[Finding]:
    path = session.settings.schedules_file
    if path is None:
        return []
    schedules, faults = read_file(path, Terms.of(session.settings, session.catalog))
    if faults:
        return [Finding("fault", f"{fault}.") for fault in faults]
    return [Finding("ok", f"Schedules in the file: {len(schedules)}.")]


async def _mail(settings: Settings) -> Finding:
    if settings.mail_server_url is None:
        return Finding("warning", "No mail server is configured: e-mails wait and are retried.")
    from jobs.email.smtp import SmtpPool  # noqa: PLC0415 - other commands load no aiosmtplib

    pool: Any = SmtpPool(
        settings.mail_server_url, connections=1, timeout_seconds=settings.smtp_timeout_seconds
    )
    try:
        fault = await pool.probe()
    finally:
        await pool.aclose()
    if fault is not None:
        return Finding("fault", f"The mail server: {fault}.")
    return Finding("ok", "The mail server lets us in.")


async def _storage(session: Session) -> Finding:
    settings = session.settings
    storage = open_storage(
        settings.storage_location,
        settings.s3_access,
        lambda: RedisStorage(session.client, session.reachability, settings.redis_file_limits),
    )
    try:
        await storage.check()
    except StorageError as error:
        return Finding("fault", f"STORAGE_URL: {error}")
    finally:
        await storage.aclose()
    return Finding("ok", "Files can be stored.")
