"""Opening a connection: TLS, user and password."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from jobs.email import admission
from jobs.email.smtp import SmtpPool
from jobs.errors import RetryLater
from tests.email_pool import outgoing, pool_for
from tests.smtp_server import CERTIFICATE, Cut, Silence, SmtpServer, server_tls


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


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


async def test_wrong_password_is_said_once_whoever_waits() -> None:
    async with (
        SmtpServer(users={"me": "new"}) as server,
        pool_for(server.url("me:old"), connections=64) as pool,
    ):
        sending = (pool.send(outgoing(f"u{n}@b{n}.co")) for n in range(64))
        refused = await asyncio.gather(*sending, return_exceptions=True)
        tried = server.commands.count("AUTH")
        server.users = {"me": "old"}
        assert await pool.probe() is None
        await asyncio.gather(*(pool.send(outgoing(f"u{n}@b{n}.co")) for n in range(64)))
        server.users = {"me": "newer"}
        server.cut_all()
        await server.until(lambda: server.open == 0, "cut")
        before = server.commands.count("AUTH")
        sending = (pool.send(outgoing(f"u{n}@b{n}.co")) for n in range(64))
        again = await asyncio.gather(*sending, return_exceptions=True)
        tried_again = server.commands.count("AUTH") - before

        # Nor by probes, which come back and back while the queue is paused.
        probed = {await pool.probe() for _ in range(5)}
        by_probes = server.commands.count("AUTH") - before - tried_again

    codes = {each.code for each in refused + again if isinstance(each, RetryLater)}
    assert (codes, len(refused), len(again)) == ({"smtp_auth"}, 64, 64)
    assert all(isinstance(each, RetryLater) and each.pauses_queue for each in refused + again)
    assert (tried, tried_again, by_probes) == (1, 1, 1)
    assert len(probed) == 1
    assert "535" in str(probed.pop())
    assert len(server.mails) == 64


async def test_those_who_wait_for_a_first_sign_in_go_on_when_it_is_given_up() -> None:
    async with SmtpServer(users={"me": "x"}) as server, pool_for(server.url("me:x")) as pool:
        server.on("AUTH", Silence())
        first = asyncio.create_task(pool.send(outgoing()))
        await server.seen("AUTH")
        others = [asyncio.create_task(pool.send(outgoing())) for _ in range(3)]
        await asyncio.sleep(0)
        others[0].cancel()
        first.cancel()
        await asyncio.gather(first, *others, return_exceptions=True)

        assert [each.cancelled() for each in (first, *others)] == [True, True, False, False]
        assert len(server.mails) == 2


@pytest.mark.parametrize(
    ("methods", "refusals", "tried"),
    [
        ("PLAIN LOGIN CRAM-MD5", ["535 no"], ["CRAM-MD5", "PLAIN"]),
        ("PLAIN LOGIN", [], ["PLAIN"]),
        ("LOGIN", [], ["LOGIN"]),
        ("XOAUTH2", [], []),
    ],
)
async def test_wrong_password_is_not_said_in_every_way_that_there_is(
    methods: str, refusals: list[str], tried: list[str]
) -> None:
    async with (
        SmtpServer(extensions=[f"AUTH {methods}"]) as server,
        pool_for(server.url("me:wrong")) as pool,
    ):
        for refusal in refusals:
            server.on("AUTH", refusal)
        server.on("AUTH", "535 5.7.8 no", times=None)
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_auth"
    assert server.methods == tried


async def test_method_that_a_server_only_claims_to_know_is_passed_over() -> None:
    async with (
        SmtpServer(extensions=["AUTH CRAM-MD5"], users={"me": "secret"}) as server,
        pool_for(server.url("me:secret")) as pool,
    ):
        server.on("AUTH", "504 5.5.4 unrecognized")
        await pool.send(outgoing())

        assert server.methods == ["CRAM-MD5", "PLAIN"]
        assert len(server.mails) == 1


async def test_server_without_sign_in_is_an_auth_failure(server: SmtpServer) -> None:
    async with pool_for(server.url("me:secret")) as pool:
        with pytest.raises(RetryLater) as caught:
            await pool.send(outgoing())

    assert caught.value.code == "smtp_auth"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS whose certificate this machine trusts, by the name localhost."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    return server_tls()


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


@pytest.mark.parametrize(("query", "readings"), [("?tls=none", 0), ("?tls=required", 1)])
async def test_certificates_are_read_when_tls_is_spoken_and_once(
    trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, query: str, readings: int
) -> None:
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def read() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", read)
    async with (
        SmtpServer(tls=trusted) as server,
        pool_for(server.url(host="localhost", query=query)) as pool,
    ):
        await asyncio.gather(*(pool.send(outgoing()) for _ in range(3)))
        assert len(server.mails) == 3

    assert len(made) == readings


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
    implicit: bool,
) -> None:
    async with (
        SmtpServer(tls=server_tls(), implicit_tls=implicit) as server,
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


async def test_server_that_is_silent_to_all_mails_counts_as_unreachable() -> None:
    """As behind a firewall: what waits takes every slot, and the probe finds none."""
    async with SmtpServer() as server, pool_for(server, connections=2) as pool:
        server.on("CONNECT", Cut())
        with pytest.raises(RetryLater):
            await pool.send(outgoing())
        server.on("CONNECT", Silence())
        sending = [asyncio.create_task(pool.send(outgoing(f"u{n}@b.co"))) for n in range(3)]
        await server.seen("CONNECT", 2)
        probed = await pool.probe()
        for each in sending:
            each.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        again = await pool.probe()

    assert probed is not None
    assert again is None


async def test_mail_under_way_says_that_the_server_is_reachable() -> None:
    async with SmtpServer() as server, pool_for(server, connections=1) as pool:
        server.on("CONNECT", Cut())
        with pytest.raises(RetryLater):
            await pool.send(outgoing())
        server.on("MAIL", Silence())
        sending = asyncio.create_task(pool.send(outgoing()))
        await server.seen("MAIL")
        probed = await pool.probe()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    assert probed is None


async def test_who_lets_us_in_and_takes_no_mail_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relay without our password: each probe would be let in, and the queue go on at once."""
    now = 1000.0
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now))
    waits = []
    async with SmtpServer() as server, pool_for(server) as pool:
        server.on("MAIL", "530 5.7.0 Authentication required", times=None)
        for _ in range(5):
            await asyncio.gather(
                *(pool.send(outgoing(f"u{n}@b.co")) for n in range(4)), return_exceptions=True
            )
            refused_at = now
            while await pool.probe() is not None:
                now += 1.0
            waits.append(now - refused_at)
        server.forget_rules()
        await pool.send(outgoing())
        server.on("MAIL", "530 5.7.0 Authentication required")
        with pytest.raises(RetryLater):
            await pool.send(outgoing())
        probed = await pool.probe()
        now += 2.0
        after_a_mail = await pool.probe()

    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0]
    assert "530" in str(probed)
    assert after_a_mail is None
