"""Web and worker that share a Redis and a storage, and no disk: a file goes both ways."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from jobs.notify import MOST_ATTACHED_BYTES
from tests.conftest import poll_until
from tests.mail_service import MailThread, mail_thread
from tests.running_service import RunningService, running_service
from tests.stores import MIB

PUBLIC = "https://jobs.example"


@dataclass(frozen=True)
class Shared:
    """The service, and the mail that it has sent."""

    service: RunningService
    mail: MailThread

    def submit(self, job_type: str, params: dict[str, Any], **options: Any) -> dict[str, Any]:
        body = {"type": job_type, "params": params, "options": options}
        response = self.service.client.post("/v1/jobs", json=body)
        assert response.status_code == 202, response.text
        return self.service.ended(response.json())

    def mail_to(self, address: str) -> EmailMessage:
        """The one that the address has got."""

        def found() -> list[bytes]:
            mails = list(self.mail.server.mails)
            return [each.source for each in mails if address in each.recipients]

        poll_until(found, what=f"a mail to {address}")
        (source,) = found()
        return message_from_bytes(source, policy=policy.default)


@pytest.fixture(scope="module", params=["s3", "redis"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    settings = {"STORAGE_URL": "redis:", "REDIS_FILE_BYTES": str(8 * MIB)}
    limits = {"MAX_UPLOAD_BYTES": str(8 * MIB), "MAX_ARTIFACT_BYTES": str(8 * MIB)}
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        settings = server.settings(server.new_bucket()) | limits
    folder = tmp_path_factory.mktemp("shared")
    with (
        mail_thread() as mail,
        running_service(
            folder, job_modules="tests.artifact_jobs", SMTP_URL=mail.url, PUBLIC_URL=PUBLIC,
            MAIL_FROM="us@example.test", **settings,
        ) as service,
    ):  # fmt: skip
        yield Shared(service, mail)
        assert not (folder / "storage").exists()


def attached(message: EmailMessage) -> list[bytes]:
    return [bytes(each.get_payload(decode=True)) for each in message.iter_attachments()]


def test_upload_is_read_by_the_worker(shared: Shared) -> None:
    data = os.urandom(2 * MIB)
    upload = shared.service.client.post("/v1/uploads", content=data).json()
    assert upload["sha256"] == hashlib.sha256(data).hexdigest()

    params = {
        "to": "ana@example.test", "subject": "s", "text": "t",
        "attachments": [{"upload_id": upload["id"], "filename": "a.bin"}],
    }  # fmt: skip
    job = shared.submit("email.send", params)

    assert job["status"] == "finished"
    assert attached(shared.mail_to("ana@example.test")) == [data]


def test_artifact_of_the_worker_is_downloaded_and_mailed(shared: Shared) -> None:
    job = shared.submit("test.leave", {"size": 300_000}, notify={"email": "bia@example.test"})

    (rows, _) = job["artifacts"]
    whole = shared.service.client.get(rows["href"])
    part = shared.service.client.get(rows["href"], headers={"Range": "bytes=262000-263000"})
    message = shared.mail_to("bia@example.test")

    assert (whole.status_code, whole.content) == (200, b"\1" * 300_000)
    assert (part.status_code, len(part.content)) == (206, 1001)
    assert message["subject"] == "Job test.leave finished"
    assert attached(message) == [b"\1" * 300_000]


def test_large_artifact_is_linked_and_opens_without_a_key(shared: Shared) -> None:
    size = MOST_ATTACHED_BYTES + 1
    shared.submit("test.leave", {"size": size}, notify={"email": "eva@example.test"})

    message = shared.mail_to("eva@example.test")
    body = message.get_body(("plain",))
    assert body is not None
    found = re.search(rf"{PUBLIC}\S+", str(body.get_content()))
    assert found is not None
    answer = httpx2.get(shared.service.url + urlsplit(found[0]).path)

    assert attached(message) == []
    assert (answer.status_code, answer.content) == (200, b"\1" * size)
    assert answer.headers["content-disposition"] == 'attachment; filename="rows.csv"'


def test_data_job_reads_a_file_and_the_next_one_what_it_has_left(shared: Shared) -> None:
    rows = b"city,sold\n" + b"Lisboa,3\nPorto,5\n" * 50_000
    fields = {
        "operation": "query",
        "sql": "SELECT city, sum(sold) AS sold FROM input GROUP BY 1 ORDER BY 1",
        "options": json.dumps({"notify": {"email": "noa@example.test"}}),
    }  # fmt: skip
    asked = shared.service.client.post(
        "/v1/data", data=fields, files={"file": ("sales.csv", rows, "text/csv")}
    )
    assert asked.status_code == 202, asked.text
    job = shared.service.ended(asked.json())
    chained = {"operation": "convert", "job_id": job["id"], "output_format": "ndjson"}
    after = shared.service.ended(shared.service.client.post("/v1/data", json=chained).json())

    answer = shared.service.client.get(job["artifacts"][0]["href"]).content
    assert answer.split() == [b"city,sold", b"Lisboa,150000", b"Porto,250000"]
    assert attached(shared.mail_to("noa@example.test")) == [answer]
    lines = shared.service.client.get(after["artifacts"][0]["href"]).text.splitlines()
    assert [json.loads(each)["sold"] for each in lines] == [150_000, 250_000]


def test_deleted_job_leaves_nothing(shared: Shared) -> None:
    job = shared.submit("test.leave", {"size": 10})
    assert shared.service.client.get(job["artifacts"][0]["href"]).status_code == 200

    assert shared.service.client.delete(f"/v1/jobs/{job['id']}").status_code == 204

    assert shared.service.client.get(job["artifacts"][0]["href"]).status_code == 404


def test_result_of_a_job_without_files_is_mailed(shared: Shared) -> None:
    params = {"message": "Olá", "fields": {"n": 1}}

    job = shared.submit("log.write", params, notify={"email": "leo@example.test"})

    message = shared.mail_to("leo@example.test")
    (data,) = attached(message)
    assert json.loads(data) == job["result"]
    assert [each.get_filename() for each in message.iter_attachments()] == ["result.json"]


def test_failed_job_is_told_of(shared: Shared) -> None:
    job = shared.submit(
        "test.leave", {"how": "missing"},
        notify={"email": "ida@example.test", "locale": "pt-BR"},
    )  # fmt: skip

    assert job["status"] == "failed"
    message = shared.mail_to("ida@example.test")
    assert message["subject"] == "Tarefa test.leave falhou"


def test_file_beyond_the_storage_is_refused(shared: Shared) -> None:
    response = shared.service.client.post("/v1/uploads", content=b"x" * (8 * MIB + 1))

    assert response.status_code == 413
    assert str(8 * MIB) in response.json()["detail"]


@pytest.mark.parametrize(
    ("job_type", "params", "code"),
    [
        ("test.leave", {"size": 8 * MIB + 1}, "bad_artifact"),
        (
            "data.query",
            {"rows": [{"n": 1}], "sql": "SELECT repeat('x', 1000) AS a FROM range(9000), input"},
            "result_too_large",
        ),
    ],
)
def test_artifact_beyond_the_storage_fails_the_job(
    shared: Shared, job_type: str, params: dict[str, Any], code: str
) -> None:
    job = shared.submit(job_type, params)

    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 1, code)
    assert str(8 * MIB) in job["error"]["message"]
