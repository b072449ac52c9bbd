"""Handing mails to a server: what each reply comes to, and that no connection goes on in doubt."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.email import smtp
from jobs.email.message import OutgoingEmail
from jobs.email.smtp import SmtpPool
from jobs.errors import PermanentError, RetryLater
from tests.smtp_server import Action, Cut, Hold, Silence, SmtpServer, make_certificate

SOURCE = b"Subject: hello\r\n\r\nhello\r\n"


def outgoing(*recipients: str, source: bytes = SOURCE, utf8: bool = False) -> OutgoingEmail:
    return OutgoingEmail(
        sender="shop@example.com",
        recipients=recipients or ("ana@example.org",),
        source=source,
        message_id="<1@example.com>",
        needs_smtputf8=utf8,
    )


@asynccontextmanager
async def pool_for(
    server: SmtpServer | str, *, connections: int = 4, timeout_seconds: float = 15.0
) -> AsyncIterator[SmtpPool]:
    url = server if isinstance(server, str) else server.url()
    pool = SmtpPool(url, connections=connections, timeout_seconds=timeout_seconds)
    try:
        yield pool
    finally:
        await pool.aclose()


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


def statuses(result: Any) -> dict[str, str]:
    return {found["address"]: found["status"] for found in result["recipients"]}


async def test_result_names_message_id_server_and_each_recipients_reply(server: SmtpServer) -> None:
    server.on(".", "250-2.0.0 queued\r\n250 as 4711")
    async with pool_for(server) as pool:
        result = await pool.send(outgoing("ana@example.org", "bia@example.org"))

    reply = {"status": "accepted", "code": 250, "reply": "2.0.0 queued as 4711"}
    assert result == {
        "message_id": "<1@example.com>",
        "recipients": [
            {"address": "ana@example.org", **reply},
            {"address": "bia@example.org", **reply},
        ],
        "server": f"127.0.0.1:{server.port}",
    }


async def test_server_gets_envelope_and_source_as_they_are(server: SmtpServer) -> None:
    source = b"Subject: dots\r\n\r\n.one\r\n..two\r\n.\r\nend\r\n"
    async with pool_for(server) as pool:
        await pool.send(outgoing("ana@example.org", "bia@example.org", source=source))

    mail = server.mails[0]
    assert (mail.sender, mail.recipients) == (
        "shop@example.com",
        ["ana@example.org", "bia@example.org"],
    )
    assert mail.source == source
    assert mail.mail_options == f"SIZE={len(source)}"


async def test_large_mail_arrives_whole(server: SmtpServer) -> None:
    source = b"Subject: large\r\n\r\n" + b".0123456789abcdef\r\n" * 200_000
    async with pool_for(server) as pool:
        await pool.send(outgoing(source=source))

    assert server.mails[0].source == source


async def test_connection_is_kept_for_the_next_mail(server: SmtpServer) -> None:
    async with pool_for(server) as pool:
        for _ in range(5):
            await pool.send(outgoing())

    assert [mail.connection for mail in server.mails] == [1] * 5


async def test_connection_takes_100_mails_and_no_more(server: SmtpServer) -> None:
    async with pool_for(server) as pool:
        for _ in range(101):
            await pool.send(outgoing())

    assert [mail.connection for mail in server.mails] == [1] * 100 + [2]


async def test_idle_connection_takes_leave(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "IDLE_SECONDS", 0.01)
    async with pool_for(server) as pool:
        await pool.send(outgoing())
        await server.seen("QUIT")
        await server.until(lambda: server.open == 0, "closed")
        await pool.send(outgoing())

    assert [mail.connection for mail in server.mails] == [1, 2]


async def test_closing_takes_leave_of_every_connection(server: SmtpServer) -> None:
    async with pool_for(server) as pool:
        await asyncio.gather(*(pool.send(outgoing()) for _ in range(3)))
    await server.until(lambda: server.open == 0, "all closed")

    assert server.commands.count("QUIT") == server.connections


async def test_64_mails_at_once_share_the_allowed_connections(server: SmtpServer) -> None:
    async with pool_for(server, connections=4) as pool:
        results = await asyncio.gather(*(pool.send(outgoing(f"u{n}@b.co")) for n in range(64)))

    assert server.peak == server.connections == 4
    assert sorted(mail.recipients[0] for mail in server.mails) == sorted(
        f"u{n}@b.co" for n in range(64)
    )
    assert {status for result in results for status in statuses(result).values()} == {"accepted"}


async def test_refused_recipient_does_not_hold_up_the_others(server: SmtpServer) -> None:
    server.on("RCPT TO:<bad@", "550 5.1.1 no such user")
    async with pool_for(server) as pool:
        result = await pool.send(outgoing("ana@example.org", "bad@example.org"))

    assert statuses(result) == {"ana@example.org": "accepted", "bad@example.org": "refused"}
    assert result["recipients"][1]["code"] == 550
    assert server.mails[0].recipients == ["ana@example.org"]


async def test_all_recipients_refused_is_permanent(server: SmtpServer) -> None:
    server.on("RCPT", "550 5.1.1 <ana@example.org>: unknown here", times=None)
    async with pool_for(server) as pool:
        with pytest.raises(PermanentError) as caught:
            await pool.send(outgoing("ana@example.org", "bia@example.org"))

    assert caught.value.code == "smtp_permanent"
    assert statuses(caught.value.result) == {
        "ana@example.org": "refused",
        "bia@example.org": "refused",
    }
    assert "550 5.1.1" in str(caught.value)
    assert "ana@example.org" not in str(caught.value)
    assert "DATA" not in server.commands


@pytest.mark.parametrize("step", ["MAIL", "DATA", "."])
async def test_5xx_for_the_mail_is_permanent(server: SmtpServer, step: str) -> None:
    server.on(step, "554 5.7.1 spam")
    async with pool_for(server) as pool:
        with pytest.raises(PermanentError) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_permanent"
    assert caught.value.result["recipients"] == [
        {"address": "ana@example.org", "status": "refused", "code": 554, "reply": "5.7.1 spam"}
    ]


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
async def test_4xx_asks_for_another_attempt(server: SmtpServer, step: str) -> None:
    server.on(step, "451 4.7.1 greylisted")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_temporary"
    assert statuses(caught.value.result) == {"ana@example.org": "pending"}
    assert "451 4.7.1 greylisted" in str(caught.value)


async def test_partly_deferred_mail_tells_who_has_it(server: SmtpServer) -> None:
    server.on("RCPT TO:<later@", "452 4.2.2 full")
    server.on("RCPT TO:<never@", "550 no")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing("now@b.co", "later@b.co", "never@b.co"))

    assert statuses(caught.value.result) == {
        "now@b.co": "accepted",
        "later@b.co": "pending",
        "never@b.co": "refused",
    }


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", ["451", "554"])
async def test_connection_stays_fit_after_a_failed_mail(
    server: SmtpServer, step: str, code: str
) -> None:
    server.on(step, f"{code} not this one")
    async with pool_for(server) as pool:
        with pytest.raises((RetryLater, PermanentError)):
            await pool.send(outgoing("bad@b.co"))
        await pool.send(outgoing("good@b.co"))

    assert [(mail.recipients, mail.connection) for mail in server.mails] == [(["good@b.co"], 1)]
    assert "RSET" in server.commands


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_lost_line_before_the_end_of_the_message_is_pending(
    server: SmtpServer, step: str
) -> None:
    server.on(step, Cut())
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())
        await pool.send(outgoing())

    assert caught.value.code == "smtp_unreachable"
    assert statuses(caught.value.result) == {"ana@example.org": "pending"}
    assert len(server.mails) == 1


async def test_lost_line_after_the_end_of_the_message_is_unknown(server: SmtpServer) -> None:
    server.on(".", Cut())
    server.on("RCPT TO:<bad@", "550 no")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing("ana@example.org", "bad@b.co"))

    assert caught.value.code == "smtp_unreachable"
    assert statuses(caught.value.result) == {"ana@example.org": "unknown", "bad@b.co": "refused"}


@pytest.mark.parametrize("step", ["CONNECT", "."])
async def test_silent_server_is_a_timeout_and_its_line_is_dropped(
    server: SmtpServer, step: str
) -> None:
    server.on(step, Silence())
    async with pool_for(server, timeout_seconds=1.0) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())
        await pool.send(outgoing())

    assert caught.value.code == "smtp_timeout"
    assert [mail.connection for mail in server.mails][-1] == 2


async def test_nobody_listening_asks_for_another_attempt(server: SmtpServer) -> None:
    url = server.url()
    await server.stop_listening()
    async with pool_for(url) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_unreachable"
    assert statuses(caught.value.result) == {"ana@example.org": "pending"}


@pytest.mark.parametrize(
    ("greeting", "code"), [("421 busy", "smtp_temporary"), ("554 go away", "smtp_unreachable")]
)
async def test_server_that_takes_no_mail_now_asks_for_another_attempt(
    server: SmtpServer, greeting: str, code: str
) -> None:
    server.on("CONNECT", greeting)
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == code
    assert greeting in str(caught.value)


async def test_connection_that_died_idle_is_replaced_unseen(server: SmtpServer) -> None:
    async with pool_for(server) as pool:
        await pool.send(outgoing())
        server.cut_all()
        await server.until(lambda: server.open == 0, "cut")
        result = await pool.send(outgoing())

    assert statuses(result) == {"ana@example.org": "accepted"}
    assert [mail.connection for mail in server.mails] == [1, 2]


@pytest.mark.parametrize("farewell", [Cut(), "421 4.4.2 idle too long"])
async def test_connection_that_dies_at_the_next_mail_is_replaced_unseen(
    server: SmtpServer, farewell: Cut | str
) -> None:
    async with pool_for(server) as pool:
        await pool.send(outgoing())
        server.on("MAIL", farewell)
        result = await pool.send(outgoing())

    assert statuses(result) == {"ana@example.org": "accepted"}
    assert [mail.connection for mail in server.mails] == [1, 2]


async def test_421_on_a_new_connection_asks_for_another_attempt(server: SmtpServer) -> None:
    server.on("MAIL", "421 busy")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_temporary"
    assert server.connections == 1


async def test_connection_that_answers_too_much_is_not_handed_on(server: SmtpServer) -> None:
    server.on(".", "250 queued\r\n250 and once more")
    async with pool_for(server) as pool:
        await pool.send(outgoing("first@b.co"))
        await pool.send(outgoing("second@b.co"))

    assert [(mail.recipients, mail.connection) for mail in server.mails] == [
        (["first@b.co"], 1),
        (["second@b.co"], 2),
    ]


@pytest.mark.parametrize("nonsense", ["hello", "25", "250_ok", "99999 ok"])
async def test_answer_that_is_no_smtp_asks_for_another_attempt(
    server: SmtpServer, nonsense: str
) -> None:
    server.on("RCPT", nonsense)
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_unreachable"


async def test_endless_answer_is_cut_off(server: SmtpServer) -> None:
    server.on("MAIL", "250-more\r\n" * 10_000 + "250 end")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_unreachable"


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET"])
async def test_cancelled_mail_leaves_the_pool_healthy(server: SmtpServer, step: str) -> None:
    hold = Hold("250 late")
    async with pool_for(server, connections=1) as pool:
        if step == "RSET":
            server.on("MAIL", "451 later")
            with pytest.raises(RetryLater):
                await pool.send(outgoing("deferred@b.co"))
        server.on(step, hold)
        sending = asyncio.create_task(pool.send(outgoing("cancelled@b.co")))
        await server.seen(step)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        hold.release.set()
        results = [await pool.send(outgoing(f"u{n}@b.co")) for n in range(3)]

    assert [statuses(result) for result in results] == [
        {f"u{n}@b.co": "accepted"} for n in range(3)
    ]
    later = [mail for mail in server.mails if mail.recipients != ["cancelled@b.co"]]
    assert [(mail.recipients, mail.connection) for mail in later] == [
        ([f"u{n}@b.co"], 2) for n in range(3)
    ]


async def test_cancelled_while_waiting_for_a_connection_takes_none(server: SmtpServer) -> None:
    hold = Hold("250 ok")
    server.on(".", hold)
    async with pool_for(server, connections=1) as pool:
        first = asyncio.create_task(pool.send(outgoing("first@b.co")))
        await server.seen(".")
        waiting = asyncio.create_task(pool.send(outgoing("waiting@b.co")))
        await asyncio.sleep(0)
        waiting.cancel()
        hold.release.set()
        await first
        await pool.send(outgoing("third@b.co"))

    assert waiting.cancelled()
    assert [mail.recipients for mail in server.mails] == [["first@b.co"], ["third@b.co"]]


async def test_no_mail_gets_anothers_envelope_or_reply_whatever_is_cancelled() -> None:
    chance = random.Random(4711)
    failures: list[Action] = [Cut(), "451 later", "554 never", "250 ok\r\n250 ok", "421 bye", "hm"]
    async with SmtpServer() as server, pool_for(server, connections=8) as pool:

        async def send_and_perhaps_cancel(number: int) -> Any:
            address = f"u{number}@b.co"
            sending = asyncio.create_task(
                pool.send(outgoing(address, source=f"Subject: {number}\r\n\r\nx\r\n".encode()))
            )
            if chance.random() < 0.3:
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                sending.cancel()
            try:
                return await sending
            except (asyncio.CancelledError, RetryLater, PermanentError):
                return None

        for _ in range(60):
            server.on(chance.choice(["MAIL", "RCPT", "DATA", ".", "RSET"]), chance.choice(failures))
        results = await asyncio.gather(*(send_and_perhaps_cancel(n) for n in range(400)))
        last = await asyncio.gather(*(pool.send(outgoing(f"z{n}@b.co")) for n in range(16)))

    got = {mail.recipients[0]: mail.source for mail in server.mails if mail.recipients}
    for number, result in enumerate(results):
        address = f"u{number}@b.co"
        if address in got:
            assert got[address] == f"Subject: {number}\r\n\r\nx\r\n".encode()
        if result is not None:
            assert statuses(result) == {address: "accepted"}
            assert address in got
    assert all(set(statuses(result).values()) == {"accepted"} for result in last)


async def test_closing_cuts_off_what_is_under_way(server: SmtpServer) -> None:
    server.on("DATA", Silence())
    async with pool_for(server) as pool:
        sending = asyncio.create_task(pool.send(outgoing()))
        await server.seen("DATA")
        await pool.aclose()
        with pytest.raises(RetryLater) as caught:
            await sending

    assert caught.value.code == "smtp_unreachable"


async def test_smtputf8_is_asked_for_where_it_is_needed(server: SmtpServer) -> None:
    async with pool_for(server) as pool:
        await pool.send(outgoing("josé@example.org", utf8=True))

    assert server.mails[0].recipients == ["josé@example.org"]
    assert server.mails[0].mail_options.endswith("BODY=8BITMIME SMTPUTF8")


async def test_smtputf8_needed_and_not_offered_is_permanent() -> None:
    async with SmtpServer(extensions=[]) as server, pool_for(server) as pool:
        with pytest.raises(PermanentError) as caught:
            await pool.send(outgoing("josé@example.org", utf8=True))
        await pool.send(outgoing("jose@example.org"))

        assert caught.value.code == "smtp_utf8_unsupported"
        assert statuses(caught.value.result) == {"josé@example.org": "refused"}
        assert server.connections == 1
        assert server.mails[0].mail_options == ""


async def test_server_that_knows_no_ehlo_gets_helo(server: SmtpServer) -> None:
    server.on("EHLO", "502 what?")
    async with pool_for(server) as pool:
        await pool.send(outgoing())

    assert any(command.startswith("HELO") for command in server.commands)
    assert len(server.mails) == 1


async def test_reply_in_the_result_is_short_and_one_line(server: SmtpServer) -> None:
    server.on(".", "250 ok\x1b[31m\x00 " + "x" * 2000)
    async with pool_for(server) as pool:
        result = await pool.send(outgoing())

    reply = result["recipients"][0]["reply"]
    assert len(reply) == 300
    assert reply.isprintable()


async def test_user_and_password_are_percent_decoded() -> None:
    async with (
        SmtpServer(users={"me@example.com": "p:w/d é"}) as server,
        pool_for(server.url("me%40example.com:p%3Aw%2Fd%20%C3%A9")) as pool,
    ):
        await pool.send(outgoing())
        await pool.send(outgoing())

        assert server.signed_in == ["me@example.com"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [("535 5.7.8 me@example.com: no", "smtp_auth"), ("454 later", "smtp_temporary")],
)
async def test_failed_sign_in_asks_for_another_attempt(reply: str, code: str) -> None:
    async with SmtpServer(users={}) as server, pool_for(server.url("me:secret")) as pool:
        server.on("AUTH", reply)
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

        assert caught.value.code == code
        assert "secret" not in str(caught.value)
        assert "me@example.com" not in str(caught.value)


@pytest.mark.parametrize("reply", ["535 no", Silence()])
async def test_failed_or_cancelled_sign_in_leaves_no_line_open(reply: str | Silence) -> None:
    async with SmtpServer(users={}) as server, pool_for(server.url("me:secret")) as pool:
        server.on("AUTH", reply)
        sending = asyncio.create_task(pool.send(outgoing()))
        await server.seen("AUTH")
        if isinstance(reply, Silence):
            sending.cancel()
        with pytest.raises((RetryLater, asyncio.CancelledError)):
            await sending

        await server.until(lambda: server.open == 0, "closed")


async def test_server_without_sign_in_is_an_auth_failure(server: SmtpServer) -> None:
    async with pool_for(server.url("me:secret")) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_auth"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """A server's TLS whose certificate this machine trusts, by the name localhost."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    return certificate[1]


