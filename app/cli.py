"""Operators' commands: `python -m app keys new NAME`."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from app.keyring import SCOPES, ApiKey, digest_of

KEY_BYTES = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Exit status 2 for one that does not exist, or wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m app", description="Operators' commands.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    keys = commands.add_parser("keys", help="API keys").add_subparsers(
        required=True, metavar="COMMAND"
    )
    new = keys.add_parser("new", help="make a key, and the line for API_KEYS")
    new.add_argument("name", help="whose key it is; shown in trails and logs")
    new.add_argument(
        "--scopes",
        default="submit,read",
        metavar="submit,read",
        help="what it may do: submit, read, operate (default: %(default)s)",
    )
    new.set_defaults(run=_new_key)
    options = parser.parse_args(arguments)
    options.run(parser, options)


def _new_key(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    scopes = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
    if not scopes or not set(scopes) <= SCOPES:
        parser.error("--scopes takes submit, read and operate, separated by commas")
    secret = secrets.token_urlsafe(KEY_BYTES)
    entry = f"{options.name}:{'+'.join(dict.fromkeys(scopes))}:{digest_of(secret)}"
    try:
        ApiKey.parse_list(entry)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(
        f"The key, for its owner only; it is not kept anywhere:\n\n  {secret}\n\n"
        f"Add to API_KEYS, with a comma where others stand already:\n\n  {entry}\n"
    )
