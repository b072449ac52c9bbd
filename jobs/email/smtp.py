"""The worker's `context.mail`: mail servers in order, each with connections kept open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from jobs.email.courtesy import DomainTurns
from jobs.email.delivery import Delivery
from jobs.email.mail_server import MailServer
from jobs.email.message import OutgoingEmail
from jobs.email.outcome import conclude, domain_of, masked
from jobs.email.refusals import Refusals
from jobs.email.replies import SmtpTroubleError
from jobs.email.server_pool import ServerPool


class SmtpPool:
    """Belongs to one event loop. See MailSender for `send`.

    `url` names one server, or several with commas between them: each stands in for those
    before it, while they let nobody in. `connections` and `timeout_seconds` are for each, see
    ServerPool. Of one domain's mails at most `domain_limit` are under way at once, and
    `domain_rate` of them begun in so many seconds; None: as many as there is room for.
    Raises ValueError for a `url` that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        timeout_seconds: float,
        domain_limit: int | None = None,
        domain_rate: tuple[int, int] | None = None,
    ) -> None:
        self._servers = [
            ServerPool(server, connections=connections, timeout_seconds=timeout_seconds)
            for server in MailServer.parse_all(url)
        ]
        self._turns = DomainTurns(connections, domain_limit, domain_rate)
        self._refusals = Refusals()

    async def send(
        self,
        email: OutgoingEmail,
        before_handover: Callable[[list[str]], Awaitable[None]] | None = None,
        within_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Hand over one e-mail; see MailSender. Every recipient's reply is in the result,
        and in the `result` of a PermanentError or RetryLater."""
        delivery = Delivery(email, before_handover)
        server: ServerPool | None = None
        try:
            async with (
                asyncio.timeout(within_seconds),
                self._turns.turn(map(domain_of, email.recipients)),
            ):
                server, trouble = await self._deliver(delivery)
        except TimeoutError:
            why = f"the mail was not through within {within_seconds:g} s"
            trouble = SmtpTroubleError("smtp_timeout", why)
        self._refusals.note(email.recipients, delivery.replies)
        for address, reply in zip(email.recipients, delivery.replies, strict=True):
            if reply is not None and reply.is_success:
                self._turns.took(domain_of(address))
            elif reply is not None and 400 <= reply.code < 500:
                self._turns.put_off(domain_of(address))
        return conclude(delivery, trouble, None if server is None else str(server))

    async def probe(self) -> str | None:
        """What is wrong with the mail servers, in words; None when one of them lets us in."""
        faults = []
        for server in self._servers:
            fault = await server.probe()
            if fault is None:
                return None
            faults.append(masked(str(fault)))
        return "; ".join(faults)

    def refusal(self) -> str | None:
        """That no mail is taken any more, in words; None while some is, or little is known. May
        be asked from any thread."""
        said = self._refusals.said
        return None if said is None else masked(f"it refuses every recipient for good: {said}")

    async def aclose(self) -> None:
        """Close every connection; an e-mail under way is cut off and raises RetryLater."""
        for server in self._servers:
            await server.aclose()

    async def _deliver(self, delivery: Delivery) -> tuple[ServerPool, SmtpTroubleError | None]:
        """By the first server that takes it. Nothing is said twice: the next one is asked only
        while nobody can have got the mail."""
        troubles: list[tuple[ServerPool, SmtpTroubleError]] = []
        for server in sorted(self._servers, key=lambda each: each.is_down):
            if troubles:
                delivery.start_again()
            try:
                await server.deliver(delivery)
                return server, None
            except SmtpTroubleError as error:
                # What one server cannot take, as it lacks an extension, another may.
                if delivery.may_have_arrived or (error.permanent and delivery.begun):
                    return server, error
                troubles.append((server, error))
        # When one of them might still take it, it is neither for good nor a fault of ours alone.
        return min(troubles, key=lambda each: (each[1].is_ours, each[1].permanent))
