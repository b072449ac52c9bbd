"""Connections are reused, and never go on in doubt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobs.email import server_pool as smtp
from jobs.errors import PermanentError, RetryLater
from tests.email_pool import outgoing, pool_for, statuses
from tests.smtp_server import Action, Cut, Hold, Silence, SmtpServer


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


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
