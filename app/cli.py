"""Operators' commands: `python -m app …`.

What a command needs is loaded once it is the one: `--help` loads nothing of it.
"""

from __future__ import annotations

import argparse
import importlib
import io
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

MOST_LISTED = 200
MOST_PACE = 1000
STATUSES = (
    "queued", "scheduled", "deferred", "started", "finished", "failed", "canceled", "stopped",
)  # fmt: skip
EXIT_STATUSES = (
    "Exit status: 0 done; 1 not done, not found or not well; 2 arguments or settings; 3 Redis"
    " cannot be asked, has no room, or answers what nobody expects; 4 still under way when the"
    " wait was over; 130 Ctrl-C."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit status 2 for one that does not exist, or wrong arguments."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal of few letters cannot show is written out, and ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = new_parser(given[0] if given else None).parse_args(given)
    module, _, function = options.run.partition(".")
    getattr(importlib.import_module(f"app.commands.{module}"), function)(options)


def new_parser(command: str | None = None) -> argparse.ArgumentParser:
    """All that can be typed; behind a command that there is, only what follows it."""
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Operators' commands.", epilog=EXIT_STATUSES
    )
    parser.set_defaults(json=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    adding = {
        "check": _add_check, "status": _add_status, "workers": _add_workers, "audit": _add_audit,
        "queues": _add_queues, "jobs": _add_jobs, "submit": _add_submit, "failed": _add_failed,
        "schedules": _add_schedules, "keys": _add_keys,
    }  # fmt: skip
    # To make all of them takes a tenth of the time that most commands take.
    for name, add in adding.items():
        if command == name or command not in adding:
            add(commands)
    return parser


def _add_check(commands: Any) -> None:
    _command(commands, "check", "checking.check", "whether Redis, mail and storage fit")


def _add_status(commands: Any) -> None:
    status = _command(commands, "status", "looking.status", "how all stands, until Ctrl-C")
    status.add_argument("--once", action="store_true", help="only once")


def _add_workers(commands: Any) -> None:
    _command(commands, "workers", "looking.workers", "who works, and on how much")


def _add_audit(commands: Any) -> None:
    audit = _command(commands, "audit", "looking.audit", "who did what, the latest first")
    _add_page(audit)


def _add_queues(commands: Any) -> None:
    text = "depth, oldest job, rates and workers; hold or empty one"
    group = _group(commands, "queues", text, alone="queues.show_all")
    pause = _command(group, "pause", "queues.pause", "begin nothing more from it")
    resume = _command(group, "resume", "queues.resume", "go on with it")
    empty = _command(group, "empty", "queues.empty", "cancel all that waits in it")
    empty.add_argument("--confirm", metavar="NAME", help="its name again; else you are asked")
    for each in (pause, resume, empty):
        each.add_argument("name", type=_text, metavar="NAME", help="the queue")


def _add_jobs(commands: Any) -> None:
    group = _group(commands, "jobs", "look at jobs, cancel or retry one")
    listed = _command(group, "list", "jobs.list_jobs", "jobs, newest first")
    listed.add_argument("--status", choices=STATUSES, help="only those of this status")
    listed.add_argument("--fingerprint", type=_text, help="only those of this cause")
    _add_filters(listed)
    _add_page(listed)
    shown = _command(group, "show", "jobs.show", "one job, with all that happened to it")
    canceled = _command(group, "cancel", "jobs.cancel", "cancel it, or stop it while it runs")
    retried = _command(group, "retry", "jobs.retry", "run a failed or stopped one again")
    retried.add_argument("--params", metavar="JSON", help="in place of its own: JSON, @file or -")
    retried.add_argument("--options", metavar="JSON", help="likewise, all of them")
    retried.set_defaults(parser=retried)
    for each in (shown, canceled, retried):
        each.add_argument("id", type=_text, metavar="ID", help="the job's id")


def _add_submit(commands: Any) -> None:
    submit = _command(commands, "submit", "submission.submit", "hand in a job; prints its id")
    submit.add_argument("type", type=_text, metavar="TYPE", help="such as log.write, email.send")
    submit.add_argument(
        "--params", metavar="JSON", default="{}", help="JSON, @file or - (default: {})"
    )
    submit.add_argument("--options", metavar="JSON", default="{}", help="likewise: delay, tags …")
    submit.add_argument(
        "--wait", type=_seconds, nargs="?", const=float("inf"), metavar="SECONDS",
        help="until it has ended; 0 only if it is finished then",
    )  # fmt: skip
    submit.set_defaults(parser=submit)


def _add_failed(commands: Any) -> None:
    group = _group(commands, "failed", "failed jobs by cause: look, retry, discard")
    listed = _command(group, "list", "failures.show_all", "causes, that which came last first")
    _add_page(listed)
    shown = _command(group, "show", "failures.show", "one cause, and what to type next")
    shown.add_argument("fingerprint", type=_text, metavar="FINGERPRINT", help="of the list")
    retried = _command(group, "retry", "operations.retry", "run them again")
    retried.add_argument(
        "--canary", action="store_true", help="one, ten, then the rest; stops when it comes back"
    )
    discarded = _command(group, "discard", "operations.discard", "remove them for good")
    for each in (retried, discarded):
        _add_selecting(each)
    text = "retries and discards of the last 30 days, newest first"
    _add_page(_command(group, "operations", "operations.show_all", text))
    text = "how a retry or discard goes; pause, resume or stop it"
    operation = _command(group, "operation", "operations.show", text)
    operation.add_argument("id", type=_text, metavar="ID", help="the operation's id")
    acts = operation.add_mutually_exclusive_group()
    for name in ("pause", "resume", "stop"):
        acts.add_argument(f"--{name}", dest="act", action="store_const", const=name)
    operation.add_argument("--watch", action="store_true", help="until it has ended")


def _add_selecting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "fingerprint", type=_text, nargs="?", metavar="FINGERPRINT", help="those of this cause"
    )
    parser.add_argument("--all", action="store_true", help="all that have failed")
    _add_filters(parser)
    parser.add_argument("--pace", type=_pace, metavar="N", help="jobs a second, at most")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--no-wait", action="store_true", help="only begin")
    parser.set_defaults(parser=parser)


