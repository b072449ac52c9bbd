"""Whether a mail server lets us in: asked by one for all who wait, and seldom after a refusal.

A provider that hears 64 wrong passwords at once, or one every few seconds for a day, shuts us
out for longer than the password is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from jobs.email.connection import Connection
from jobs.email.replies import SmtpTroubleError

# So long nobody asks again for a mail: those that were on their way when the queue paused.
REFUSED_SECONDS = 2.0
# Between two probes after a wrong password; each wait is twice the one before.
FIRST_PROBE_SECONDS = 2.0
LONGEST_PROBE_SECONDS = 600.0


class Admission:
    """Opens connections by `open_one`, side by side once one of them was let in."""

    def __init__(
        self, open_one: Callable[[], Awaitable[Connection]], has_open: Callable[[], bool]
    ) -> None:
        self._open_one = open_one
        self._has_open = has_open
        self._lets_in = False
        # Of the one that tries for all: what went wrong.
        self._trying: asyncio.Future[SmtpTroubleError | None] | None = None
        self._refusal: SmtpTroubleError | None = None
        self._refused_until = 0.0
        self._probe_wait_seconds = FIRST_PROBE_SECONDS
        self._probe_at = 0.0
        # It lets us in and takes no mail of ours: to be let in says nothing then, a mail does.
        self._mail_refusal: SmtpTroubleError | None = None

    @property
    def is_refused(self) -> bool:
        """It was told a wrong password, or took no mail, too lately to try without need."""
        return self._last_refusal is not None and time.monotonic() < self._probe_at

    @property
    def _last_refusal(self) -> SmtpTroubleError | None:
        return self._refusal if self._refusal is not None else self._mail_refusal

    async def enter(self) -> Connection:
        """A new connection, for a mail. While none is open, whoever waits shares the outcome of
        the one that tries. Raises SmtpTroubleError."""
        while not (self._lets_in and self._has_open()):
            if self._refusal is not None and time.monotonic() < self._refused_until:
                raise _like(self._refusal)
            if self._trying is None:
                return await self._try_for_all()
            trouble = await asyncio.shield(self._trying)
            if trouble is not None:
                raise _like(trouble)
        return await self._open()

    async def probe(self) -> Connection | SmtpTroubleError:
        """Try now, unless we were refused too lately: then what was said."""
        if self._last_refusal is not None and self.is_refused:
            return self._last_refusal
        try:
            return await (self._try_for_all() if self._trying is None else self._open())
        except SmtpTroubleError as error:
            if error.code == "smtp_auth":
                self._put_off()
            return error

    def refuse(self, error: SmtpTroubleError) -> None:
        """It let us in, and refused a mail for how we came."""
        self._mail_refusal = _like(error)
        if time.monotonic() >= self._probe_at:
            # Those that were refused side by side count as one.
            self._put_off()

    def take_mail(self) -> None:
        """It has begun to take a mail: so it takes ours."""
        if self._mail_refusal is not None:
            self._mail_refusal, self._probe_wait_seconds = None, FIRST_PROBE_SECONDS

    def _put_off(self) -> None:
        self._probe_at = time.monotonic() + self._probe_wait_seconds
        self._probe_wait_seconds = min(2 * self._probe_wait_seconds, LONGEST_PROBE_SECONDS)

    async def _try_for_all(self) -> Connection:
        trouble = None
        self._trying = trying = asyncio.get_running_loop().create_future()
        try:
            return await self._open()
        except SmtpTroubleError as error:
            trouble = error
            raise
        finally:
            self._trying = None
            trying.set_result(trouble)

    async def _open(self) -> Connection:
        try:
            connection = await self._open_one()
        except SmtpTroubleError as error:
            if error.is_ours:
                self._lets_in, self._refusal = False, error
                self._refused_until = time.monotonic() + REFUSED_SECONDS
            raise
        self._lets_in, self._refusal = True, None
        if self._mail_refusal is None:
            self._probe_wait_seconds = FIRST_PROBE_SECONDS
        return connection


def _like(trouble: SmtpTroubleError) -> SmtpTroubleError:
    """Another of the same: one exception raised by many would gather all their tracebacks."""
    return SmtpTroubleError(trouble.code, str(trouble))