@pytest.mark.parametrize("query", ["", "?tls=required"])
async def test_starttls_is_used_when_offered(trusted: ssl.SSLContext, query: str) -> None:
    async with (
        SmtpServer(tls=trusted, users={"me": "secret"}) as server,
        pool_for(server.url("me:secret", host="localhost", query=query)) as pool,
    ):
        await pool.send(outgoing())
        await pool.send(outgoing())

        assert (server.secured, server.connections) == (1, 1)
        assert server.commands.index("STARTTLS") < server.commands.index("AUTH")
        assert len(server.mails) == 2


async def test_smtps_speaks_tls_from_the_start(trusted: ssl.SSLContext) -> None:
    async with (
        SmtpServer(tls=trusted, implicit_tls=True) as server,
        pool_for(server.url(host="localhost")) as pool,
    ):
        await asyncio.gather(*(pool.send(outgoing()) for _ in range(8)))

        assert len(server.mails) == 8


async def test_cancelled_mail_over_tls_leaves_the_pool_healthy(trusted: ssl.SSLContext) -> None:
    async with (
        SmtpServer(tls=trusted, implicit_tls=True) as server,
        pool_for(server.url(host="localhost"), connections=1) as pool,
    ):
        server.on("DATA", Silence())
        sending = asyncio.create_task(pool.send(outgoing()))
        await server.seen("DATA")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await pool.send(outgoing())

        assert [mail.connection for mail in server.mails] == [2]


