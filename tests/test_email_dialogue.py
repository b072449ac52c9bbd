"""Every reply at every command, on the first and a later mail of a connection, with each
extension offered and withheld: the right thing for each recipient, and the connection after it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.email.delivery import Delivery
from jobs.email.meaning import asked_wait, enhanced_code
from jobs.email.replies import Reply
from jobs.errors import PermanentError, RetryLater
from tests.email_pool import outgoing, pool_for, statuses
from tests.smtp_server import EXTENSIONS, Action, Cut, Hold, Silence, SmtpServer, Torn

PLAIN = tuple(each for each in EXTENSIONS if each != "PIPELINING")
ANA, BIA = "ana@b.co", "bia@c.co"
ACCEPTED, PENDING, REFUSED, UNKNOWN = "accepted", "pending", "refused", "unknown"


@dataclass(frozen=True)
class Case:
    """What the server does at a step, what becomes of both recipients, and the error's code."""

    step: str
    action: Action
    ana: str
    bia: str
    code: str | None = None
    wait: float | None = None


def at_rcpt(reply: str, bia: str, code: str | None = None, wait: float | None = None) -> Case:
    return Case(f"RCPT TO:<{BIA}", reply, ACCEPTED, bia, code, wait)


LATER, NEVER = "smtp_temporary", "smtp_permanent"
CASES = [
    Case("MAIL", "250-2.1.0 fine\r\n250 really", ACCEPTED, ACCEPTED),
    Case("MAIL", "451 4.3.0 later", PENDING, PENDING, LATER),
    Case("MAIL", "452 4.3.1 no room on the disk", PENDING, PENDING, LATER),
    Case("MAIL", "421 4.3.2 going down", PENDING, PENDING, LATER),
    Case("MAIL", "550 5.7.1 not from you", REFUSED, REFUSED, NEVER),
    Case("MAIL", "552 5.3.4 too large", REFUSED, REFUSED, NEVER),
    Case("MAIL", "552 too large", REFUSED, REFUSED, NEVER),
    Case("MAIL", "530 5.7.0 sign in first", PENDING, PENDING, "smtp_auth"),
    Case("MAIL", "530 5.7.0 Must issue a STARTTLS command first", PENDING, PENDING, "smtp_tls"),
    Case("MAIL", "999 what", PENDING, PENDING, LATER),
    Case("MAIL", Cut(), PENDING, PENDING, "smtp_unreachable"),
    Case("MAIL", Torn("25"), PENDING, PENDING, "smtp_unreachable"),
    at_rcpt("251 will forward", ACCEPTED),
    at_rcpt("450 4.2.1 mailbox busy", PENDING, LATER),
    at_rcpt("450 4.7.1 greylisted, try again in 5 minutes", PENDING, LATER, 300),
    at_rcpt("452 4.2.2 over quota", PENDING, LATER),
    at_rcpt("452 4.5.3 too many recipients", ACCEPTED),
    at_rcpt("452 Too many recipients", ACCEPTED),
    at_rcpt("552 too many recipients", ACCEPTED),
    at_rcpt("552 5.2.2 mailbox full", REFUSED),
    at_rcpt("550 5.1.1 no such user", REFUSED),
    at_rcpt("553 5.1.3 no address", REFUSED),
    Case(f"RCPT TO:<{BIA}", "421 4.7.0 too many errors", PENDING, PENDING, LATER),
    Case("RCPT", Cut(), PENDING, PENDING, "smtp_unreachable"),
    Case(f"RCPT TO:<{BIA}", Cut(), PENDING, PENDING, "smtp_unreachable"),
    Case(f"RCPT TO:<{BIA}", Torn("250-ok\r\n"), PENDING, PENDING, "smtp_unreachable"),
    Case("DATA", "451 4.3.0 later", PENDING, PENDING, LATER),
    Case("DATA", "554 5.5.1 no", REFUSED, REFUSED, NEVER),
    Case("DATA", "421 4.3.2 bye", PENDING, PENDING, LATER),
    Case("DATA", "250 what", PENDING, PENDING, "smtp_unreachable"),
    Case("DATA", Cut(), PENDING, PENDING, "smtp_unreachable"),
    Case("DATA", Torn("354 go"), PENDING, PENDING, "smtp_unreachable"),
    # So little is sent in one piece: it may have arrived.
    Case("BODY", Cut(), UNKNOWN, UNKNOWN, "smtp_unreachable"),
    Case(".", "250 2.0.0 queued as 7", ACCEPTED, ACCEPTED),
    Case(".", "451 4.7.1 try again in 00:10:00", PENDING, PENDING, LATER, 600),
    Case(".", "452 4.3.1 disk full", PENDING, PENDING, LATER),
    Case(".", "552 5.3.4 too large", REFUSED, REFUSED, NEVER),
    Case(".", "554 5.7.1 spam", REFUSED, REFUSED, NEVER),
    Case(".", "550 5.1.1 no such user", REFUSED, REFUSED, NEVER),
    Case(".", "421 4.3.2 bye", PENDING, PENDING, LATER),
    Case(".", Cut(), UNKNOWN, UNKNOWN, "smtp_unreachable"),
    Case(".", Torn("250 2.0.0 queu"), UNKNOWN, UNKNOWN, "smtp_unreachable"),
    Case(".", "hm", UNKNOWN, UNKNOWN, "smtp_unreachable"),
    Case(".", "999 what", UNKNOWN, UNKNOWN, "smtp_unreachable"),
]


