"""One run of `email.send`: loaded by the worker alone, as the web process only checks params."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobs.context import JobContext
from jobs.email.attachments import Attached, find
from jobs.email.attempts import send_to_remaining, untried
from jobs.email.dry_run import rehearse
from jobs.email.message import build
from jobs.email.params import EmailParams
from jobs.errors import JobError, PermanentError


async def send_once(params: EmailParams, context: JobContext) -> dict[str, Any]:
    """Send to those who have not got it yet. Raises what the run is to end with."""
    params = params.written()
    now = datetime.now(UTC)
    attached = await _attached(params, context, now)
    email = build(params, context.job_id, now, attached)
    if context.dry_run:
        return await rehearse(email, context)
    return await send_to_remaining(email, context, once=params.is_sent_once)


async def _attached(params: EmailParams, context: JobContext, now: datetime) -> Sequence[Attached]:
    """The files. Where one cannot be had, the error tells of each recipient all the same."""
    if not params.attachments:
        return ()
    try:
        return await find(params.attachments, context.files)
    except JobError as error:
        email = build(params, context.job_id, now)
        for_good = isinstance(error, PermanentError)
        error.result = untried(email, context, for_good=for_good)
        raise
