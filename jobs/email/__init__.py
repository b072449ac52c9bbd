"""`email.send`: one e-mail to a mail server, retried only for those who have not got it."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from jobs.catalog import job
from jobs.context import JobContext
from jobs.email.attachments import find
from jobs.email.attempts import send_to_remaining
from jobs.email.message import OutgoingEmail, build
from jobs.email.params import EmailParams

MAX_DRY_RUN_SOURCE = 64 * 1024


@job("email.send", queue="email", max_attempts=8, timeout=60.0)
async def send(params: EmailParams, context: JobContext) -> dict[str, Any]:
    """Send one e-mail. The result has its Message-ID and the server's reply for each recipient."""
    params = params.written()
    attached = await find(params.attachments or (), context.files)
    email = build(params, context.job_id, datetime.now(UTC), attached)
    if context.dry_run:
        return await _describe(email)
    return await send_to_remaining(email, context, once=params.is_sent_once)


async def _describe(email: OutgoingEmail) -> dict[str, Any]:
    """What would have been sent; a long source only from its beginning."""
    source = bytearray()
    async with aclosing(email.chunks()) as chunks:
        async for chunk in chunks:
            source += chunk[: MAX_DRY_RUN_SOURCE - len(source)]
            if len(source) == MAX_DRY_RUN_SOURCE:
                break
    return {
        "dry_run": True,
        "message_id": email.message_id,
        "recipients": list(email.recipients),
        "size_bytes": email.size_bytes,
        "source": source.decode("utf-8", "ignore"),
    }
