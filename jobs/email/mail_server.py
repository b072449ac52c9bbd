"""Which mail server, and how it is spoken to: the parts of `SMTP_URL`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

# implicit: TLS from the first octet. offered: STARTTLS when the server offers it.
Security = Literal["implicit", "required", "offered", "none"]
# A password may have a comma of its own.
_BETWEEN = re.compile(r",(?=\s*smtps?://)")
SMTPS_PORT, SUBMISSION_PORT, RELAY_PORT = 465, 587, 25


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server as configured. Its text form, `host:port`, has no secret."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse_all(cls, urls: str) -> list[MailServer]:
        """One or several with commas between them, the first choice first."""
        return [cls.parse(url.strip()) for url in _BETWEEN.split(urls)]

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """Parse `smtp://user:password@host:587?tls=required|none` or `smtps://…`.

        User and password are percent-decoded. Raises ValueError, without the password.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise ValueError("a mail server is smtp://user:password@host:port or smtps://…")
        username = unquote(parts.username) if parts.username else None
        default_port = SUBMISSION_PORT if username is not None else RELAY_PORT
        if parts.scheme == "smtps":
            default_port = SMTPS_PORT
        return cls(
            host=parts.hostname,
            port=parts.port if parts.port is not None else default_port,
            security=_security(parts.scheme, parts.query),
            username=username,
            password=unquote(parts.password) if parts.password else "",
        )


def _security(scheme: str, query: str) -> Security:
    options = dict(parse_qsl(query, keep_blank_values=True))
    tls = options.pop("tls", None)
    if options:
        raise ValueError("the only option of a mail server's URL is tls=required or tls=none")
    if scheme == "smtps":
        if tls not in {None, "required"}:
            raise ValueError("smtps:// always uses TLS; leave tls= out")
        return "implicit"
    match tls:
        case None:
            return "offered"
        case "required":
            return "required"
        case "none":
            return "none"
    raise ValueError("tls= is required or none; without it, STARTTLS when offered")
