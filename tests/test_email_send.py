"""The job `email.send`: its attempts taken together, and the dry run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobs import catalog
from jobs.context import JobContext
from jobs.email import send
from jobs.email.params import EmailParams
from jobs.email.smtp import SmtpPool
from jobs.errors import PermanentError, RetryLater
from tests.smtp_server import Cut, SmtpServer

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

    assert result["dry_run"] is True
    assert result["message_id"] == f"<{JOB_ID}@example.com>"
    assert result["recipients"] == ["ana@example.org"]
    assert result["source"].endswith("\r\n\r\nHello\r\n")
    assert server.connections == 0


def test_loading_the_job_types_loads_no_smtp_client() -> None:
    script = (
        "import sys; from jobs import catalog; catalog.load(); print('aiosmtplib' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout

    assert printed == "False\n"
