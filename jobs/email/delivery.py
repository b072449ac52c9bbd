"""One e-mail on its way to one server: how far it got, recipient by recipient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from jobs.email.meaning import is_no_such_mailbox, is_too_many
from jobs.email.message import OutgoingEmail
from jobs.email.replies import SERVICE_CLOSING, Reply


@dataclass(slots=True)
class Delivery:
    """How far one e-mail got. A reply of None: nothing final is known of that recipient.

    `before_handover` is called with those to whom the mail is about to go, before the first
    octet of it does; should it raise, nobody gets it.
    """

    email: OutgoingEmail
    before_handover: Callable[[list[str]], Awaitable[None]] | None = None
    replies: list[Reply | None] = field(init=False)
    begun: bool = False  # the server has taken MAIL FROM
    handed_over: bool = False  # the end of the message is on its way
    # Those whose reply is to RCPT, and about them alone.
    own: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.replies = [None] * len(self.email.recipients)

    @property
    def open_recipients(self) -> list[str]:
        pairs = zip(self.email.recipients, self.replies, strict=True)
        return [address for address, reply in pairs if reply is None]

    @property
    def may_have_arrived(self) -> bool:
        """Somebody has the mail, or nobody can tell: it is not to be handed over once more."""
        return self.handed_over or any(
            reply is not None and reply.is_success for reply in self.replies
        )

    def settle(self, reply: Reply) -> None:
        """This reply is for every recipient that has none of its own."""
        self.replies = [own if own is not None else reply for own in self.replies]

    def take_recipient(self, index: int, reply: Reply) -> bool:
        """A reply to RCPT. False: the server is closing, and nothing more will be said."""
        if reply.code == SERVICE_CLOSING:
            self.settle(reply)
            return False
        if not reply.is_success:
            self.replies[index] = reply
            self.own.add(index)
        return True

    def beyond_the_limit(self) -> Delivery | None:
        """The same mail for those that the server did not take with the others, which it took."""
        left = [
            address
            for index, address in enumerate(self.email.recipients)
            if index in self.own and is_too_many(_known(self.replies[index]))
        ]
        if not left or not any(reply is not None and reply.is_success for reply in self.replies):
            return None
        email = replace(self.email, recipients=tuple(left))
        return Delivery(email, self.before_handover)

    def adopt(self, more: Delivery) -> None:
        """What became of those that `beyond_the_limit` left."""
        places = {address: index for index, address in enumerate(self.email.recipients)}
        for at, address in enumerate(more.email.recipients):
            index = places[address]
            self.replies[index] = more.replies[at]
            if at not in more.own:
                self.own.discard(index)
        self.handed_over = more.handed_over

    def start_again(self) -> None:
        """With another connection or server: nothing has been said yet that counts."""
        self.begun = self.handed_over = False
        self.replies = [None] * len(self.email.recipients)
        self.own.clear()

    def without_mailbox(self) -> list[tuple[str, Reply]]:
        """Those of whom the server says that there is no such mailbox."""
        alone = len(self.email.recipients) == 1
        return [
            (address, reply)
            for index, (address, reply) in enumerate(
                zip(self.email.recipients, self.replies, strict=True)
            )
            if reply is not None and is_no_such_mailbox(reply) and (alone or index in self.own)
        ]


def _known(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply
