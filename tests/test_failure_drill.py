"""Three in the morning: a mail server rejects all, and an operator puts it right over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import poll_until
from tests.mail_service import MailThread, mail_thread
from tests.running_service import MASTER, RunningService, running_service
from tests.smtp_server import SmtpServer

MAILS = 30
FAULTS = "recado_mail_server_faults"
FAILED = "recado_jobs_failed_total"
EMAIL = {"queue": "email", "type": "email.send"}
ENDED = {"finished", "stopped", "failed"}


@pytest.fixture
def mail() -> Iterator[MailThread]:
    with mail_thread() as running:
        yield running


@pytest.fixture
def service(mail: MailThread, tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path, SMTP_URL=mail.url) as running:
        yield running


def mail_to(address: str) -> dict[str, str]:
    return {"from": "us@shop.example", "to": address, "subject": "s", "text": "t"}


def send(service: RunningService, *addresses: str) -> list[str]:
    jobs = [{"type": "email.send", "params": mail_to(each)} for each in addresses]
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


def metric(service: RunningService, sample: str, **labels: str) -> float:
    """As Prometheus would read it now."""
    text = service.client.get("/metrics").text
    (found,) = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    return float(found)


def page(service: RunningService, path: str) -> str:
    """A page of the console, as the key's owner sees it."""
    answer = service.client.get(f"/console/{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


def trail(service: RunningService, job_id: str) -> list[dict[str, Any]]:
    headers = {"Accept": "application/json"}
    answer = service.client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    events: list[dict[str, Any]] = answer.json()["data"]
    return events


def test_rejected_mails_are_found_by_cause_and_each_is_sent_once(
    service: RunningService, mail: MailThread
) -> None:
    addresses = [f"customer{number}@shop.example" for number in range(MAILS)]
    mail.on("RCPT", "550 5.7.1 not now", times=None)
    before = metric(service, FAILED, **EMAIL)
    ids = send(service, *addresses)
    (group,) = shown(service, "/v1/failures")["data"]
    seen = page(service, f"failures/{group['fingerprint']}")
    overview = page(service, "")
    alarming = metric(service, FAILED, **EMAIL) - before
    finished = metric(service, "recado_jobs_finished_total", **EMAIL)
    poll_until(lambda: metric(service, FAULTS) == 1, what="Prometheus is told")
    refused = service.client.get("/readyz")
    live = page(service, "live")
    first = preview(service, group["fingerprint"])
    late = send(service, "late@shop.example")

    too_soon = retry(service, first["selection"])
    mail.forget_rules()
    rest = preview(service, group["fingerprint"])
    repaired = retry(service, rest["selection"])
    poll_until(lambda: len(mail.recipients()) == MAILS + 1, seconds=60, what="all are sent")
    poll_until(service.is_ready, seconds=60, what="the service says that it is ready")

    words = "it refuses every recipient for good: 550 5.7.1 not now"
    assert (refused.status_code, metric(service, FAULTS)) == (503, 0)
    assert refused.json()["reasons"] == [f"the mail server: {words}"]
    assert f"mail: <bdi>{words}</bdi>" in live
    # What RecadoJobsFail asks for: more than ten, and more than a twentieth of all.
    assert (alarming, finished) == (MAILS, 0)
    assert f"<dd>{MAILS}</dd>" in seen
    assert "550 5.7.1 not now" in seen
    assert group["fingerprint"] in overview
    assert (group["count"], group["type"], group["queue"]) == (MAILS, "email.send", "email")
    assert (first["count"], rest["count"]) == (MAILS, MAILS + 1)
    assert (too_soon["state"], too_soon["done"]) == ("stopped", 1)
    assert too_soon["stopped_by"] == group["fingerprint"]
    assert (repaired["state"], repaired["done"], repaired["failed"]) == ("finished", MAILS + 1, 0)
    assert Counter(mail.recipients()) == Counter([*addresses, "late@shop.example"])
    jobs = [service.ended(shown(service, f"/v1/jobs/{each}")) for each in ids + late]
    assert {job["status"] for job in jobs} == {"finished"}
    assert shown(service, "/v1/failures")["data"] == []
    assert metric(service, "recado_queue_failed_jobs", queue="email") == 0
    assert group["fingerprint"] not in page(service, "")
    check_trail(service, ids + late, [too_soon, repaired], group["fingerprint"])


def check_trail(
    service: RunningService, ids: list[str], operations: list[dict[str, Any]], fingerprint: str
) -> None:
    """Who did what, on each job and as a whole: nothing that is not told, nothing twice."""
    listed = shown(service, "/v1/operations")["data"]
    assert [each["id"] for each in listed] == [each["id"] for each in reversed(operations)]
    assert {each["created_by"] for each in listed} == {MASTER}
    acts = shown(service, "/v1/audit")["data"]
    assert [(each["key"], each["action"], each["target"]) for each in acts] == [
        (MASTER, "retry", "/v1/failures")
    ] * len(operations)
    assert [each["detail"]["operation"] for each in acts] == [
        each["links"]["self"] for each in reversed(operations)
    ]
    assert {each["detail"]["filter"]["fingerprint"] for each in acts} == {fingerprint}
    retries = [
        [event["detail"]["operation"] for event in trail(service, each) if is_retry(event)]
        for each in ids
    ]
    # One was the canary of the first operation; all were retried by the second.
    told = Counter(operation for each in retries for operation in each)
    assert told == {operations[0]["id"]: 1, operations[1]["id"]: len(ids)}
    assert {each[-1] for each in retries} == {operations[1]["id"]}
    for each in ids:
        events = [event["event"] for event in trail(service, each)]
        assert events.count("failed") == events.count("started") - 1
        assert events[-1] == "finished"


def is_retry(event: dict[str, Any]) -> bool:
    return bool((event.get("detail") or {}).get("retried"))


@pytest.fixture
def locked_mail() -> Iterator[MailThread]:
    with mail_thread(SmtpServer(users={"shop": "secret"})) as running:
        yield running


def test_mail_server_that_lets_nobody_in_is_told_everywhere_and_no_mail_is_lost(
    locked_mail: MailThread, tmp_path: Path
) -> None:
    addresses = [f"customer{number}@shop.example" for number in range(MAILS)]
    with running_service(tmp_path, SMTP_URL=locked_mail.server.url("shop:secret")) as service:
        locked_mail.on("AUTH", "535 5.7.8 no", times=None)
        locked_mail.on("MAIL", "421 bye", times=None)  # of connections that are open already
        jobs = [{"type": "email.send", "params": mail_to(each)} for each in addresses]
        batch = service.client.post("/v1/batches", json={"jobs": jobs}).json()
        poll_until(
            lambda: (
                metric(service, "recado_mail_server_faults") > 0
                and metric(service, "recado_queue_paused", queue="email") == 1
            ),
            what="Prometheus is told",
        )
        refused = service.client.get("/readyz")
        overview = page(service, "live")
        lost = shown(service, "/v1/failures")["data"]
        locked_mail.forget_rules()
        poll_until(lambda: len(locked_mail.recipients()) >= MAILS, seconds=60, what="all are sent")
        poll_until(service.is_ready, seconds=60, what="the service says that it is ready")
        ended = [service.ended(shown(service, f"/v1/jobs/{each}")) for each in batch["job_ids"]]
        faults = metric(service, "recado_mail_server_faults")

    assert refused.status_code == 503
    reasons = refused.json()["reasons"]
    assert any("535" in each for each in reasons)
    assert any("queue email is paused" in each for each in reasons)
    assert "paused" in overview
    assert (lost, faults) == ([], 0)
    assert {job["status"] for job in ended} == {"finished"}
    assert Counter(locked_mail.recipients()) == Counter(addresses)
