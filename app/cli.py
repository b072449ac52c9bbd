"""Operators' commands: `python -m app …`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from app.queue.records import Status

MOST_LISTED = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit status 2 for one that does not exist, or wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m app", description="Operators' commands.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_looking(commands)
    _add_jobs(commands)
    _add_keys(commands)
    options = parser.parse_args(arguments)
    options.run(options)


def _add_looking(commands: Any) -> None:
    from app.commands import checking, looking  # noqa: PLC0415 - `keys` needs no Redis

    check = _command(commands, "check", checking.check, "whether Redis, mail and storage fit")
    status = _command(commands, "status", looking.status, "how all stands, until Ctrl-C")
    status.add_argument("--once", action="store_true", help="only once")
    queues = _command(commands, "queues", looking.queues, "depth, oldest job, rates and workers")
    workers = _command(commands, "workers", looking.workers, "who works, and on how much")
    for each in (check, status, queues, workers):
        _add_json(each)


def _add_jobs(commands: Any) -> None:
    from app.commands import jobs  # noqa: PLC0415

    group = _group(commands, "jobs", "look at jobs, cancel one")
    listed = _command(group, "list", jobs.list_jobs, "jobs, newest first")
    listed.add_argument("--status", choices=get_args(Status), help="only those of this status")
    for name in ("type", "queue", "error", "fingerprint", "batch"):
        listed.add_argument(f"--{name}", help=f"only those of this {name}")
    listed.add_argument("--limit", type=_limit, default=20, help="how many (default: %(default)s)")
    listed.add_argument("--cursor", help="go on behind that page")
    shown = _command(group, "show", jobs.show, "one job, with all that happened to it")
    canceled = _command(group, "cancel", jobs.cancel, "cancel it, or stop it while it runs")
    for each in (shown, canceled):
        each.add_argument("id", help="the job's id")
    for each in (listed, shown, canceled):
        _add_json(each)


def _add_keys(commands: Any) -> None:
    from app.commands import keys  # noqa: PLC0415

    group = _group(commands, "keys", "API keys")
    new = _command(group, "new", keys.new, "make a key, and the line for API_KEYS")
    new.add_argument("name", help="whose key it is; shown in trails and logs")
    new.add_argument(
        "--scopes",
        default="submit,read",
        metavar="submit,read",
        help="what it may do: submit, read, operate (default: %(default)s)",
    )
    new.set_defaults(parser=new)
    _add_json(new)


def _group(commands: Any, name: str, text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON, for programs")


def _limit(text: str) -> int:
    if re.fullmatch(r"\d{1,3}", text) is None or not 1 <= int(text) <= MOST_LISTED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_LISTED}")
    return int(text)
