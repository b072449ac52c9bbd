"""Whether a mail server that lets us in takes any mail at all, by what became of the last ones."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from jobs.email.replies import Reply

# One address may be wrong, or one mail what nobody wants: this many of both, and none taken.
RECIPIENTS, MAILS = 5, 5
# What was refused longer ago says nothing of the server as it is now.
KEPT_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Refusals:
    """`note` belongs to one loop; `said` may be asked from any thread."""

    def __init__(self) -> None:
        # When the last ones were refused, by address and by mail, in order of time.
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._mails: deque[float] = deque(maxlen=MAILS)
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
            self._refused.clear()
            self._mails.clear()
            self._said = None
        elif known and len(known) == len(replies) and all(each.is_permanent for each in known):
            self._add(recipients, known[-1])

    def _add(self, recipients: Sequence[str], reply: Reply) -> None:
        now = time.monotonic()
        self._mails.append(now)
        for each in recipients[:RECIPIENTS]:
            self._refused.pop(each.lower(), None)
            self._refused[each.lower()] = now
        while len(self._refused) > RECIPIENTS:
            self._refused.popitem(last=False)
        if len(self._refused) < RECIPIENTS or len(self._mails) < MAILS:
            return
        if min(next(iter(self._refused.values())), self._mails[0]) <= now - KEPT_SECONDS:
            return
        if self.said is None:
            _log.warning("smtp_refuses_all", extra={"fields": {"code": reply.code}})
        self._said = f"{reply.code} {reply.text}", now + KEPT_SECONDS
