"""The schedules that whoever runs the service has written into a file, and their ticks' jobs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.http.faults import InvalidRequestError
from app.http.schedule_bodies import read_schedule, tick_job
from app.http.submissions import Origin, Terms
from app.schedule import FILE_KEY, Schedule
from app.settings import Settings, refuse
from jobs.catalog import Catalog

if TYPE_CHECKING:
    from app.queue.records.drafts import JobDraft
    from app.queue.ticking import Run

SETTING = "SCHEDULES_FILE"
# Where a job's maker is asked for one that no request has asked for.
NO_REQUEST = "schedules-file"


def declared_in(settings: Settings, catalog: Catalog) -> list[Schedule] | None:
    """What the file of the settings says, None without one; or print all that is wrong with it
    and exit.
    """
    if settings.schedules_file is None:
        return None
    schedules, faults = read_file(settings.schedules_file, Terms.of(settings, catalog))
    return refuse(faults) if faults else schedules


def read_file(path: Path, terms: Terms) -> tuple[list[Schedule], list[str]]:
    """What stands in it, and all that is wrong with it, as sentences. JSON, else TOML:
    `schedules` is a list, each as POST /v1/schedules takes it.
    """
    try:
        text = path.read_text("utf-8")
        body = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        return [], [f"{SETTING}: cannot be read: {error.strerror}"]
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError, TOMLDecodeError
        return [], [f"{SETTING}: cannot be read: {error}"]
    entries = body.get("schedules", []) if isinstance(body, dict) else None
    if not isinstance(entries, list) or set(body) - {"schedules"}:
        return [], [f"{SETTING}: must hold a list of schedules, and nothing else"]
    return _read_entries(entries, terms)


def job_maker(terms: Terms) -> Callable[[Run], JobDraft]:
    """Makes the jobs of ticks, checked as submissions are."""

    def make(run: Run) -> JobDraft:
        request_id = run.request_id if run.request_id is not None else NO_REQUEST
        return tick_job(run.schedule, terms, Origin(run.by, request_id, run.at), run.job_id)

    return make


def _read_entries(entries: list[Any], terms: Terms) -> tuple[list[Schedule], list[str]]:
    schedules: list[Schedule] = []
    faults: list[str] = []
    origin = Origin(FILE_KEY, NO_REQUEST, datetime.now(UTC))
    for index, entry in enumerate(entries):
        try:
            schedule = read_schedule(entry, terms, origin)
        except InvalidRequestError as error:
            faults += [
                f"{SETTING}: /schedules/{index}{fault.pointer}: {fault.detail}"
                for fault in error.faults
            ]
            continue
        if schedule.name in {each.name for each in schedules}:
            faults.append(f"{SETTING}: /schedules/{index}/name: is there twice")
        schedules.append(schedule)
    return schedules, faults
