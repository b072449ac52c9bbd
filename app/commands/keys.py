"""`keys new`: an API key for its owner, and its digest for the settings."""

from __future__ import annotations

import argparse
import json
import secrets
import sys

from app.keyring import SCOPES, ApiKey, digest_of

KEY_BYTES = 32


def new(options: argparse.Namespace) -> None:
    """`python -m app keys new NAME`: asks nobody, and keeps nothing."""
    scopes = [scope.strip() for scope in options.scopes.split(",") if scope.strip()]
    if not scopes or not set(scopes) <= SCOPES:
        options.parser.error("--scopes takes submit, read and operate, separated by commas")
    secret = secrets.token_urlsafe(KEY_BYTES)
    entry = f"{options.name}:{'+'.join(dict.fromkeys(scopes))}:{digest_of(secret)}"
    try:
        ApiKey.parse_list(entry)
    except ValueError as error:
        options.parser.error(str(error))
    if options.json:
        sys.stdout.write(json.dumps({"key": secret, "entry": entry}) + "\n")
        return
    sys.stdout.write(
        f"The key, for its owner only; it is not kept anywhere:\n\n  {secret}\n\n"
        f"Add to API_KEYS, with a comma where others stand already:\n\n  {entry}\n"
    )
