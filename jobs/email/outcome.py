"""From a server's replies to what the job says: its result, an error, or try again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.email.connection import Delivery
from jobs.email.replies import Reply, SmtpTroubleError
from jobs.errors import PermanentError, RetryLater

MAX_REPLY = 300
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"']+@[^\s<>()\[\],;:\"']+")


def conclude(delivery: Delivery, trouble: SmtpTroubleError | None, server: str) -> dict[str, Any]:
    """The result of `email.send`, or PermanentError or RetryLater with that result in it."""
    recipients = [
        _recipient(address, reply, delivery, trouble)
        for address, reply in zip(delivery.email.recipients, delivery.replies, strict=True)
    ]
    result = {
        "message_id": delivery.email.message_id,
        "recipients": recipients,
        "server": server,
    }
    statuses = {recipient["status"] for recipient in recipients}
    if trouble is not None and trouble.permanent:
        raise PermanentError(str(trouble), code=trouble.code, result=result)
    if trouble is not None and None in delivery.replies:
        raise RetryLater(masked(str(trouble)), code=trouble.code, result=result)
    if "pending" in statuses:
        raise RetryLater(
            f"the mail server asks to try again: {_first_reply(recipients, 'pending')}",
            code="smtp_temporary",
            result=result,
        )
    if "accepted" not in statuses:
        raise PermanentError(
            f"the mail server refused every recipient: {_first_reply(recipients, 'refused')}",
            code="smtp_permanent",
            result=result,
        )
    return result


def masked(text: str) -> str:
    """One bounded line without control characters and without addresses."""
    return _ADDRESS.sub("[address]", _one_line(text))


def _recipient(
    address: str, reply: Reply | None, delivery: Delivery, trouble: SmtpTroubleError | None
) -> dict[str, Any]:
    if reply is None:
        status = "unknown" if delivery.handed_over else "pending"
        if trouble is not None and trouble.permanent:
            status = "refused"
        return {"address": address, "status": status, "code": None, "reply": None}
    return {
        "address": address,
        "status": _status(reply),
        "code": reply.code,
        "reply": _one_line(reply.text),
    }


def _status(reply: Reply) -> str:
    if reply.is_success:
        return "accepted"
    # Anything that is neither is a server's slip: asking again costs least.
    return "refused" if reply.is_permanent else "pending"


def _first_reply(recipients: Iterable[Mapping[str, Any]], status: str) -> str:
    first = next(found for found in recipients if found["status"] == status)
    return masked(f"{first['code']} {first['reply']}")


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_REPLY else line[: MAX_REPLY - 1] + "…"