def _add_schedules(commands: Any) -> None:
    group = _group(
        commands, "schedules", "what runs again and again", alone="schedules.show_all"
    )  # fmt: skip
    _add_page(_command(group, "list", "schedules.show_all", "in order of name"))
    shown = _command(group, "show", "schedules.show", "one, with its next and last runs")
    ran = _command(group, "run", "schedules.run_now", "submit its job once, now")
    deleted = _command(group, "delete", "schedules.delete", "end it; its jobs stay")
    for each in (shown, ran, deleted):
        each.add_argument("name", type=_text, metavar="NAME", help="the schedule")


def _add_keys(commands: Any) -> None:
    group = _group(commands, "keys", "API keys")
    new = _command(group, "new", "keys.new", "make a key, and the line for API_KEYS")
    new.add_argument("name", help="whose key it is; shown in trails and logs")
    new.add_argument(
        "--scopes",
        default="submit,read",
        metavar="submit,read",
        help="what it may do: submit, read, operate (default: %(default)s)",
    )
    new.set_defaults(parser=new)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    for name in ("type", "queue", "error", "batch"):
        parser.add_argument(f"--{name}", type=_text, help=f"only those of this {name}")
    parser.add_argument("--tag", type=_tag, metavar="KEY:VALUE", help="only those with this tag")
    for name in ("after", "before"):
        parser.add_argument(f"--created-{name}", type=_time, metavar="TIME", help="RFC 3339")


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_limit, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--cursor", type=_text, help="go on behind that page")


def _group(commands: Any, name: str, text: str, alone: str | None = None) -> Any:
    """`alone` is run where no command of the group follows."""
    parser = commands.add_parser(name, help=text, description=text)
    if alone is not None:
        _add_json(parser)
        parser.set_defaults(run=alone, limit=MOST_LISTED, cursor=None)
    return parser.add_subparsers(required=alone is None, metavar="COMMAND")


def _command(commands: Any, name: str, run: str, text: str) -> argparse.ArgumentParser:
    """`run` is a module of app/commands and its function."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    _add_json(parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    # Not given here, it may have been given to the group.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="JSON, for programs"
    )


def _limit(text: str) -> int:
    if re.fullmatch(r"\d{1,3}", text) is None or not 1 <= int(text) <= MOST_LISTED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_LISTED}")
    return int(text)


def _text(text: str) -> str:
    if re.search("[\ud800-\udfff]", text) is not None:
        raise argparse.ArgumentTypeError("is not UTF-8")
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _tag(text: str) -> tuple[str, str]:
    key, colon, value = _text(text).partition(":")
    if not key or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not key:value")
    return key, value


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        sentence = f"{text!r} is no time with its zone, like 2030-01-31T12:00:00Z"
        raise argparse.ArgumentTypeError(sentence)
    return at


def _pace(text: str) -> float:
    return _number(text, MOST_PACE)


def _seconds(text: str) -> float:
    return _number(text, 10**9)


def _number(text: str, most: int) -> float:
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text) is None or not 0 < float(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, {most} at most")
    return float(text)
