"""Pieces of the SMTP pool's tests: a mail, a pool, a result at a glance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jobs.email.message import OutgoingEmail
from jobs.email.smtp import SmtpPool
from tests.smtp_server import SmtpServer

SOURCE = b"Subject: hello\r\n\r\nhello\r\n"


def outgoing(*recipients: str, source: bytes = SOURCE, utf8: bool = False) -> OutgoingEmail:
    return OutgoingEmail(
        sender="shop@example.com",
        recipients=recipients or ("ana@example.org",),
        source=source,
        message_id="<1@example.com>",
        needs_smtputf8=utf8,
    )


@asynccontextmanager
async def pool_for(
    server: SmtpServer | str,
    *,
    connections: int = 4,
    timeout_seconds: float = 15.0,
    domain_limit: int | None = None,
    domain_rate: tuple[int, int] | None = None,
) -> AsyncIterator[SmtpPool]:
    url = server if isinstance(server, str) else server.url()
    pool = SmtpPool(
        url, connections=connections, timeout_seconds=timeout_seconds, domain_limit=domain_limit,
        domain_rate=domain_rate,
    )  # fmt: skip
    try:
        yield pool
    finally:
        await pool.aclose()


def statuses(result: Any) -> dict[str, str]:
    return {found["address"]: found["status"] for found in result["recipients"]}
