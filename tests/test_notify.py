"""`email.notify`: what a mail about an outcome says, and what it carries."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from email import message_from_string, policy
from email.message import EmailMessage
from typing import Any

import pytest

from app.worker import perform
from jobs.context import JobContext
from jobs.email.notify_params import NotifyParams
from jobs.errors import PermanentError
from jobs.files import StoredFile
from jobs.notify import MOST_ATTACHED_BYTES, notify
from tests.mail_service import mail_thread

JOB = "0123456789abcdef0123"
FINISHED: dict[str, Any] = {
    "from": "us@example.test", "to": ["ana@example.test"], "job_id": JOB, "job_type": "data.query",
    "outcome": "finished", "ended_at": "2026-01-31T12:00:00.000000Z",
}  # fmt: skip
FILE = {"name": "rows.csv", "size": 4, "content_type": "text/csv"}
LINK = "https://jobs.example/v1/results/x"


class OneFile:
    """Keeps to `jobs.files.Files`."""

    def __init__(
        self, content: bytes | None, size_bytes: int | None = None, result: Any = None
    ) -> None:
        self._content = content
        self._size = size_bytes
        self._result = result

    async def upload(self, upload_id: str) -> StoredFile:
        raise PermanentError("gone", code="file_missing")

    async def artifact(self, job_id: str) -> StoredFile:
        content = self._content
        if content is None or job_id != JOB:
            raise PermanentError("gone", code="file_missing")

        async def pieces() -> AsyncGenerator[bytes, None]:
            yield content

        async def open_it() -> AsyncGenerator[bytes, None]:
            return pieces()

        size = self._size if self._size is not None else len(content)
        return StoredFile("rows.csv", "text/csv", size, open_it)

    async def result(self, job_id: str) -> Any:
        if self._result is None or job_id != JOB:
            raise PermanentError("gone", code="file_missing")
        return self._result


async def mail(files: OneFile, **more: Any) -> EmailMessage:
    """As it would be sent."""
    context = JobContext(job_id="f" * 35, dry_run=True, files=files)
    result = await notify(NotifyParams.model_validate(FINISHED | more), context)
    return message_from_string(result["source"], policy=policy.default)


def text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def attached(message: EmailMessage) -> list[tuple[str | None, Any]]:
    return [(each.get_filename(), each.get_content()) for each in message.iter_attachments()]


async def test_small_file_is_attached() -> None:
    message = await mail(OneFile(b"a\n1\n"), artifacts=[FILE], result_url=LINK)

    assert (message["to"], message["from"]) == ("ana@example.test", "us@example.test")
    assert message["subject"] == "Job data.query finished"
    assert attached(message) == [("rows.csv", "a\n1\n")]
    assert "rows.csv (4 bytes)" in text(message)
    assert LINK not in text(message)


async def test_large_file_is_linked() -> None:
    file = OneFile(b"", MOST_ATTACHED_BYTES + 1)

    linked = await mail(file, artifacts=[FILE], result_url=LINK)
    unlinked = await mail(file, artifacts=[FILE])

    assert attached(linked) == attached(unlinked) == []
    assert LINK in text(linked)
    assert "http" not in text(unlinked)


async def test_file_that_is_gone_keeps_no_mail_back() -> None:
    message = await mail(OneFile(None), artifacts=[FILE], result_url=LINK)

    assert attached(message) == []
    assert message["subject"] == "Job data.query finished"


async def test_result_of_a_job_without_files_is_attached() -> None:
    result = {"valid": 3, "what": "João"}

    message = await mail(OneFile(None, result=result), artifacts=[], result_url=LINK)

    (part,) = message.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("result.json", "application/json")
    assert json.loads(part.get_content()) == result


async def test_job_without_files_is_told_of() -> None:
    message = await mail(OneFile(None), artifacts=[], result_url=LINK)

    assert attached(message) == []
    assert LINK not in text(message)


async def test_locale_chooses_the_language() -> None:
    message = await mail(OneFile(None), locale="pt")

    assert message["subject"] == "Tarefa data.query concluída"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"outcome": "failed", "error": "no such\x00column\n\u2028x"}, "no such column"),
        ({"outcome": "failed", "error": ""}, "failed"),
    ],
)
async def test_what_went_wrong_is_said(facts: dict[str, Any], why: str) -> None:
    message = await mail(OneFile(None), **facts)

    assert message["subject"] == "Job data.query failed"
    assert why in text(message)


@pytest.mark.parametrize(
    ("outcome", "reason", "locale", "subject", "why"),
    [
        ("canceled", "requested", "en", "Job data.query canceled", "canceled before it ran"),
        ("canceled", "expired", "en", "Job data.query canceled", "not started by the time"),
        ("canceled", "parent_failed", "en", "Job data.query canceled", "had to finish first"),
        ("stopped", "requested", "en", "Job data.query stopped", "stopped while it ran"),
        ("canceled", "requested", "pt", "Tarefa data.query cancelada", "cancelada antes de"),
        ("canceled", "expired", "pt", "Tarefa data.query cancelada", "até o prazo"),
        ("canceled", "parent_failed", "pt", "Tarefa data.query cancelada", "terminar antes"),
        ("stopped", "requested", "pt", "Tarefa data.query interrompida", "interrompida durante"),
    ],
)
async def test_job_that_somebody_ended_is_not_called_failed(
    outcome: str, reason: str, locale: str, subject: str, why: str
) -> None:
    message = await mail(OneFile(None), outcome=outcome, reason=reason, locale=locale)

    html = message.get_body(("html",))
    assert html is not None
    assert message["subject"] == subject
    for body in (text(message), str(html.get_content())):
        assert why in body
        assert JOB in body
        assert "fail" not in body
        assert "falh" not in body


def test_a_stock_worker_sends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_thread() as server:
        monkeypatch.setenv("REDIS_URL", "redis://localhost")
        monkeypatch.setenv("SMTP_URL", server.url)

        result = perform("email.notify", FINISHED)

        assert [each["status"] for each in result["recipients"]] == ["accepted"]
        assert server.recipients() == ["ana@example.test"]
