"""Three in the morning: a mail server rejects all, and an operator puts it right over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import poll_until
from tests.mail_service import MailThread, mail_thread
from tests.running_service import MASTER, RunningService, running_service

MAILS = 30
ENDED = {"finished", "stopped", "failed"}


@pytest.fixture
def mail() -> Iterator[MailThread]:
    with mail_thread() as running:
        yield running


@pytest.fixture
def service(mail: MailThread, tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path, SMTP_URL=mail.url) as running:
        yield running


def send(service: RunningService, *addresses: str) -> list[str]:
    jobs = [
        {"type": "email.send",
         "params": {"from": "us@shop.example", "to": each, "subject": "s", "text": "t"}}
        for each in addresses
    ]  # fmt: skip
    answer = service.client.post("/v1/batches", json={"jobs": jobs}, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    return [str(each) for each in answer.json()["job_ids"]]


def shown(service: RunningService, path: str) -> Any:
    answer = service.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def retry(service: RunningService, selection: str) -> dict[str, Any]:
    """The operation, once it has ended: with care."""
    asked = {"selection": selection, "canary": True}
    started = service.client.post("/v1/failures/retry", json=asked)
    assert started.status_code == 202, started.text
    path = started.headers["location"]
    poll_until(lambda: shown(service, path)["state"] in ENDED, seconds=60, what="it has ended")
    operation: dict[str, Any] = shown(service, path)
    return operation


def preview(service: RunningService, fingerprint: str) -> dict[str, Any]:
    answer = service.client.post("/v1/failures/preview", json={"fingerprint": fingerprint})
    found: dict[str, Any] = answer.json()
    return found


def test_rejected_mails_are_found_by_cause_and_each_is_sent_once(
    service: RunningService, mail: MailThread
) -> None:
    addresses = [f"customer{number}@shop.example" for number in range(MAILS)]
    mail.on("RCPT", "550 5.7.1 not now", times=None)
    ids = send(service, *addresses)
    (group,) = shown(service, "/v1/failures")["data"]
    first = preview(service, group["fingerprint"])
    late = send(service, "late@shop.example")

    too_soon = retry(service, first["selection"])
    mail.forget_rules()
    rest = preview(service, group["fingerprint"])
    repaired = retry(service, rest["selection"])
    poll_until(lambda: len(mail.recipients()) == MAILS + 1, seconds=60, what="all are sent")

    assert (group["count"], group["type"], group["queue"]) == (MAILS, "email.send", "email")
    assert (first["count"], rest["count"]) == (MAILS, MAILS + 1)
    assert (too_soon["state"], too_soon["done"]) == ("stopped", 1)
    assert too_soon["stopped_by"] == group["fingerprint"]
    assert (repaired["state"], repaired["done"], repaired["failed"]) == ("finished", MAILS + 1, 0)
    assert Counter(mail.recipients()) == Counter([*addresses, "late@shop.example"])
    jobs = [service.ended(shown(service, f"/v1/jobs/{each}")) for each in ids + late]
    assert {job["status"] for job in jobs} == {"finished"}
    assert shown(service, "/v1/failures")["data"] == []
    acts = [(each["key"], each["action"]) for each in shown(service, "/v1/audit")["data"]]
    assert acts == [(MASTER, "retry")] * 2
