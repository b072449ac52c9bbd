"""The job `email.send`: its attempts taken together, and the dry run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from jobs import catalog
from jobs.context import JobContext
from jobs.email.job import send
from jobs.email.params import EmailParams
from jobs.email.smtp import SmtpPool
from jobs.errors import PermanentError, RetryLater
from tests.email_pool import outgoing
from tests.smtp_server import Cut, Silence, SmtpServer

JOB_ID = "0653a1b2c3d4e0123456789abcdef012345"


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


@pytest.fixture
async def pool(server: SmtpServer) -> AsyncIterator[SmtpPool]:
    pool = SmtpPool(server.url(), connections=2, timeout_seconds=15.0)
    yield pool
    await pool.aclose()


def params(*to: str) -> EmailParams:
    return EmailParams.model_validate(
        {"from": "shop@example.com", "to": list(to), "subject": "Hi", "text": "Hello"}
    )


def statuses(result: Any) -> dict[str, str]:
    return {found["address"]: found["status"] for found in result["recipients"]}


def test_type_is_registered_with_the_documented_defaults() -> None:
    found = catalog.load().get("email.send")

    assert (found.queue, found.max_attempts, found.timeout_seconds) == ("email", 8, 60.0)
    assert found.is_async
    assert found.params is EmailParams


async def test_mail_is_sent_with_a_message_id_of_the_job(
    server: SmtpServer, pool: SmtpPool
) -> None:
    result = await send(params("ana@example.org"), JobContext(job_id=JOB_ID, mail=pool))

    assert result["message_id"] == f"<{JOB_ID}@example.com>"
    assert statuses(result) == {"ana@example.org": "accepted"}
    assert f"Message-ID: <{JOB_ID}@example.com>\r\n".encode() in server.mails[0].source


async def test_retry_reaches_only_those_not_yet_accepted(
    server: SmtpServer, pool: SmtpPool
) -> None:
    server.on("RCPT TO:<later@", "451 greylisted")
    server.on("RCPT TO:<never@", "550 no such user")
    mail = params("now@b.co", "later@b.co", "never@b.co")
    with pytest.raises(RetryLater) as caught:
        await send(mail, JobContext(job_id=JOB_ID, mail=pool))
    result = await send(
        mail, JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=caught.value.result)
    )

    assert [found.recipients for found in server.mails] == [["now@b.co"], ["later@b.co"]]
    assert result["recipients"] == [
        {"address": "now@b.co", "status": "accepted", "code": 250, "reply": "queued"},
        {"address": "later@b.co", "status": "accepted", "code": 250, "reply": "queued"},
        {"address": "never@b.co", "status": "refused", "code": 550, "reply": "no such user"},
    ]


async def test_failed_retry_still_tells_of_everyone(server: SmtpServer, pool: SmtpPool) -> None:
    server.on("RCPT TO:<later@", "451 greylisted", times=None)
    mail = params("now@b.co", "later@b.co")
    previous = None
    for attempt in (1, 2, 3):
        with pytest.raises(RetryLater) as caught:
            await send(
                mail,
                JobContext(job_id=JOB_ID, mail=pool, attempt=attempt, previous_result=previous),
            )
        previous = caught.value.result

        assert caught.value.code == "smtp_temporary"
        assert statuses(previous) == {"now@b.co": "accepted", "later@b.co": "pending"}
    assert len(server.mails) == 1


async def test_refusal_of_the_rest_finishes_a_job_that_reached_someone(
    server: SmtpServer, pool: SmtpPool
) -> None:
    server.on("RCPT TO:<later@", "451 greylisted")
    server.on("RCPT TO:<later@", "550 no")
    mail = params("now@b.co", "later@b.co")
    with pytest.raises(RetryLater) as caught:
        await send(mail, JobContext(job_id=JOB_ID, mail=pool))
    result = await send(
        mail, JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=caught.value.result)
    )

    assert statuses(result) == {"now@b.co": "accepted", "later@b.co": "refused"}


async def test_unknown_outcome_is_sent_again(server: SmtpServer, pool: SmtpPool) -> None:
    server.on(".", Cut())
    with pytest.raises(RetryLater) as caught:
        await send(params("a@b.co"), JobContext(job_id=JOB_ID, mail=pool))
    assert statuses(caught.value.result) == {"a@b.co": "unknown"}

    result = await send(
        params("a@b.co"),
        JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=caught.value.result),
    )

    assert statuses(result) == {"a@b.co": "accepted"}


async def test_what_the_server_said_is_not_lost_when_the_time_is_up(
    server: SmtpServer, pool: SmtpPool
) -> None:
    server.extensions.remove("PIPELINING")
    server.on("RCPT TO:<never@", "550 5.7.1 no")
    server.on("RCPT TO:<slow@", Silence())
    mail = params("never@a.co", "slow@b.co")
    await pool.send(outgoing("first@b.co"))  # so that all of the time is for the dialogue
    context = JobContext(job_id=JOB_ID, mail=pool, timeout_seconds=1.0)
    with pytest.raises(RetryLater) as caught:
        await send(mail, context)
    again = await send(
        mail, JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=caught.value.result)
    )

    assert caught.value.code == "smtp_timeout"
    assert statuses(caught.value.result) == {"never@a.co": "refused", "slow@b.co": "pending"}
    assert statuses(again) == {"never@a.co": "refused", "slow@b.co": "accepted"}


async def test_operators_retry_asks_again_for_those_refused(
    server: SmtpServer, pool: SmtpPool
) -> None:
    server.on("RCPT", "550 no")
    with pytest.raises(PermanentError) as caught:
        await send(params("a@b.co"), JobContext(job_id=JOB_ID, mail=pool))
    result = await send(
        params("a@b.co"),
        JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=caught.value.result),
    )

    assert statuses(result) == {"a@b.co": "accepted"}


async def test_nobody_gets_a_second_mail_when_all_have_it(
    server: SmtpServer, pool: SmtpPool
) -> None:
    first = await send(params("a@b.co"), JobContext(job_id=JOB_ID, mail=pool))
    again = await send(
        params("a@b.co"), JobContext(job_id=JOB_ID, mail=pool, attempt=2, previous_result=first)
    )

    assert again == first
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    "previous",
    [
        "gone",
        [],
        {},
        {"recipients": "x"},
        {"recipients": [7, {}, {"address": 1, "status": "accepted"}]},
        {"message_id": "<other@b.co>", "recipients": [{"address": "a@b.co", "status": "accepted"}]},
    ],
)
async def test_previous_result_that_makes_no_sense_is_passed_over(
    server: SmtpServer, pool: SmtpPool, previous: Any
) -> None:
    await send(params("a@b.co"), JobContext(job_id=JOB_ID, mail=pool, previous_result=previous))

    assert len(server.mails) == 1


async def test_dry_run_shows_the_mail_and_sends_nothing(server: SmtpServer, pool: SmtpPool) -> None:
    result = await send(
        params("ana@example.org"), JobContext(job_id=JOB_ID, mail=pool, dry_run=True)
    )

    assert result["source"].endswith("\r\n\r\nHello\r\n")
    assert {**result, "source": ...} == {
        "dry_run": True,
        "message_id": f"<{JOB_ID}@example.com>",
        "recipients": [
            {"address": "ana@example.org", "status": "pending", "code": None, "reply": None}
        ],
        "server": None,
        "size_bytes": len(result["source"]),
        "source": ...,
    }
    assert server.connections == 0


class Remembered:
    """`context.suppressions` of a test."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = set(addresses)

    async def among(self, addresses: Sequence[str]) -> set[str]:
        return self.addresses & set(addresses)

    async def add(self, address: str, code: int, reply: str) -> None:
        self.addresses.add(address)


