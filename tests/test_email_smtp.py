"""Handing mails to a server: what each of its replies comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobs.errors import PermanentError, RetryLater
from tests.email_pool import outgoing, pool_for, statuses
from tests.smtp_server import Cut, Silence, SmtpServer


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


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


async def test_refused_recipient_does_not_hold_up_the_others(server: SmtpServer) -> None:
    server.on("RCPT TO:<bad@", "550 5.1.1 no such user")
    async with pool_for(server) as pool:
        result = await pool.send(outgoing("ana@example.org", "bad@example.org"))

    assert statuses(result) == {"ana@example.org": "accepted", "bad@example.org": "refused"}
    assert result["recipients"][1]["code"] == 550
    assert server.mails[0].recipients == ["ana@example.org"]


@pytest.mark.parametrize("is_pipelined", [True, False])
async def test_all_recipients_refused_is_permanent(server: SmtpServer, is_pipelined: bool) -> None:
    if not is_pipelined:
        server.extensions.remove("PIPELINING")
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
    assert ("DATA" in server.commands) == is_pipelined
    assert server.mails == []


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


async def test_421_on_a_new_connection_asks_for_another_attempt(server: SmtpServer) -> None:
    server.on("MAIL", "421 busy")
    async with pool_for(server) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_temporary"
    assert server.connections == 1


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


def test_envelope_that_would_inject_a_command_is_never_sent() -> None:
    async def scenario() -> None:
        async with SmtpServer() as server, pool_for(server) as pool:
            with pytest.raises(ValueError, match="characters"):
                await pool.send(outgoing("a@b.co>\r\nRCPT TO:<evil@b.co"))
            assert not any("evil" in command for command in server.commands)

    asyncio.run(scenario())
