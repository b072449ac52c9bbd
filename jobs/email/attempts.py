"""Attempts of one e-mail taken together: who has it already gets no second one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from jobs.context import MailSender
from jobs.email.message import OutgoingEmail
from jobs.errors import PermanentError, RetryLater

_OPEN = {"pending", "unknown"}


async def send_to_remaining(
    email: OutgoingEmail, previous_result: Any, mail: MailSender
) -> dict[str, Any]:
    """Send to the recipients that the last attempt's result leaves open; tell of all.

    Raises what `mail.send` raises, its `result` completed by what was settled before.
    """
    settled = _settled(previous_result, email.message_id)
    remaining = tuple(address for address in email.recipients if address not in settled)
    if not remaining:
        return _complete(email, settled, previous_result)
    try:
        result = await mail.send(replace(email, recipients=remaining))
    except RetryLater as error:
        error.result = _complete(email, settled, error.result)
        raise
    except PermanentError as error:
        error.result = merged = _complete(email, settled, error.result)
        if error.code == "smtp_permanent" and _any_accepted(merged):
            return merged
        raise
    return _complete(email, settled, result)


def _settled(previous_result: Any, message_id: str) -> dict[str, dict[str, Any]]:
    """What needs no further attempt, by address.

    A refusal is for good while others are still open. When nothing is open the job had
    failed with it, and an operator who retries wants it asked again.
    """
    recipients = _recipients(previous_result)
    if not recipients or previous_result.get("message_id") != message_id:
        return {}
    is_under_way = any(recipient["status"] in _OPEN for recipient in recipients)
    final = {"accepted", "refused"} if is_under_way else {"accepted"}
    return {
        recipient["address"]: recipient for recipient in recipients if recipient["status"] in final
    }


def _complete(
    email: OutgoingEmail, settled: dict[str, dict[str, Any]], result: Any
) -> dict[str, Any]:
    """The result of all attempts so far, in the order of the envelope."""
    latest = settled | {recipient["address"]: recipient for recipient in _recipients(result)}
    return {
        "message_id": email.message_id,
        "recipients": [latest[address] for address in email.recipients if address in latest],
        "server": result.get("server") if isinstance(result, dict) else None,
    }


def _recipients(result: Any) -> list[dict[str, Any]]:
    """It comes from Redis, where a stock producer or another version may have left anything."""
    found = result.get("recipients") if isinstance(result, dict) else None
    if not isinstance(found, list):
        return []
    return [
        recipient
        for recipient in found
        if isinstance(recipient, dict)
        and isinstance(recipient.get("address"), str)
        and isinstance(recipient.get("status"), str)
    ]


def _any_accepted(result: dict[str, Any]) -> bool:
    recipients: Iterable[dict[str, Any]] = result["recipients"]
    return any(recipient["status"] == "accepted" for recipient in recipients)
