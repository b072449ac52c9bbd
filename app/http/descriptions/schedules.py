"""What schedules are, and how they are written."""

from __future__ import annotations

from app.http import schedule_shapes as shapes
from app.http.descriptions.parts import QUEUE, Description, Reply, json_body

_JOB = {"type": "log.write", "params": {"message": "Good morning"}}
_BODY = {
    "cron": "0 6 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "job": _JOB,
    "missed": "run_once",
}
_EXAMPLES = {
    "cron": {"summary": "At six on workdays", "value": {"name": "good-morning"} | _BODY},
    "interval": {
        "summary": "Every ten minutes",
        "value": {"name": "heartbeat", "interval": 600, "job": _JOB},
    },
}
_RULES = (
    "Each tick becomes one job, over any number of workers and crashes. It is submitted by the key"
    " that wrote the schedule, and has the tag `schedule` with its name. `cron` has five fields,"
    " in `time_zone`: numbers, names, ranges, lists, steps, and `L`, `LW`, `5L`, `MON#2`. A time"
    " that a change of clocks leaves out comes once, at the end of the gap; one that comes twice"
    " runs once, the first time; with the hour `*` ticks go on through both. If both days are"
    " given, one of them suffices. `interval` counts from when it was set and does not drift."
    " A tick more than 60 s late was missed: `missed` says whether one job makes up for all of"
    " those. `overlap` says whether a tick is skipped while the job before has not ended."
)
_WRITING = ("schedule-from-file", "too-many-schedules", *QUEUE)

SCHEDULES: dict[tuple[str, str], Description] = {
    ("GET", "/v1/schedules"): Description(
        "listSchedules", "schedules", "List schedules", "In order of name.",
        {200: Reply("A page.", shapes.SchedulePage, headers=("Link",))},
        parameters=("limit", "cursor"), problems=QUEUE,
    ),
    ("POST", "/v1/schedules"): Description(
        "createSchedule", "schedules", "Make a schedule", _RULES,
        {201: Reply("It waits for its first tick.", shapes.Schedule, headers=("Location",),
                    links=("schedule", "delete_schedule"))},
        problems=("schedule-exists", "too-many-schedules", *QUEUE),
        body=json_body("NewSchedule", _EXAMPLES),
    ),
    ("GET", "/v1/schedules/{name}"): Description(
        "showSchedule", "schedules", "Show a schedule",
        "With its next five ticks, and the jobs of the last twenty.",
        {200: Reply("As it stands.", shapes.Schedule)},
        parameters=("schedule",), problems=QUEUE,
    ),
    ("PUT", "/v1/schedules/{name}"): Description(
        "replaceSchedule", "schedules", "Make or replace a schedule",
        "As a whole: what is absent has its default. While its times stay the same, the tick that"
        " it waits for does, too; its last runs stay in any case.",
        {200: Reply("It is replaced.", shapes.Schedule),
         201: Reply("It was not there before.", shapes.Schedule, headers=("Location",))},
        parameters=("schedule",), problems=_WRITING,
        body=json_body("WrittenSchedule", {"cron": {"value": _BODY}}),
    ),
    ("DELETE", "/v1/schedules/{name}"): Description(
        "deleteSchedule", "schedules", "Delete a schedule", "Its jobs stay as they are.",
        {204: Reply("It is gone.")},
        parameters=("schedule",), problems=("schedule-from-file", *QUEUE),
    ),
}  # fmt: skip
