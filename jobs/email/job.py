"""`email.send`: one e-mail to a mail server, retried only for those who have not got it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.catalog import job
from jobs.context import JobContext

if TYPE_CHECKING:
    from jobs.email.params import EmailParams


@job(
    "email.send",
    queue="email",
    max_attempts=8,
    timeout=60.0,
    params="jobs.email.params:EmailParams",
    preload=("jobs.email.sending",),
)
async def send(params: EmailParams, context: JobContext) -> dict[str, Any]:
    """Send one e-mail. The result has its Message-ID and the server's reply for each recipient."""
    from jobs.email.sending import send_once  # noqa: PLC0415 - the web sends none

    return await send_once(params, context)
