"""Attachments and extra headers: what a client may say, and what a mail program reads back."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.context import JobContext
from jobs.email.attachments import Attached
from jobs.email.job import send
from jobs.email.message import OutgoingEmail, build
from jobs.email.params import EmailParams
from jobs.errors import PermanentError, RetryLater
from jobs.files import NoFiles, StoredFile
from tests.email_pool import outgoing, pool_for, statuses
from tests.smtp_server import SmtpServer

MAIL: dict[str, Any] = {
    "from": "shop@example.com", "to": "ana@example.org", "subject": "Hi", "text": "Hello",
}  # fmt: skip
NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB_ID = "0653a1b2c3d4e0123456789abcdef012345"


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def stored(
    octets: bytes, *, size: int | None = None, piece: int = 1000, **known: Any
) -> StoredFile:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(octets), piece):
            yield octets[at : at + piece]

    async def reopen() -> AsyncGenerator[bytes, None]:
        return pieces()

    return StoredFile(
        known.get("filename"), known.get("content_type", "application/octet-stream"),
        len(octets) if size is None else size, reopen,
    )  # fmt: skip


class Shelf(NoFiles):
    """`context.files` of a test."""

    def __init__(self, **files: StoredFile) -> None:
        self._files = files

    async def upload(self, upload_id: str) -> StoredFile:
        if upload_id not in self._files:
            raise PermanentError("an upload that the job names is gone", code="file_missing")
        return self._files[upload_id]

    async def artifact(self, job_id: str) -> StoredFile:
        return await self.upload(job_id)


def mail_with(*attached: Attached, **fields: Any) -> OutgoingEmail:
    return build(EmailParams.model_validate(MAIL | fields), JOB_ID, NOW, attached)


async def source_of(email: OutgoingEmail) -> bytes:
    source = b"".join([chunk async for chunk in email.chunks()])
    assert len(source) == email.size_bytes
    assert b"\n" not in source.replace(b"\r\n", b"")
    assert max(map(len, source.split(b"\r\n"))) <= 998
    assert source.isascii()
    return source


async def read(email: OutgoingEmail) -> EmailMessage:
    parsed = message_from_bytes(await source_of(email), policy=policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    assert not [part.defects for part in parsed.walk() if part.defects]
    return parsed


def faults(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        EmailParams.model_validate(MAIL | fields)
    return ["".join(f"/{part}" for part in each["loc"]) for each in caught.value.errors()]


NAMES = [
    "report.pdf",
    "with space and 'quote'.txt",
    'a "b" \\ c.txt',
    "relatório de março.pdf",
    "請求書" * 20 + ".pdf",
    "x" * 240 + ".pdf",
    "🎉.png",
    "100% ; a=b.csv",
    "=?utf-8?q?evil=2Eexe?=.txt",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 1710, 4000])
async def test_file_from_storage_is_read_back_with_its_name(name: str, size: int) -> None:
    octets = random.Random(size).randbytes(size)
    name = name.replace("\\", "")
    message = await read(mail_with(Attached(name, "application/pdf", None, stored(octets))))

    (part,) = message.iter_attachments()
    assert part.get_filename() == name
    assert part.get_content_type() == "application/pdf"
    assert part.get_content_disposition() == "attachment"
    assert part.get_payload(decode=True) == octets
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content() == "Hello"


async def test_carried_file_is_read_back() -> None:
    octets = bytes(range(256)) * 3
    message = await read(mail_with(Attached("a.bin", "image/png", None, b64(octets))))

    (part,) = message.iter_attachments()
    assert part.get_payload(decode=True) == octets


async def test_what_html_shows_stands_beside_it_and_the_rest_outside() -> None:
    message = await read(
        mail_with(
            Attached("logo.png", "image/png", "logo", stored(b"png")),
            Attached("bill.pdf", "application/pdf", None, stored(b"pdf")),
            html='<img src="cid:logo">',
        )
    )

    shape = [part.get_content_type() for part in message.walk()]
    assert shape == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related",
        "text/html", "image/png", "application/pdf",
    ]  # fmt: skip
    related = [part for part in message.walk() if part["Content-ID"]]
    assert [(part["Content-ID"], part.get_content_disposition()) for part in related] == [
        ("<logo>", "inline")
    ]


async def test_content_id_without_html_is_attached_like_the_rest() -> None:
    message = await read(mail_with(Attached("logo.png", "image/png", "logo", stored(b"png"))))

    assert [part.get_content_disposition() for part in message.iter_attachments()] == ["attachment"]


async def test_extra_headers_stand_in_the_mail_as_given() -> None:
    unsubscribe = "<https://shop.example/u?" + "x" * 300 + ">, <mailto:u@shop.example>"
    given = {
        "X-Campaign": "Olá, março",
        "List-Unsubscribe": unsubscribe,
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "References": " ".join(f"<{n}@example.com>" for n in range(60)),
        "x-odd": "a =?utf-8?q?b?= c",
    }
    message = await read(mail_with(headers=given))

    raw = message_from_bytes(await source_of(mail_with(headers=given)), policy=policy.compat32)
    assert raw["List-Unsubscribe"].replace("\r\n", "") == unsubscribe
    assert message["X-Campaign"] == given["X-Campaign"]
    assert message["x-odd"] == given["x-odd"]
    assert message["List-Unsubscribe-Post"] == given["List-Unsubscribe-Post"]
    assert str(message["References"]).split() == given["References"].split()


@pytest.mark.parametrize(
    "headers",
    [
        {"Bcc": "a@b.co"}, {"from": "a@b.co"}, {"Message-ID": "<1@b.co>"}, {"Date": "now"},
        {"Content-Type": "text/html"}, {"MIME-Version": "2"}, {"DKIM-Signature": "x"},
        {"Received": "x"}, {"Return-Path": "<a@b.co>"}, {"Subject": "x"}, {"Sender": "a@b.co"},
        {"Resent-To": "a@b.co"}, {"Reply-To": "a@b.co"},
        {"X-A": "a\r\nBcc: b@c.de"}, {"X-A": "a\nb"}, {"X-A": "a\rb"}, {"X-A": "a\x00b"},
        {"X-A": "a\u2028b"}, {"X-A": ""}, {"X-A": "  "}, {"X-A": "x" * 2001}, {"X-A": 7},
        {"X-A:": "x"}, {"X A": "x"}, {"X-\r\nBcc": "x"}, {"X-é": "x"}, {"": "x"}, {"X" * 80: "x"},
        {"X-A": "1", "x-a": "2"}, {"List-Id": "é"}, {"List-Unsubscribe": "x" * 901},
        {"X-A": "\ud800"}, {f"X-{n}": "x" for n in range(31)},
    ],
)  # fmt: skip
def test_header_that_may_not_be_set_is_refused(headers: dict[str, Any]) -> None:
    assert faults(headers=headers)[0].startswith("/headers")


@pytest.mark.parametrize(
    "attachment",
    [
        {},
        {"filename": "a.txt"},
        {"content": "aGk="},
        {"content": "aGk=", "filename": "a.txt", "upload_id": "u" * 20},
        {"upload_id": "u" * 20, "job_id": "j" * 20},
        {"upload_id": "short"},
        {"content": "aGk", "filename": "a.txt"},
        {"content": "a-_=", "filename": "a.txt"},
        {"content": "aGk=é", "filename": "a.txt"},
        {"content": "aGk=", "filename": "../a.txt"},
        {"content": "aGk=", "filename": "a\\b"},
        {"content": "aGk=", "filename": "a\r\nb"},
        {"content": "aGk=", "filename": "a\u202efdp.exe"},
        {"content": "aGk=", "filename": ".."},
        {"content": "aGk=", "filename": ""},
        {"content": "aGk=", "filename": "é" * 128},
        {"content": "aGk=", "filename": "a", "content_type": "text"},
        {"content": "aGk=", "filename": "a", "content_type": "text/plain\r\nBcc: x"},
        {"content": "aGk=", "filename": "a", "content_type": "message/rfc822"},
        {"content": "aGk=", "filename": "a", "content_type": "multipart/mixed"},
        {"content": "aGk=", "filename": "a", "content_id": "a>b"},
        {"content": "aGk=", "filename": "a", "content_id": "a\r\nb"},
        {"content": "aGk=", "filename": "a", "size": 2},
    ],
)
def test_attachment_that_makes_no_sense_is_refused(attachment: dict[str, Any]) -> None:
    assert faults(attachments=[attachment])[0].startswith("/attachments/0")


def test_attachments_are_bounded_together() -> None:
    one = {"content": b64(b"x" * 13_107_201), "filename": "a"}
    same = {"content": "aGk=", "filename": "a", "content_id": "a"}

    assert faults(attachments=[one, one]) == ["/attachments"]
    assert faults(attachments=[same, same]) == ["/attachments"]
    assert faults(attachments=[one | {"content": "aGk="}] * 21) == ["/attachments"]


def test_line_breaks_in_base64_are_taken_out() -> None:
    params = EmailParams.model_validate(
        MAIL | {"attachments": [{"content": "aG\r\nk=\n", "filename": "a"}]}
    )

    assert params.attachments is not None
    assert params.attachments[0].content == "aGk="


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        ({"content_type": "text/csv"}, {}, "text/csv"),
        ({}, {"filename": "a.pdf"}, "application/pdf"),
        ({"content_type": "message/rfc822"}, {}, "application/octet-stream"),
        ({"content_type": 'text/csv; x="\r\nBcc: a@b.co"'}, {}, "application/octet-stream"),
        ({"content_type": "text/csv"}, {"content_type": "text/plain"}, "text/plain"),
    ],
)
async def test_type_is_what_is_given_or_known(
    known: dict[str, Any], given: dict[str, str], expected: str
) -> None:
    shelf = Shelf(**{"u" * 20: stored(b"x", **known)})
    params = EmailParams.model_validate(MAIL | {"attachments": [{"upload_id": "u" * 20, **given}]})
    result = await send(params, JobContext(job_id=JOB_ID, files=shelf, dry_run=True))

    assert f"Content-Type: {expected}\r\n" in result["source"]


async def test_dry_run_leaves_a_large_mail_as_an_artifact(tmp_path: Path) -> None:
    shelf = Shelf(**{"u" * 20: stored(bytes(300_000))})
    params = EmailParams.model_validate(MAIL | {"attachments": [{"upload_id": "u" * 20}]})
    context = JobContext(
        job_id=JOB_ID, files=shelf, dry_run=True, artifacts_folder=str(tmp_path / "run")
    )
    result = await send(params, context)

    octets = (tmp_path / "run" / "message.eml").read_bytes()
    attached = message_from_bytes(octets, policy=policy.default).iter_attachments()
    assert [each.get_content() for each in attached] == [bytes(300_000)]
    assert (result["source"], result["size_bytes"]) == (None, len(octets))
    assert [(each.name, each.content_type) for each in context.artifacts] == [
        ("message.eml", "message/rfc822")
    ]


async def test_file_that_is_gone_or_too_large_is_a_permanent_error() -> None:
    for files, code in (
        (Shelf(), "file_missing"),
        (Shelf(**{"j" * 20: stored(b"", size=26_214_401)}), "attachments_too_large"),
    ):
        params = EmailParams.model_validate(MAIL | {"attachments": [{"job_id": "j" * 20}]})
        with pytest.raises(PermanentError) as caught:
            await send(params, JobContext(job_id=JOB_ID, files=files))
        assert caught.value.code == code
        assert caught.value.result["message_id"] == f"<{JOB_ID}@example.com>"
        assert [each["status"] for each in caught.value.result["recipients"]] == ["refused"]


async def test_missing_file_does_not_hide_who_has_the_mail_already() -> None:
    params = EmailParams.model_validate(
        MAIL | {"to": ["a@b.co", "c@b.co"], "attachments": [{"job_id": "j" * 20}]}
    )
    has_it = {"address": "a@b.co", "status": "accepted", "code": 250, "reply": "ok"}
    waits = {"address": "c@b.co", "status": "pending", "code": 451, "reply": "later"}
    before = {
        "message_id": f"<{JOB_ID}@example.com>",
        "recipients": [has_it, waits],
        "server": "h:25",
    }
    context = JobContext(job_id=JOB_ID, files=Shelf(), attempt=2, previous_result=before)
    with pytest.raises(PermanentError) as caught:
        await send(params, context)

    nothing = {"address": "c@b.co", "status": "refused", "code": None, "reply": None}
    assert caught.value.result == {**before, "recipients": [has_it, nothing]}


async def test_large_file_goes_over_the_wire_whole_and_connection_stays_fit() -> None:
    octets = random.Random(1).randbytes(700_000)
    email = mail_with(Attached("a.bin", "image/png", None, stored(octets, piece=65536)))
    async with SmtpServer() as server, pool_for(server) as pool:
        await pool.send(email)
        await pool.send(outgoing("bia@example.org"))

    assert server.mails[0].source == await source_of(email)
    assert server.mails[0].mail_options == f"SIZE={email.size_bytes}"
    assert [mail.connection for mail in server.mails] == [1, 1]


async def test_file_that_breaks_while_it_is_sent_leaves_no_mail_behind() -> None:
    async def breaking() -> AsyncGenerator[bytes, None]:
        yield b"x" * 100_000
        raise RetryLater("the storage cannot be reached", code="storage_unavailable")

    async def reopen() -> AsyncGenerator[bytes, None]:
        return breaking()

    lost = StoredFile(None, "image/png", 200_000, reopen)
    shorter = stored(b"x" * 1000, size=2000)
    async with SmtpServer() as server, pool_for(server) as pool:
        with pytest.raises(RetryLater) as retry:
            await pool.send(mail_with(Attached("a", "image/png", None, lost)))
        with pytest.raises(PermanentError) as permanent:
            await pool.send(mail_with(Attached("a", "image/png", None, shorter)))
        result = await pool.send(outgoing("bia@example.org"))

    assert (retry.value.code, permanent.value.code) == ("storage_unavailable", "file_missing")
    assert statuses(retry.value.result) == {"ana@example.org": "pending"}
    assert statuses(result) == {"bia@example.org": "accepted"}
    assert [mail.recipients for mail in server.mails] == [["bia@example.org"]]