async def test_tls_none_leaves_an_offered_starttls_alone(trusted: ssl.SSLContext) -> None:
    async with (
        SmtpServer(tls=trusted) as server,
        pool_for(server.url(host="localhost", query="?tls=none")) as pool,
    ):
        await pool.send(outgoing())

        assert server.secured == 0


async def test_tls_required_and_not_offered_sends_nothing(server: SmtpServer) -> None:
    async with pool_for(server.url("me:secret", query="?tls=required")) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_tls"
    assert "AUTH" not in server.commands
    assert not server.mails


@pytest.mark.parametrize("implicit", [False, True])
async def test_untrusted_certificate_is_a_tls_failure(
    certificate: tuple[Path, ssl.SSLContext], implicit: bool
) -> None:
    async with (
        SmtpServer(tls=certificate[1], implicit_tls=implicit) as server,
        pool_for(server.url(host="localhost")) as pool,
    ):
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

        assert caught.value.code == "smtp_tls"
        assert "certificate" in str(caught.value)
        assert not server.mails


async def test_plain_server_behind_smtps_is_a_tls_failure(server: SmtpServer) -> None:
    async with pool_for(server.url().replace("smtp:", "smtps:")) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_tls"


async def test_refused_starttls_is_a_tls_failure(trusted: ssl.SSLContext) -> None:
    async with (
        SmtpServer(tls=trusted) as server,
        pool_for(server.url(host="localhost")) as pool,
    ):
        server.on("STARTTLS", "454 not now")
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

        assert caught.value.code == "smtp_tls"


@pytest.mark.parametrize(
    "url",
    ["http://host", "smtp://", "smtp://host?tls=maybe", "smtp://h?timeout=1", "smtps://h?tls=none"],
)
def test_url_that_names_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"tls=|smtp"):
        SmtpPool(url, connections=1, timeout_seconds=1.0)


def test_envelope_that_would_inject_a_command_is_never_sent() -> None:
    async def scenario() -> None:
        async with SmtpServer() as server, pool_for(server) as pool:
            with pytest.raises(ValueError, match="characters"):
                await pool.send(outgoing("a@b.co>\r\nRCPT TO:<evil@b.co"))
            assert not any("evil" in command for command in server.commands)

    asyncio.run(scenario())
