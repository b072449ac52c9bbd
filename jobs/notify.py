"""`email.notify`: tells of another job's outcome, with what it has left or where that is."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from jobs.catalog import job
from jobs.context import JobContext
from jobs.email.job import send
from jobs.errors import PermanentError

if TYPE_CHECKING:
    from jobs.email.notify_params import NotifyParams

# Larger ones are linked: a mail of that size passes nearly everywhere.
MOST_ATTACHED_BYTES = 5 * 1024 * 1024
_MOST_ERROR = 1000
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]+")


@job(
    "email.notify",
    queue="email",
    max_attempts=8,
    timeout=60.0,
    internal=True,
    params="jobs.email.notify_params:NotifyParams",
)
async def notify(params: NotifyParams, context: JobContext) -> dict[str, Any]:
    """Send one e-mail about a job that has ended."""
    from jobs.email.params import EmailParams  # noqa: PLC0415 - for the worker, as email.send

    email: dict[str, Any] = {"from": params.sender, "to": params.to, "locale": params.locale}
    facts = {
        "job_id": params.job_id,
        "job_type": params.job_type,
        "ended_at": params.ended_at,
    }
    if params.outcome == "finished":
        attachment = await _attachment(params, context)
        told = facts | _result(params, is_attached=attachment is not None)
        email |= {"template": "job_finished", "variables": told}
        if attachment is not None:
            email["attachments"] = [attachment]
    elif params.outcome == "failed":
        email |= {"template": "job_failed", "variables": facts | {"error": _error(params)}}
    else:
        email = {"from": params.sender, "to": params.to, **_canceled(params, facts)}
    return await send(EmailParams.model_validate(email), context)


async def _attachment(params: NotifyParams, context: JobContext) -> dict[str, str] | None:
    """Its first file if that is small, its result if it has left no file; if they are still
    there: both may have been deleted since."""
    try:
        if params.artifacts:
            found = await context.files.artifact(params.job_id)
            return {"job_id": params.job_id} if found.size_bytes <= MOST_ATTACHED_BYTES else None
        result = await context.files.result(params.job_id)
    except PermanentError:
        return None
    data = json.dumps(result, ensure_ascii=False, indent=2).encode()
    if result is None or len(data) > MOST_ATTACHED_BYTES:
        return None
    return {
        "filename": "result.json",
        "content_type": "application/json",
        "content": base64.b64encode(data).decode(),
    }


def _result(params: NotifyParams, *, is_attached: bool) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if not params.artifacts:
        return told
    files = (f"{each['name']} ({each['size']:,} bytes)" for each in params.artifacts)
    told["summary"] = "\n".join(files)
    if not is_attached and params.result_url is not None:
        told["result_url"] = params.result_url
    return told


def _error(params: NotifyParams) -> str:
    return _UNSEEN.sub(" ", params.error or "")[:_MOST_ERROR].strip() or params.outcome


def _canceled(params: NotifyParams, facts: dict[str, str]) -> dict[str, str]:
    """Subject, text and HTML of a job that was canceled or stopped."""
    from jobs.email.templating import templates  # noqa: PLC0415 - for the worker, as above

    template = templates().get("job_canceled", internal=True)
    variables = {**facts, "outcome": params.outcome, "reason": params.reason or "requested"}
    filled = template.fill_in(
        template.model.model_validate(variables), template.locale(params.locale)
    )
    return {"subject": filled.subject, "text": filled.text, "html": filled.html}
