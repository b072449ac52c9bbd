"""An e-mail that is built, checked against what is remembered, and shown; nobody gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.context import JobContext
from jobs.email.attempts import send_to_remaining, without_reply
from jobs.email.message import OutgoingEmail
from jobs.errors import PermanentError

# A larger source is a file, not part of the job's record.
MAX_SHOWN_BYTES = 64 * 1024
ARTIFACT = "message.eml"


async def rehearse(email: OutgoingEmail, context: JobContext) -> dict[str, Any]:
    """The result as it would be, but that those who would be asked stay `pending`.

    With the mail's `source`, or null and an artifact. Raises PermanentError where all are
    suppressed.
    """
    shown: dict[str, Any] = {"dry_run": True, "size_bytes": email.size_bytes, "source": None}
    if email.size_bytes <= MAX_SHOWN_BYTES:
        shown["source"] = await _source(email)
    try:
        result = await send_to_remaining(email, replace(context, mail=NoWire()))
    except PermanentError as error:
        error.result |= shown
        raise
    if shown["source"] is None:
        await _write(email, context.new_artifact(ARTIFACT, "message/rfc822"))
    return result | shown


class NoWire:
    """A mail server that is never asked."""

    async def send(
        self,
        email: OutgoingEmail,
        before_handover: Callable[[list[str]], Awaitable[None]] | None = None,
        within_seconds: float | None = None,
    ) -> dict[str, Any]:
        waiting = [without_reply(address, "pending") for address in email.recipients]
        return {"message_id": email.message_id, "recipients": waiting, "server": None}


async def _source(email: OutgoingEmail) -> str:
    async with aclosing(email.chunks()) as chunks:
        return b"".join([chunk async for chunk in chunks]).decode()


async def _write(email: OutgoingEmail, path: Path) -> None:
    file = await asyncio.to_thread(path.open, "wb")
    with file:
        async with aclosing(email.chunks()) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
