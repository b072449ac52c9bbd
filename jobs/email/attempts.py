"""Attempts of one e-mail taken together: who has it already gets no second one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobs.context import JobContext
from jobs.email.message import OutgoingEmail
from jobs.errors import PermanentError, RetryLater

SUPPRESSED = "suppressed"
# For what is left to do when a mail server takes too long.
LAST_SECONDS = 2.0
_OPEN = {"pending", "unknown"}


async def send_to_remaining(
    email: OutgoingEmail, context: JobContext, *, once: bool = False
) -> dict[str, Any]:
    """Send to the recipients that the last attempt's result leaves open; tell of all.

    `once`: never again to those who may have got it. Raises what `mail.send` raises, its
    `result` completed by what was settled before; PermanentError `delivery_unknown` and
    `suppressed` besides.
    """
    before = _before(context, email)
    settled = _settled(before, once=once)
    remaining = [address for address in email.recipients if address not in settled]
    suppressed = await context.suppressions.among(remaining) if remaining else set()
    settled |= {address: _suppressed(address) for address in suppressed}
    remaining = [address for address in remaining if address not in suppressed]
    if not remaining:
        return _checked(_complete(email, settled, before), once=once)

    async def mark(addresses: list[str]) -> None:
        """Until the reply is known, nobody could tell whether these got it."""
        marked.update(addresses)
        unknown = [without_reply(each, "unknown") for each in email.recipients if each in marked]
        await context.save(_complete(email, settled, {"recipients": unknown}, before))

    marked: set[str] = set()
    rest = replace(email, recipients=tuple(remaining))
    try:
        seconds = context.timeout_seconds
        # The worker would end the run at its time-out, and what the server has said were lost.
        result = await context.mail.send(
            rest, mark if once else None, seconds - min(LAST_SECONDS, seconds / 10)
        )
    except RetryLater as error:
        await _remember(context, error.result)
        error.result = merged = _complete(email, settled, error.result, before)
        if once and not any(each["status"] == "pending" for each in merged["recipients"]):
            raise _delivery_unknown(merged) from error
        raise
    except PermanentError as error:
        await _remember(context, error.result)
        error.result = merged = _complete(email, settled, error.result, before)
        if error.code == "smtp_permanent" and _statuses(merged) & {"accepted", "unknown"}:
            return _checked(merged, once=once)
        raise
    await _remember(context, result)
    return _checked(_complete(email, settled, result), once=once)


def untried(email: OutgoingEmail, context: JobContext, *, for_good: bool) -> dict[str, Any]:
    """The result of a run that came to no mail server: who has it has it."""
    before = _before(context, email)
    settled = _settled(before, once=True)
    status = "refused" if for_good else "pending"
    others = [without_reply(each, status) for each in email.recipients if each not in settled]
    return _complete(email, settled, {"recipients": others}, before)


def without_reply(address: str, status: str) -> dict[str, Any]:
    """What the result says of somebody of whom no mail server has said a word."""
    return {"address": address, "status": status, "code": None, "reply": None}


def _checked(result: dict[str, Any], *, once: bool) -> dict[str, Any]:
    """The result of a job that has nothing left to do, or why it has failed all the same."""
    statuses = _statuses(result)
    if once and "unknown" in statuses:
        raise _delivery_unknown(result)
    if statuses == {"refused"} and all(
        each.get("reply") == SUPPRESSED for each in result["recipients"]
    ):
        raise PermanentError(
            "every recipient was refused for good before, and is suppressed",
            code=SUPPRESSED,
            result=result,
        )
    if statuses == {"refused"}:
        raise PermanentError(
            "every recipient is refused for good", code="smtp_permanent", result=result
        )
    return result


def _delivery_unknown(result: dict[str, Any]) -> PermanentError:
    return PermanentError(
        "whether the mail was taken is not known, and it is to be sent once at most",
        code="delivery_unknown",
        result=result,
    )


async def _remember(context: JobContext, result: Any) -> None:
    """Those of whom the server has just said that there is no such mailbox."""
    gone = result.get("no_mailbox", ()) if isinstance(result, dict) else ()
    for each in _recipients(result):
        if each["address"] in gone:
            await context.suppressions.add(each["address"], each["code"], each["reply"])


def _suppressed(address: str) -> dict[str, Any]:
    return {"address": address, "status": "refused", "code": None, "reply": SUPPRESSED}


def _statuses(result: dict[str, Any]) -> set[str]:
    return {each["status"] for each in result["recipients"]}


def _before(context: JobContext, email: OutgoingEmail) -> Any:
    """What the last attempt left, of this very e-mail."""
    found = context.previous_result
    is_ours = isinstance(found, dict) and found.get("message_id") == email.message_id
    return found if is_ours else None


def _settled(before: Any, *, once: bool) -> dict[str, dict[str, Any]]:
    """What needs no further attempt, by address.

    A refusal is for good while others are still open. When nothing is open the job had
    failed with it, and an operator who retries wants it asked again.
    """
    recipients = _recipients(before)
    final = {"accepted", "unknown"} if once else {"accepted"}
    if any(recipient["status"] in _OPEN for recipient in recipients):
        final |= {"refused"}
    return {
        recipient["address"]: recipient for recipient in recipients if recipient["status"] in final
    }


def _complete(
    email: OutgoingEmail, settled: dict[str, dict[str, Any]], result: Any, before: Any = None
) -> dict[str, Any]:
    """The result of all attempts so far, for everybody in the order of the envelope.

    An attempt that came to no mail server says nothing: then what was known `before` stands.
    """
    latest = {each["address"]: each for each in _recipients(before)}
    latest |= {each["address"]: each for each in _recipients(result)} | settled
    return {
        "message_id": email.message_id,
        "recipients": [
            latest.get(address, without_reply(address, "pending")) for address in email.recipients
        ],
        "server": next((each["server"] for each in (result, before) if _has_server(each)), None),
    }


def _has_server(result: Any) -> bool:
    return isinstance(result, dict) and result.get("server") is not None


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
