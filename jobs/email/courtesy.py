"""Turns for recipient domains: no domain takes all connections, and a slow one waits elsewhere.

A mail over its domain's limit waits here only for a moment. Where the wait would be long it goes
back to Redis with a time of its own in the domain's line, and its slot to others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from jobs.errors import RetryLater

# So long a mail may hold its slot while it waits for its turn.
PATIENCE_SECONDS = 0.25
SHORTEST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
# Beyond so many, those that have nothing under way are forgotten.
MOST_DOMAINS = 10_000
# A new duration counts so much in the mean.
_WEIGHT = 0.2
_SLOWED_AT_MOST_EVERY_SECONDS = 1.0


@dataclass(slots=True)
class _Domain:
    limit: float
    under_way: deque[float] = field(default_factory=deque)  # when each began
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    mean_seconds: float = 0.0
    line_end: float = 0.0  # when the last of those that were sent away comes back
    next_at: float = 0.0  # by the rate
    slowed_at: float = 0.0

    @property
    def room(self) -> int:
        return max(1, int(self.limit)) - len(self.under_way)

    def pace_seconds(self, now: float) -> float:
        """One turn comes free in so many seconds."""
        oldest = now - self.under_way[0] if self.under_way else 0.0
        return max(self.mean_seconds, oldest) / max(1, int(self.limit))


class DomainTurns:
    """`limit` mails to a domain at once, `rate` of them in so many seconds; None: any number.

    Both for this process. A domain that may have all of the `connections` waits for those. One
    that puts mails off gets half as many at once, down to one; each that it takes lets it grow.
    """

    def __init__(
        self, connections: int, limit: int | None = None, rate: tuple[int, int] | None = None
    ) -> None:
        self._connections = connections
        self._limit = connections if limit is None else min(limit, connections)
        self._rate = rate
        self._domains: dict[str, _Domain] = {}

    @asynccontextmanager
    async def turn(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Inside it is the turn of a mail to these domains. Raises RetryLater, which uses up no
        attempt, when that would take long."""
        wanted = [self._domain(name) for name in sorted(set(names))]
        await self._wait(wanted)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for domain in wanted:
            domain.under_way.append(began)
        try:
            yield
        finally:
            seconds = loop.time() - began
            for domain in wanted:
                domain.under_way.remove(began)
                domain.mean_seconds += _WEIGHT * (seconds - domain.mean_seconds)
                _wake(domain)

    def put_off(self, name: str) -> None:
        """The domain asked to try again later."""
        domain, now = self._domain(name), asyncio.get_running_loop().time()
        if now - domain.slowed_at >= _SLOWED_AT_MOST_EVERY_SECONDS:
            domain.slowed_at = now
            domain.limit = max(1.0, domain.limit / 2)

    def took(self, name: str) -> None:
        """The domain took a mail."""
        domain = self._domain(name)
        if domain.limit < self._limit:
            domain.limit = min(float(self._limit), domain.limit + 1 / domain.limit)
            _wake(domain)

    def _domain(self, name: str) -> _Domain:
        domain = self._domains.get(name)
        if domain is None:
            if len(self._domains) >= MOST_DOMAINS:
                self._forget()
            domain = self._domains[name] = _Domain(float(self._limit))
        return domain

    def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        self._domains = {
            name: domain
            for name, domain in self._domains.items()
            if domain.under_way or domain.waiting or max(domain.line_end, domain.next_at) > now
        }

    async def _wait(self, wanted: list[_Domain]) -> None:
        loop = asyncio.get_running_loop()
        self._keep_to_rate(wanted, loop.time())
        deadline = loop.time() + PATIENCE_SECONDS
        while full := [each for each in wanted if each.room <= 0 and self._bounds(each)]:
            domain, now = full[0], loop.time()
            pace = domain.pace_seconds(now)
            if now + pace * (len(domain.waiting) + 1) > deadline:
                raise _sent_away(domain, now, pace)
            turn = loop.create_future()
            domain.waiting.append(turn)
            try:
                async with asyncio.timeout_at(deadline):
                    await turn
            except TimeoutError:
                raise _sent_away(domain, loop.time(), pace) from None
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    _wake(domain)
                raise
            finally:
                if turn in domain.waiting:
                    domain.waiting.remove(turn)

    def _bounds(self, domain: _Domain) -> bool:
        return domain.limit < self._connections

    def _keep_to_rate(self, wanted: list[_Domain], now: float) -> None:
        if self._rate is None:
            return
        count, seconds = self._rate
        pace = seconds / count
        for domain in wanted:
            # As many as the rate allows may go at once, after a quiet time.
            if domain.next_at - now > seconds - pace:
                raise _sent_away(domain, now, pace, domain.next_at - now - seconds + pace)
        for domain in wanted:
            domain.next_at = max(domain.next_at, now) + pace


def _sent_away(domain: _Domain, now: float, pace: float, least: float = 0.0) -> RetryLater:
    """Each gets a time of its own, so that nearly all are sent away once."""
    domain.line_end = max(domain.line_end, now + max(least, SHORTEST_DELAY_SECONDS)) + pace
    domain.line_end = min(domain.line_end, now + LONGEST_DELAY_SECONDS)
    return RetryLater(
        "the recipient's domain has as many mails under way as it gets at once",
        code="domain_busy",
        # The sum may have rounded up: by uptime, near 32,768 s of it for one.
        delay_seconds=min(domain.line_end - now, LONGEST_DELAY_SECONDS),
        uses_attempt=False,
    )


def _wake(domain: _Domain) -> None:
    while domain.waiting and domain.room > 0:
        turn = domain.waiting.popleft()
        if not turn.done():
            turn.set_result(None)
            return
