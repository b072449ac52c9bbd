"""API keys: who may do what. Only digests are kept, and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, cast, get_args

Scope = Literal["submit", "read", "operate"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ApiKey(NamedTuple):
    """One key as the settings know it: `name:scope+scope:sha256-hex`."""

    name: str
    scopes: frozenset[Scope]
    digest: str

    @classmethod
    def parse_list(cls, text: str) -> list[ApiKey]:
        """Parse a comma-separated list. Raises ValueError naming the entry, never its digest."""
        keys = [cls._parse(entry.strip()) for entry in text.split(",") if entry.strip()]
        names = [key.name for key in keys]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the name {name!r} stands twice")
        return keys

    @classmethod
    def _parse(cls, entry: str) -> ApiKey:
        parts = entry.split(":")
        if len(parts) != 3:
            raise ValueError("each key is name:scope+scope:sha256-hex, separated by commas")
        name, scopes, digest = parts
        if _NAME.fullmatch(name) is None:
            raise ValueError("a key's name has letters, digits, '_', '.', '-', 64 at most")
        found = set(scopes.split("+"))
        if not found or not found <= SCOPES:
            raise ValueError(f"key {name!r}: scopes are submit, read and operate, joined by '+'")
        if _DIGEST.fullmatch(digest.lower()) is None:
            raise ValueError(f"key {name!r}: the third part is the key's SHA-256 in hex")
        return cls(name, frozenset(cast("set[Scope]", found)), digest.lower())


# Who asks when no keys are configured: anyone on this machine, for development.
LOCAL_KEY = ApiKey("local", frozenset({"submit", "read", "operate"}), "")


def digest_of(secret: str) -> str:
    """What is kept of a key: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Keyring:
    """Finds the key that a client presents."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, presented: str) -> ApiKey | None:
        """The key whose digest fits, or None. Looks at every key: time tells nothing."""
        digest = digest_of(presented)
        match = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                match = key
        return match

    def named(self, name: str) -> ApiKey | None:
        """The key of that name, or None: for a session that was signed in earlier."""
        return next((key for key in self._keys if key.name == name), None)
