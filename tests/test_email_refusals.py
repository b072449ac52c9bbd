"""A mail server that lets us in and takes nothing: known after a handful, and no sooner."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from jobs.email import refusals
from jobs.email.smtp import SmtpPool
from jobs.errors import PermanentError, RetryLater
from tests.email_pool import outgoing, pool_for
from tests.smtp_server import SmtpServer

REFUSED = "it refuses every recipient for good: 550 5.7.1 not now"


@dataclass(frozen=True)
class Scene:
    server: SmtpServer
    pool: SmtpPool

    async def send(self, *recipients: str) -> None:
        with contextlib.suppress(PermanentError, RetryLater):
            await self.pool.send(outgoing(*recipients))

    async def send_to_each(self, *names: int) -> None:
        for name in names:
            await self.send(f"customer{name}@shop.example")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with SmtpServer() as server, pool_for(server) as pool:
        yield Scene(server, pool)


@pytest.mark.parametrize("verb", ["RCPT", "MAIL", "DATA"])
async def test_server_that_refuses_all_is_known_after_five_mails(scene: Scene, verb: str) -> None:
    scene.server.on(verb, "550 5.7.1 not now", times=None)

    await scene.send_to_each(1, 2, 3, 4)
    before = scene.pool.refusal()
    await scene.send_to_each(5)

    assert (before, scene.pool.refusal()) == (None, REFUSED)
    # It lets us in: that is another question, and a queue that paused itself for it goes on.
    assert await scene.pool.probe() is None


async def test_one_bad_address_or_one_bad_mail_is_no_fault_of_the_server(scene: Scene) -> None:
    scene.server.on("RCPT", "550 5.1.1 no", times=None)

    await scene.send_to_each(*[1] * 8, *[2] * 8)
    one_mail = [f"customer{number}@shop.example" for number in range(20)]
    async with pool_for(scene.server) as other:
        with pytest.raises(PermanentError):
            await other.send(outgoing(*one_mail))

        assert (scene.pool.refusal(), other.refusal()) == (None, None)


async def test_wrong_addresses_are_no_fault_of_the_server_unless_there_are_many(
    scene: Scene,
) -> None:
    scene.server.on("RCPT", "550 5.1.1 no", times=None)

    await scene.send_to_each(*range(19))
    before = scene.pool.refusal()
    await scene.send_to_each(19)

    assert before is None
    assert scene.pool.refusal() == "it refuses every recipient for good: 550 5.1.1 no"


async def test_mail_that_is_taken_by_anybody_ends_it(scene: Scene) -> None:
    scene.server.on("RCPT", "550 5.7.1 not now", times=None)
    await scene.send_to_each(*range(6))
    refused = scene.pool.refusal()
    scene.server.forget_rules()
    scene.server.on("RCPT TO:<bad", "550 5.7.1 not now", times=None)

    await scene.send("good@shop.example", "bad@shop.example")
    taken = scene.pool.refusal()
    scene.server.on("RCPT", "550 5.7.1 not now", times=None)
    await scene.send_to_each(1, 2, 3, 4)

    assert (refused, taken, scene.pool.refusal()) == (REFUSED, None, None)


async def test_what_is_to_be_tried_again_is_no_refusal(scene: Scene) -> None:
    scene.server.on("RCPT", "450 4.7.1 later", times=None)

    await scene.send_to_each(*range(6))

    assert scene.pool.refusal() is None


async def test_it_is_forgotten_when_no_mail_was_sent_for_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.server.on("RCPT", "550 5.7.1 not now", times=None)
    monkeypatch.setattr(refusals, "KEPT_SECONDS", 0.0)

    await scene.send_to_each(*range(6))

    assert scene.pool.refusal() is None


async def test_what_the_server_says_names_no_address(scene: Scene) -> None:
    scene.server.on("RCPT", "550 5.7.1 <ana@shop.example> not now", times=None)

    await scene.send_to_each(*range(6))

    assert scene.pool.refusal() == REFUSED.replace("5.7.1", "5.7.1 <[address]>")
