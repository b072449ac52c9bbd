"""From a server's replies to what the job says: its result, an error, or try again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.email.delivery import Delivery
from jobs.email.meaning import asked_wait, verdict
from jobs.email.replies import SmtpTroubleError
from jobs.errors import PermanentError, RetryLater

MAX_REPLY = 300
# The queue is paused by then; it is only to be there again when it goes on.
AFTER_FAULT_SECONDS = 5.0
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"']+@[^\s<>()\[\],;:\"']+")


def conclude(
    delivery: Delivery, trouble: SmtpTroubleError | None, server: str | None
) -> dict[str, Any]:
    """The result of `email.send`, or PermanentError or RetryLater with that result in it."""
    recipients = [
        _recipient(index, delivery, trouble) for index in range(len(delivery.email.recipients))
    ]
    result: dict[str, Any] = {
        "message_id": delivery.email.message_id,
        "recipients": recipients,
        "server": server,
    }
    gone = [address for address, _ in delivery.without_mailbox()]
    if gone:
        result["no_mailbox"] = gone
    statuses = {recipient["status"] for recipient in recipients}
    if trouble is not None and trouble.permanent:
        raise PermanentError(str(trouble), code=trouble.code, result=result)
    if trouble is not None and None in delivery.replies:
        raise _later(trouble, result)
    if "pending" in statuses:
        raise RetryLater(
            f"the mail server asks to try again: {_first_reply(recipients, 'pending')}",
            code="smtp_temporary",
            result=result,
            delay_seconds=_longest_wait(delivery),
        )
    if "accepted" not in statuses:
        raise PermanentError(
            f"the mail server refused every recipient: {_first_reply(recipients, 'refused')}",
            code="smtp_permanent",
            result=result,
        )
    return result


def domain_of(address: str) -> str:
    """The domain of an address as on the wire, in small letters."""
    return address.rpartition("@")[2].lower()


def _later(trouble: SmtpTroubleError, result: dict[str, Any]) -> RetryLater:
    if trouble.is_ours:
        # It is no fault of the mail's: it waits until somebody has mended that.
        return RetryLater(
            masked(str(trouble)), code=trouble.code, result=result,
            delay_seconds=AFTER_FAULT_SECONDS, uses_attempt=False, pauses_queue=True,
        )  # fmt: skip
    return RetryLater(masked(str(trouble)), code=trouble.code, result=result)


def _longest_wait(delivery: Delivery) -> float | None:
    waits = [asked_wait(reply) for reply in delivery.replies if reply is not None]
    return max((wait for wait in waits if wait is not None), default=None)


def masked(text: str) -> str:
    """One bounded line without control characters and without addresses."""
    return _ADDRESS.sub("[address]", _one_line(text))


def _recipient(index: int, delivery: Delivery, trouble: SmtpTroubleError | None) -> dict[str, Any]:
    address, reply = delivery.email.recipients[index], delivery.replies[index]
    if reply is None:
        status = "unknown" if delivery.handed_over else "pending"
        if trouble is not None and trouble.permanent:
            status = "refused"
        return {"address": address, "status": status, "code": None, "reply": None}
    return {
        "address": address,
        "status": verdict(reply, of_recipient=index in delivery.own),
        "code": reply.code,
        "reply": _one_line(reply.text),
    }


def _first_reply(recipients: Iterable[Mapping[str, Any]], status: str) -> str:
    first = next(found for found in recipients if found["status"] == status)
    return masked(f"{first['code']} {first['reply']}")


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_REPLY else line[: MAX_REPLY - 1] + "…"