async def test_dry_run_tells_who_is_suppressed() -> None:
    context = JobContext(job_id=JOB_ID, dry_run=True, suppressions=Remembered("gone@b.co"))
    some = await send(params("here@b.co", "gone@b.co"), context)
    with pytest.raises(PermanentError) as caught:
        await send(params("gone@b.co"), context)

    assert statuses(some) == {"here@b.co": "pending", "gone@b.co": "refused"}
    assert (caught.value.code, caught.value.result["dry_run"]) == ("suppressed", True)


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_mail_that_waits_for_its_domain_keeps_what_is_known(
    server: SmtpServer, delivery: str
) -> None:
    server.on("RCPT TO:<later@", "451 greylisted")
    server.on("RCPT TO:<never@", "550 no")
    mail = params("now@a.co", "later@b.co", "never@c.co").model_copy(update={"delivery": delivery})
    pool = SmtpPool(server.url(), connections=2, timeout_seconds=15.0)
    # Of each domain one mail an hour: the second attempt comes too early.
    slow = SmtpPool(server.url(), connections=2, timeout_seconds=15.0, domain_rate=(1, 3600))
    await slow.send(outgoing("first@b.co"))
    known: Any = None
    for number, (through, code) in enumerate(
        [(slow, "domain_busy"), (pool, "smtp_temporary"), (slow, "domain_busy")], 1
    ):
        with pytest.raises(RetryLater) as caught:
            await send(
                mail, JobContext(job_id=JOB_ID, mail=through, attempt=number, previous_result=known)
            )
        assert caught.value.code == code
        known = caught.value.result
        if number == 1:
            assert set(statuses(known).values()) == {"pending"}
        else:
            assert statuses(known) == {
                "now@a.co": "accepted",
                "later@b.co": "pending",
                "never@c.co": "refused",
            }
    result = await send(mail, JobContext(job_id=JOB_ID, mail=pool, previous_result=known))
    await pool.aclose()
    await slow.aclose()

    assert statuses(result) == {
        "now@a.co": "accepted",
        "later@b.co": "accepted",
        "never@c.co": "refused",
    }
    assert [each.recipients for each in server.mails] == [
        ["first@b.co"],
        ["now@a.co"],
        ["later@b.co"],
    ]


def test_loading_the_job_types_loads_no_smtp_client() -> None:
    script = (
        "import sys; from jobs import catalog; catalog.load(); print('aiosmtplib' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout

    assert printed == "False\n"