async def outcome(sending: Any) -> tuple[dict[str, str], str | None, float | None]:
    try:
        return statuses(await sending), None, None
    except (RetryLater, PermanentError) as error:
        return statuses(error.result), error.code, getattr(error, "delay_seconds", None)


def patience(action: Action) -> float:
    """So that only who meets silence waits for the time to be up."""
    return 1.0 if isinstance(action, Silence) else 15.0


@pytest.mark.parametrize("extensions", [EXTENSIONS, PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize("mails_before", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.step}-{case.action}"[:40])
async def test_each_reply_does_the_right_thing_for_each_recipient(
    case: Case, mails_before: int, extensions: tuple[str, ...]
) -> None:
    async with SmtpServer(extensions=extensions) as server, pool_for(server) as pool:
        for _ in range(mails_before):
            await pool.send(outgoing("before@b.co"))
        server.on(case.step, case.action)
        found, code, wait = await outcome(pool.send(outgoing(ANA, BIA)))
        after = await outcome(pool.send(outgoing("after@b.co")))
        got = [address for mail in server.mails for address in mail.recipients]

    goes_away = isinstance(case.action, Cut | Torn) or str(case.action).startswith("421")
    if mails_before and case.step == "MAIL" and goes_away:
        # A kept connection may have ended meanwhile: another one is tried at once.
        assert (found, code) == ({ANA: ACCEPTED, BIA: ACCEPTED}, None)
    else:
        assert (found, code) == ({ANA: case.ana, BIA: case.bia}, case.code)
        if case.wait is not None:
            assert wait == case.wait
    # The next mail is not mixed up with this one, and nobody gets one twice.
    assert after[0] == {"after@b.co": ACCEPTED}
    assert len(got) == len(set(got))
    for address, status in found.items():
        assert (address in got) == (status == ACCEPTED)


@pytest.mark.parametrize("extensions", [EXTENSIONS, PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize(
    "step",
    ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET", "later MAIL", "later RCPT", "later ."],
)
async def test_server_that_stalls_is_given_up_in_time(
    step: str, extensions: tuple[str, ...]
) -> None:
    async with (
        SmtpServer(extensions=extensions) as server,
        pool_for(server, timeout_seconds=0.5) as pool,
    ):
        if step == "RSET":
            server.on("MAIL", "451 later")
            await outcome(pool.send(outgoing("first@b.co")))
        if step.startswith("later "):
            step = step.removeprefix("later ")
            await pool.send(outgoing("first@b.co"))
        server.on(step, Silence())
        found, code, _ = await outcome(pool.send(outgoing(ANA)))
        server.forget_rules()
        after = await outcome(pool.send(outgoing("after@b.co")))

    assert (found[ANA], code) == (UNKNOWN if step == "." else PENDING, "smtp_timeout")
    assert after[0] == {"after@b.co": ACCEPTED}


@pytest.mark.parametrize("extensions", [EXTENSIONS, PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize(
    ("action", "code"), [(Cut(), "smtp_unreachable"), (Silence(), "smtp_timeout")], ids=str
)
async def test_nobody_has_a_mail_whose_end_was_not_sent(
    action: Action, code: str, extensions: tuple[str, ...]
) -> None:
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 1_000_000
    async with (
        SmtpServer(extensions=extensions) as server,
        pool_for(server, timeout_seconds=patience(action)) as pool,
    ):
        server.on("BODY", action)
        found = await outcome(pool.send(outgoing(ANA, source=large)))
        after = await outcome(pool.send(outgoing("after@b.co")))

    assert found[:2] == ({ANA: PENDING}, code)
    assert after[0] == {"after@b.co": ACCEPTED}


@pytest.mark.parametrize("extensions", [EXTENSIONS, PLAIN], ids=["pipelined", "plain"])
@pytest.mark.parametrize("action", ["451 no", "500 what", "421 bye", "hm", Cut()], ids=str)
async def test_connection_that_cannot_be_reset_is_replaced(
    action: Action, extensions: tuple[str, ...]
) -> None:
    async with SmtpServer(extensions=extensions) as server, pool_for(server) as pool:
        server.on("RCPT", "550 no")
        await outcome(pool.send(outgoing("first@b.co")))
        server.on("RSET", action)
        found = await outcome(pool.send(outgoing(ANA)))

    assert found[0] == {ANA: ACCEPTED}
    assert [(each.recipients, each.connection) for each in server.mails] == [([ANA], 2)]


@pytest.mark.parametrize(
    ("step", "action", "code"),
    [
        ("CONNECT", Torn("220"), "smtp_unreachable"),
        ("CONNECT", "hello", "smtp_unreachable"),
        ("EHLO", "421 busy", "smtp_temporary"),
        ("EHLO", "451 later", "smtp_temporary"),
        ("EHLO", Torn("250-me\r\n"), "smtp_unreachable"),
        ("EHLO", "550 what", None),
        ("AUTH", "421 busy", "smtp_temporary"),
        ("AUTH", "454 4.7.0 later", "smtp_temporary"),
        ("AUTH", "530 5.7.0 TLS first", "smtp_auth"),
        ("AUTH", "334 more", "smtp_auth"),
        ("AUTH", Cut(), "smtp_unreachable"),
        ("AUTH", Torn("2"), "smtp_unreachable"),
        ("AUTH", Silence(), "smtp_timeout"),
    ],
    ids=str,
)
async def test_each_reply_before_the_first_mail_does_the_right_thing(
    step: str, action: Action, code: str | None
) -> None:
    async with (
        SmtpServer(users={"us": "x"}) as server,
        pool_for(server.url("us:x"), timeout_seconds=patience(action)) as pool,
    ):
        server.on(step, action)
        found = await outcome(pool.send(outgoing(ANA)))
        server.forget_rules()
        assert await pool.probe() is None
        after = await outcome(pool.send(outgoing("after@b.co")))

    if code is None:  # HELO knows no sign-in
        assert found[1] == "smtp_auth"
    else:
        assert found[:2] == ({ANA: PENDING}, code)
    assert after[0] == {"after@b.co": ACCEPTED}


@pytest.mark.parametrize(
    "extensions", [["SIZE"], ["SIZE 0"], ["size 5000", "pipelining"], ["X-NEW 1 2"], []], ids=str
)
async def test_extensions_may_be_written_in_any_way(extensions: list[str]) -> None:
    async with SmtpServer(extensions=extensions) as server, pool_for(server) as pool:
        found = await outcome(pool.send(outgoing(ANA)))
        mail = server.mails[0]

    assert found[0] == {ANA: ACCEPTED}
    assert mail.mail_options.startswith("SIZE=") == any("size" in e.lower() for e in extensions)


@pytest.mark.parametrize("withheld", EXTENSIONS)
async def test_mail_goes_out_whatever_extension_is_withheld(withheld: str) -> None:
    offered = [each for each in EXTENSIONS if each != withheld]
    async with SmtpServer(extensions=offered) as server, pool_for(server) as pool:
        plain = await outcome(pool.send(outgoing(ANA)))
        wide = await outcome(pool.send(outgoing("josé@b.co", utf8=True)))

    assert plain[0] == {ANA: ACCEPTED}
    assert ("SIZE=" in server.mails[0].mail_options) == (not withheld.startswith("SIZE"))
    assert all(("8BITMIME" in each.mail_options) == (withheld != "8BITMIME")
               for each in server.mails[1:])  # fmt: skip
    if withheld == "SMTPUTF8":
        assert wide[:2] == ({"josé@b.co": REFUSED}, "smtp_utf8_unsupported")
    else:
        assert wide[0] == {"josé@b.co": ACCEPTED}


async def test_no_mail_larger_than_the_server_takes_is_begun() -> None:
    extensions = ["SIZE 1000", "PIPELINING"]
    async with SmtpServer(extensions=extensions) as server, pool_for(server) as pool:
        found = await outcome(pool.send(outgoing(ANA, source=b"x" * 999 + b"\r\n")))
        small = await outcome(pool.send(outgoing(ANA)))

    assert found[:2] == ({ANA: REFUSED}, "smtp_permanent")
    assert small[0] == {ANA: ACCEPTED}
    assert len(server.mails) == 1


@pytest.mark.parametrize(("extensions", "waits"), [(EXTENSIONS, 2), (PLAIN, 5)])
async def test_pipelining_waits_twice_a_mail(extensions: tuple[str, ...], waits: int) -> None:
    async with SmtpServer(extensions=extensions) as server, pool_for(server) as pool:
        await pool.send(outgoing(ANA, BIA))
        before = server.waits
        await pool.send(outgoing(ANA, BIA))
        waited = server.waits - before

    assert waited == waits
    assert len(server.mails) == 2


async def test_server_that_takes_a_mail_for_nobody_gets_an_empty_one() -> None:
    async with SmtpServer() as server, pool_for(server) as pool:
        server.on("RCPT", "550 5.1.1 no", times=2)
        server.on("DATA", "354 go ahead")
        server.on(".", "554 5.5.1 no valid recipients")
        found = await outcome(pool.send(outgoing(ANA, BIA)))
        after = await outcome(pool.send(outgoing("after@b.co")))

    assert found[:2] == ({ANA: REFUSED, BIA: REFUSED}, "smtp_permanent")
    assert after[0] == {"after@b.co": ACCEPTED}
    assert server.connections == 1


async def test_too_many_recipients_get_the_mail_one_lot_after_the_other() -> None:
    everybody = [f"u{n}@b.co" for n in range(25)]
    async with SmtpServer() as server, pool_for(server) as pool:
        server.most_recipients = 10
        found = await outcome(pool.send(outgoing(*everybody)))

    assert set(found[0].values()) == {ACCEPTED}
    assert [len(mail.recipients) for mail in server.mails] == [10, 10, 5]
    assert sorted(a for mail in server.mails for a in mail.recipients) == sorted(everybody)


async def test_nobody_gets_a_mail_when_the_handover_may_not_be() -> None:
    asked = []

    async def refuse(addresses: list[str]) -> None:
        asked.append(addresses)
        raise PermanentError("this run is no longer the job's", code="run_lost")

    async with SmtpServer() as server, pool_for(server) as pool:
        server.on(f"RCPT TO:<{BIA}", "550 5.1.1 no")
        with pytest.raises(PermanentError):
            await pool.send(outgoing(ANA, BIA), refuse)
        after = await outcome(pool.send(outgoing("after@b.co")))

    assert asked == [[ANA]]
    assert after[0] == {"after@b.co": ACCEPTED}
    assert [mail.recipients for mail in server.mails] == [["after@b.co"]]


@pytest.mark.parametrize("trouble", ["closed", "greeting", "421", "auth", "stalled"])
async def test_next_server_stands_in_while_one_lets_nobody_in(trouble: str) -> None:
    users = {"us": "secret"}
    async with SmtpServer(users=users) as first, SmtpServer() as second:
        url, stand_in = f"{first.url('us:secret')},{second.url()}", f"127.0.0.1:{second.port}"
        if trouble == "closed":
            await first.stop_listening()
        actions: dict[str, tuple[str, Action]] = {
            "greeting": ("CONNECT", "554 no"), "421": ("CONNECT", "421 busy"),
            "auth": ("AUTH", "535 5.7.8 no"), "stalled": ("EHLO", Silence()),
        }  # fmt: skip
        if trouble in actions:
            first.on(*actions[trouble], times=None)
        async with pool_for(url, timeout_seconds=1.0) as pool:
            results = [await pool.send(outgoing(ANA)) for _ in range(3)]
            probed = await pool.probe()

    assert [statuses(each) for each in results] == [{ANA: ACCEPTED}] * 3
    assert {each["server"] for each in results} == {stand_in}
    assert first.connections <= 2  # asked first once, and by the probe
    assert probed is None


async def test_mail_that_may_have_arrived_is_not_given_to_the_next_server() -> None:
    async with SmtpServer() as first, SmtpServer() as second:
        first.on(".", Cut())
        async with pool_for(f"{first.url()},{second.url()}") as pool:
            found = await outcome(pool.send(outgoing(ANA)))

    assert found[:2] == ({ANA: UNKNOWN}, "smtp_unreachable")
    assert second.mails == []


@pytest.mark.parametrize("action", [Cut(), "421 bye"], ids=str)
async def test_who_has_the_mail_gets_no_second_one_from_the_next_server(action: Action) -> None:
    everybody = [f"u{n}@b.co" for n in range(4)]
    async with SmtpServer() as first, SmtpServer() as second:
        first.most_recipients = 2
        async with pool_for(f"{first.url()},{second.url()}") as pool:
            await pool.send(outgoing("before@b.co"))
            # Of the mail's first lot, and then of the second one.
            first.on("MAIL", "250 ok")
            first.on("MAIL", action)
            found = await outcome(pool.send(outgoing(*everybody)))

    assert found[0] == dict(zip(everybody, [ACCEPTED, ACCEPTED, PENDING, PENDING], strict=True))
    assert [mail.recipients for mail in first.mails] == [["before@b.co"], everybody[:2]]
    assert second.mails == []


async def test_next_server_may_have_the_extension_that_one_lacks() -> None:
    without = ["8BITMIME", "SIZE 1000"]
    async with SmtpServer(extensions=without) as first, SmtpServer() as second:
        both = f"{first.url()},{second.url()}"
        async with pool_for(both) as pool:
            wide = await outcome(pool.send(outgoing("josé@b.co", utf8=True)))
            large = await outcome(pool.send(outgoing(ANA, source=b"x" * 999 + b"\r\n")))
        async with pool_for(first) as pool:
            alone = await outcome(pool.send(outgoing("josé@b.co", utf8=True)))
        await second.stop_listening()
        async with pool_for(both) as pool:
            away = await outcome(pool.send(outgoing("josé@b.co", utf8=True)))

    assert (wide[0], large[0]) == ({"josé@b.co": ACCEPTED}, {ANA: ACCEPTED})
    assert len(second.mails) == 2
    assert alone[:2] == ({"josé@b.co": REFUSED}, "smtp_utf8_unsupported")
    assert away[:2] == ({"josé@b.co": PENDING}, "smtp_unreachable")


async def test_what_was_said_of_a_recipient_stays_when_the_line_breaks_after_it() -> None:
    async with SmtpServer(extensions=PLAIN) as server, pool_for(server) as pool:
        server.on(f"RCPT TO:<{BIA}", "550 5.1.1 no")
        server.on("DATA", Cut())
        found = await outcome(pool.send(outgoing(ANA, BIA)))

    assert found[:2] == ({ANA: PENDING, BIA: REFUSED}, "smtp_unreachable")


async def test_only_when_no_server_lets_us_in_the_queue_is_to_pause() -> None:
    async with SmtpServer(users={"us": "x"}) as first, SmtpServer() as second:
        second.on("CONNECT", "421 busy", times=1)
        async with pool_for(f"{first.url('us:y')},{second.url()}") as pool:
            with pytest.raises(RetryLater) as busy:
                await pool.send(outgoing(ANA))
        async with pool_for(f"{first.url('us:y')},{first.url('us:z')}") as pool:
            with pytest.raises(RetryLater) as refused:
                await pool.send(outgoing(ANA))
            probed = await pool.probe()

    assert (busy.value.code, busy.value.pauses_queue) == ("smtp_temporary", False)
    assert (refused.value.code, refused.value.pauses_queue) == ("smtp_auth", True)
    assert refused.value.uses_attempt is False
    assert probed is not None
    assert "535" in probed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 5 minutes", 300),
        ("try again in 300 seconds", 300),
        ("4.2.0 Greylisted for 00:04:59", 299),
        ("Please retry after 2 hours", 7200),
        ("retry-after: 90s", 90),
        ("deferred, wait 10 min", 600),
        ("come back in 99 hours", 21600),
        ("4.7.1 try again later", None),
        ("in 0 seconds", None),
        ("queued as 5 minutes", None),
        ("id 451 in 5 mailboxes", None),
    ],
)
def test_wait_that_a_server_asks_for_is_read(text: str, seconds: float | None) -> None:
    assert asked_wait(Reply(451, text)) == seconds
    assert asked_wait(Reply(550, text)) is None


def test_enhanced_code_of_another_class_is_none() -> None:
    assert enhanced_code(Reply(550, "5.1.1 no")) == "5.1.1"
    assert enhanced_code(Reply(550, "5.1.1")) == "5.1.1"
    assert enhanced_code(Reply(450, "5.1.1 no")) is None
    assert enhanced_code(Reply(550, "no 5.1.1")) is None
    assert enhanced_code(Reply(550, "5.1.1.1 no")) is None


def test_only_who_is_named_has_no_mailbox() -> None:
    both = Delivery(outgoing(ANA, BIA))
    both.take_recipient(0, Reply(550, "5.1.1 no"))
    both.settle(Reply(550, "5.1.1 somebody"))
    alone = Delivery(outgoing(ANA))
    alone.settle(Reply(550, "5.1.1 no"))
    full = Delivery(outgoing(ANA))
    full.settle(Reply(552, "5.2.2 full"))

    assert [address for address, _ in both.without_mailbox()] == [ANA]
    assert [address for address, _ in alone.without_mailbox()] == [ANA]
    assert full.without_mailbox() == []


async def under_way(server: SmtpServer, count: int) -> None:
    await server.until(lambda: server.commands.count("DATA") >= count, f"{count} under way")


async def test_slow_domain_leaves_connections_to_the_others() -> None:
    async with SmtpServer() as server:
        hold = Hold("250 at last")
        async with pool_for(server, connections=4, domain_limit=3) as pool:
            server.on(".", hold, times=3)
            slow = [asyncio.create_task(pool.send(outgoing(f"u{n}@slow.co"))) for n in range(3)]
            await under_way(server, 3)
            with pytest.raises(RetryLater) as busy:
                await pool.send(outgoing("u9@SLOW.co", "x@quick.co"))
            quick = await pool.send(outgoing("a@quick.co"))
            hold.release.set()
            await asyncio.gather(*slow)
            again = await pool.send(outgoing("u9@slow.co"))

    assert (busy.value.code, busy.value.uses_attempt) == ("domain_busy", False)
    assert busy.value.delay_seconds is not None
    assert busy.value.delay_seconds >= 1
    assert statuses(quick) == {"a@quick.co": ACCEPTED}
    assert statuses(again) == {"u9@slow.co": ACCEPTED}


async def test_mails_that_are_sent_away_come_back_one_after_the_other() -> None:
    async with SmtpServer() as server:
        server.on("DATA", Silence(), times=None)
        async with pool_for(server, connections=4, domain_limit=1) as pool:
            first = asyncio.create_task(pool.send(outgoing("a@slow.co")))
            await under_way(server, 1)
            sent_away = [await outcome_of_turn(pool, f"u{n}@slow.co") for n in range(4)]
            first.cancel()

    assert sent_away == sorted(sent_away)
    assert len(set(sent_away)) == 4


async def outcome_of_turn(pool: Any, address: str) -> float:
    with pytest.raises(RetryLater) as caught:
        await pool.send(outgoing(address))
    assert caught.value.delay_seconds is not None
    return caught.value.delay_seconds


async def test_rate_of_a_domain_is_kept() -> None:
    async with SmtpServer() as server, pool_for(server, domain_rate=(3, 3600)) as pool:
        for n in range(3):
            await pool.send(outgoing(f"u{n}@b.co"))
        delays = [await outcome_of_turn(pool, f"v{n}@b.co") for n in range(2)]
        other = await pool.send(outgoing("a@c.co"))

    assert statuses(other) == {"a@c.co": ACCEPTED}
    assert all(200 < delay <= 300 for delay in delays)
    assert len(server.mails) == 4


async def test_domain_that_puts_mails_off_gets_fewer_at_once() -> None:
    async with SmtpServer() as server, pool_for(server, connections=4) as pool:
        server.on("RCPT TO:<u0@grey", "451 4.7.1 greylisted")
        await outcome(pool.send(outgoing("u0@grey.co")))
        hold = Hold("250 at last")
        server.on(".", hold, times=2)
        slow = [asyncio.create_task(pool.send(outgoing(f"u{n}@grey.co"))) for n in (1, 2)]
        await under_way(server, 3)  # the put off one's DATA among them
        busy = await outcome_of_turn(pool, "u3@grey.co")
        hold.release.set()
        await asyncio.gather(*slow)
        for n in range(8):
            await pool.send(outgoing(f"w{n}@grey.co"))
        four = await asyncio.gather(*(pool.send(outgoing(f"x{n}@grey.co")) for n in range(4)))

    assert busy >= 1
    assert [statuses(each) for each in four] == [{f"x{n}@grey.co": ACCEPTED} for n in range(4)]
