"""The application's users; in memory, as this is an example."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

MIN_PASSWORD = 8


class TakenError(Exception):
    """The address has an account already."""


@dataclass(slots=True)
class User:
    """`password_digest` is unguessable from the start, so that tokens can be signed over it."""

    email: str
    name: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    password_digest: str = field(default_factory=lambda: secrets.token_hex(32))

    def set_password(self, password: str) -> None:
        salt = secrets.token_bytes(16)
        digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
        self.password_digest = f"{salt.hex()}${digest.hex()}"


class Users:
    """By id, and by address without regard to case."""

    def __init__(self) -> None:
        self._by_id: dict[str, User] = {}
        self._by_email: dict[str, User] = {}

    def add(self, email: str, name: str) -> User:
        """Raises TakenError."""
        user = User(email.strip(), name)
        if self._by_email.setdefault(user.email.lower(), user) is not user:
            raise TakenError
        self._by_id[user.id] = user
        return user

    def remove(self, user: User) -> None:
        del self._by_email[user.email.lower()]
        del self._by_id[user.id]

    def find(self, email: str) -> User | None:
        return self._by_email.get(email.strip().lower())

    def get(self, user_id: str) -> User | None:
        return self._by_id.get(user_id)
