"""Whether a mail server that lets us in takes any mail at all, by what became of the last ones."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from jobs.email.meaning import is_no_such_mailbox
from jobs.email.replies import Reply

# One address may be wrong, or one mail what nobody wants: this many of both, and none taken.
ENOUGH = 5
# Where each is said to be no mailbox (5.1.1), which is its owner's affair: a form on a web page
# may be fed with wrong ones.
ENOUGH_UNKNOWN = 20
# What was refused longer ago says nothing of the server as it is now.
KEPT_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Refusals:
    """`note` belongs to one loop; `said` may be asked from any thread."""

    def __init__(self) -> None:
        self._any = _Run(ENOUGH_UNKNOWN)
        self._not_unknown = _Run(ENOUGH)
        self._said: tuple[str, float] | None = None

    @property
    def said(self) -> str | None:
        """What the server answers to everybody, code and text; None while it takes some mail, or
        too little is known."""
        found = self._said
        return None if found is None or time.monotonic() >= found[1] else found[0]

    def note(self, recipients: Sequence[str], replies: Sequence[Reply | None]) -> None:
        """What became of a mail. What is not settled yet says nothing."""
        known = [reply for reply in replies if reply is not None]
        if any(reply.is_success for reply in known):
            self._any, self._not_unknown = _Run(ENOUGH_UNKNOWN), _Run(ENOUGH)
            self._said = None
        elif known and len(known) == len(replies) and all(each.is_permanent for each in known):
            self._add(recipients, known)

    def _add(self, recipients: Sequence[str], replies: Sequence[Reply]) -> None:
        now = time.monotonic()
        is_enough = self._any.add(recipients, now)
        if not all(map(is_no_such_mailbox, replies)):
            is_enough = self._not_unknown.add(recipients, now) or is_enough
        if not is_enough:
            return
        last = replies[-1]
        if self.said is None:
            _log.warning("smtp_refuses_all", extra={"fields": {"code": last.code}})
        self._said = f"{last.code} {last.text}", now + KEPT_SECONDS


class _Run:
    """The last refusals in a row: when, by address and by mail, in order of time."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._mails: deque[float] = deque(maxlen=enough)

    def add(self, recipients: Sequence[str], now: float) -> bool:
        """Whether there are enough of both by now, lately."""
        self._mails.append(now)
        for each in recipients[: self._enough]:
            self._refused.pop(each.lower(), None)
            self._refused[each.lower()] = now
        while len(self._refused) > self._enough:
            self._refused.popitem(last=False)
        if len(self._refused) < self._enough or len(self._mails) < self._enough:
            return False
        return min(next(iter(self._refused.values())), self._mails[0]) > now - KEPT_SECONDS
