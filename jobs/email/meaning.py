"""What a reply means: accepted, refused for good or not yet, when to ask again, and whose fault."""

from __future__ import annotations

import re
from typing import Literal

from jobs.email.replies import Reply, SmtpTroubleError

Verdict = Literal["accepted", "refused", "pending"]
# A server may ask for any wait; longer than this is not taken at its word.
LONGEST_WAIT_SECONDS = 6 * 3600.0
NO_SUCH_MAILBOX = "5.1.1"
_TOO_MANY_RECIPIENTS = {"4.5.3", "5.5.3"}
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_WAIT = re.compile(
    r"\b(?:in|after|for|wait|within|least|delay(?:ed)?(?: by)?|retry[- ]after)[ :=]{1,3}"
    r"(?:(?P<hours>\d{1,2}):(?P<minutes>\d\d):(?P<seconds>\d\d)\b"
    r"|(?P<number>\d{1,6})[ ]?(?P<unit>s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?|rs?)?)\b)",
    re.IGNORECASE,
)
_AUTHENTICATION_CODES = {530, 534, 535, 538}


def enhanced_code(reply: Reply) -> str | None:
    """RFC 3463's code, where the reply has one of its own class."""
    found = _ENHANCED.match(reply.text)
    return found[1] if found is not None and found[1][0] == str(reply.code)[0] else None


def verdict(reply: Reply, *, of_recipient: bool) -> Verdict:
    """`of_recipient`: it answers RCPT, not the mail as a whole."""
    if reply.is_success:
        return "accepted"
    if of_recipient and is_too_many(reply):
        return "pending"
    # Anything that is neither is a server's slip: asking again costs least.
    return "refused" if reply.is_permanent else "pending"


def is_too_many(reply: Reply) -> bool:
    """More recipients than the server takes at once: the others may follow in a mail of their own.

    RFC 5321 section 4.5.3.1.10 has 452 and, by older servers, 552 for it; with an enhanced code
    of its own either is about a mailbox or a disk that is full.
    """
    if reply.code not in {452, 552}:
        return False
    enhanced = enhanced_code(reply)
    if enhanced is None:
        return reply.code == 552 or "too many" in reply.text.lower()
    return enhanced in _TOO_MANY_RECIPIENTS


def is_no_such_mailbox(reply: Reply) -> bool:
    return reply.is_permanent and enhanced_code(reply) == NO_SUCH_MAILBOX


def asked_wait(reply: Reply) -> float | None:
    """Seconds after which the server wants to be asked again, if it says so."""
    if not 400 <= reply.code < 500:
        return None
    found = _WAIT.search(reply.text)
    if found is None:
        return None
    if found["unit"] is not None:
        seconds = int(found["number"]) * _UNITS[found["unit"][0].lower()]
    else:
        hours, minutes = int(found["hours"]), int(found["minutes"])
        seconds = hours * 3600 + minutes * 60 + int(found["seconds"])
    return min(float(seconds), LONGEST_WAIT_SECONDS) if seconds > 0 else None


def fault_of_ours(reply: Reply) -> SmtpTroubleError | None:
    """When MAIL is refused for how we came, and not for the mail: no mail would go this way."""
    if reply.code not in _AUTHENTICATION_CODES:
        return None
    if "starttls" in reply.text.lower():
        return SmtpTroubleError("smtp_tls", f"the mail server wants STARTTLS: {reply.code}")
    return SmtpTroubleError("smtp_auth", f"the mail server wants a sign-in: {reply.code}")
