"""E-mails through a real worker: files, faults of the mail server, suppression, and crashes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from app.queue.connection import Reachability, connect
from app.queue.control import Control
from app.queue.records.drafts import JobDraft
from app.queue.suppressions import SuppressionList
from tests.conftest import ValkeyServer, poll_until
from tests.harness import (
    draft,
    quick,
    seem_dead,
    submit,
    view,
    wait_until_ended,
    with_client,
    worker,
)
from tests.mail_service import MailThread, mail_thread
from tests.smtp_server import Silence, SmtpServer


@dataclass
class Post:
    """A Valkey, a mail server and a worker between them."""

    url: str
    mail: MailThread

    def send(self, *to: str, **params: Any) -> JobDraft:
        job = draft(
            "email.send",
            **{"from": "us@example.com", "to": list(to), "subject": "Hi", "text": "Hi"} | params,
        )
        job.backoff = quick()
        return job

    def run(self, *drafts: JobDraft) -> list[Any]:
        return wait_until_ended(self.url, *submit(self.url, *drafts))

    def warnings(self) -> list[str]:
        return with_client(self.url, lambda _, views: views.warnings("email"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("post")


@pytest.fixture(scope="module")
def post(folder: Path) -> Iterator[Post]:
    valkey = ValkeyServer(folder)
    valkey.start()
    try:
        with mail_thread(SmtpServer(users={"us": "secret"})) as mail:
            url = mail.server.url("us:secret")
            settings = {"SMTP_URL": url, "STORAGE_URL": f"file:{folder}/storage"}
            with worker(valkey.url, folder, **settings):
                yield Post(valkey.url, mail)
    finally:
        valkey.kill()


def statuses(job: Any) -> dict[str, str]:
    return {each["address"]: each["status"] for each in job.result["recipients"]}


def test_upload_and_artifact_of_another_job_are_attached(post: Post, folder: Path) -> None:
    storage = folder / "storage"
    (storage / "uploads").mkdir(parents=True)
    (storage / "uploads" / ("u" * 20)).write_bytes(b"first,second\n")
    with redis.Redis.from_url(post.url) as client:
        client.hset(f"rq:recado:upload:{'u' * 20}", mapping={
            "content_type": "text/csv", "filename": "número.csv", "size": 13,
        })  # fmt: skip
    leaving = draft("log.write", message="hi")
    parent_id = post.run(leaving)[0].id
    (storage / "artifacts" / parent_id / "1").mkdir(parents=True)
    (storage / "artifacts" / parent_id / "1" / "report.html").write_bytes(b"<p>done")
    record = (
        f'[{{"name":"report.html","size":7,"content_type":"text/html","sha256":"0",'
        f'"key":"artifacts/{parent_id}/1/report.html"}}]'
    )
    with redis.Redis.from_url(post.url) as client:
        client.hset(f"rq:job:{parent_id}", "x_artifacts", record)
    files = [{"upload_id": "u" * 20}, {"job_id": parent_id}]
    sent, *lost = post.run(
        post.send("files@b.co", attachments=files),
        post.send("files@b.co", attachments=[{"upload_id": "g" * 20}]),
        post.send("files@b.co", attachments=[{"job_id": "g" * 20}]),
    )

    assert sent.status == "finished"
    source = post.mail.server.mails[-1].source
    assert b"filename*=utf-8''n%C3%BAmero.csv" in source
    assert b"Zmlyc3Qsc2Vjb25kCg==" in source
    assert b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64" in source
    for job in lost:
        assert (job.status, job.error.code) == ("failed", "file_missing")
        assert statuses(job) == {"files@b.co": "refused"}
    assert "no longer kept: its retention is over" in lost[1].error.message


def test_address_without_mailbox_is_suppressed_until_it_is_deleted(post: Post) -> None:
    post.mail.on("RCPT TO:<gone@", "550 5.1.1 no such user", times=None)
    post.mail.on("RCPT TO:<full@", "552 5.2.2 mailbox full", times=None)
    first = post.run(post.send("gone@b.co", "full@b.co", "here@b.co"))[0]
    post.mail.forget_rules()
    alone, together = post.run(post.send("gone@B.co"), post.send("gone@b.co", "full@b.co"))

    async def delete() -> tuple[list[Any], bool, bool]:
        client = connect(post.url)
        known = SuppressionList(client, Reachability())
        found = await known.page(10, None)
        removed = [await known.remove("gone@b.co", "ops") for _ in range(2)]
        await known.aclose()
        await client.aclose()
        return found.data, removed[0], removed[1]

    found, removed, again = asyncio.run(delete())
    after = post.run(post.send("gone@b.co"))[0]

    assert statuses(first) == {
        "gone@b.co": "refused", "full@b.co": "refused", "here@b.co": "accepted",
    }  # fmt: skip
    assert (alone.status, alone.error.code, alone.attempt) == ("failed", "suppressed", 1)
    assert statuses(together) == {"gone@b.co": "refused", "full@b.co": "accepted"}
    assert [(each.address, each.code, each.reply) for each in found] == [
        ("gone@b.co", 550, "5.1.1 no such user")
    ]
    assert (found[0].until - datetime.now(UTC)).days in {29, 30}
    assert (removed, again) == (True, False)
    assert statuses(after) == {"gone@b.co": "accepted"}


def test_queue_pauses_itself_when_the_sign_in_fails_and_goes_on_when_it_works(post: Post) -> None:
    post.mail.on("AUTH", "535 5.7.8 no", times=None)
    post.mail.on("MAIL", "421 bye")  # so that a kept connection does not hide it
    refused = [*submit(post.url, post.send("auth@b.co", "auth2@b.co"))]
    poll_until(lambda: any("paused by itself" in each for each in post.warnings()), what="paused")
    waiting = submit(post.url, post.send("auth@b.co"))
    ready = with_client(post.url, lambda _, views: views.readiness(["email"]))
    job = view(post.url, refused[0])
    post.mail.forget_rules()
    jobs = wait_until_ended(post.url, *refused, *waiting)

    assert any("smtp_auth: 127.0.0.1" in each and "535" in each for each in ready)
    assert job.error is not None
    assert job.error.code == "smtp_auth"
    assert [each.status for each in jobs] == ["finished", "finished"]
    assert post.mail.recipients().count("auth2@b.co") == 1
    assert post.warnings() == []


def test_operators_pause_is_not_ended_by_a_mail_server_that_works(post: Post) -> None:
    async def act() -> list[str]:
        client, reachability = connect(post.url), Reachability()
        control = Control(client, reachability)
        await control.pause("email", "operator")
        await control.mend("smtp_auth", "smtp_tls")
        paused = await control.paused_queues()
        await control.resume("email", "operator")
        await control.aclose()
        await client.aclose()
        return paused

    assert asyncio.run(act()) == ["email"]


@pytest.mark.parametrize(("delivery", "mails"), [("at_least_once", 2), ("at_most_once", 1)])
def test_worker_that_dies_after_handing_over_leaves_it_unknown(
    tmp_path: Path, redis_url: str, delivery: str, mails: int
) -> None:
    with mail_thread() as mail:
        # The mail is taken, and its reply never comes.
        mail.server.takes_silently = True
        mail.on(".", Silence())
        post = Post(redis_url, mail)
        job = post.send("once@b.co", delivery=delivery)
        with worker(redis_url, tmp_path, SMTP_URL=mail.url) as first:
            submit(redis_url, job)
            poll_until(lambda: len(mail.server.mails) == 1, what="handed over")
            os.kill(first.pid, signal.SIGKILL)
            first.process.wait()
        seem_dead(redis_url, first.pid)
        with worker(redis_url, tmp_path, SMTP_URL=mail.url):
            (ended,) = wait_until_ended(redis_url, job.id)

    assert len(mail.server.mails) == mails
    if delivery == "at_most_once":
        assert (ended.status, ended.error and ended.error.code) == ("failed", "delivery_unknown")
        assert statuses(ended) == {"once@b.co": "unknown"}
    else:
        assert (ended.status, statuses(ended)) == ("finished", {"once@b.co": "accepted"})


def kill_often(
    url: str, folder: Path, mail: MailThread, kills: int, jobs: int
) -> tuple[int, Counter[str]]:
    """Workers die while mails go out, one a moment; how many did before all was done, and what
    became of each job, by code."""
    post = Post(url, mail)
    drafts = [post.send(f"u{n}@b.co", delivery="at_most_once") for n in range(jobs)]
    ids = submit(url, *drafts)
    # Few at once, so that a blow leaves enough for the next ones.
    settings = {"SMTP_URL": mail.url, "ABANDONED_LIMIT": "100", "WORKER_CONCURRENCY": "3"}
    hits = 0
    for number in range(kills):
        with worker(url, folder, **settings) as process:
            # A few more each time: the blow falls anywhere in the dialogue.
            goal = len(mail.server.mails) + 1 + number % 4
            poll_until(partial(_has_gone_on, mail, goal, url, ids), what="more mails")
            os.kill(process.pid, signal.SIGKILL)
            process.process.wait()
        hits += not _all_ended(url, ids)
        seem_dead(url, process.pid)
    with worker(url, folder, **settings):
        ended = wait_until_ended(url, *ids, seconds=120)
    return hits, Counter(each.error.code if each.error else each.status for each in ended)


def _has_gone_on(mail: MailThread, goal: int, url: str, ids: list[str]) -> bool:
    return len(mail.server.mails) >= goal or _all_ended(url, ids)


def _all_ended(url: str, ids: list[str]) -> bool:
    with redis.Redis.from_url(url) as client:
        pipeline = client.pipeline()
        for job_id in ids:
            pipeline.hget(f"rq:job:{job_id}", "status")
        return all(status in {b"finished", b"failed"} for status in pipeline.execute())


@pytest.mark.parametrize(
    ("kills", "jobs"),
    [pytest.param(2, 24, id="few"), pytest.param(100, 400, id="many", marks=pytest.mark.slow)],
)
def test_killed_workers_send_no_mail_twice_that_may_go_out_once(
    redis_url: str, tmp_path: Path, kills: int, jobs: int
) -> None:
    with mail_thread(SmtpServer(reply_seconds=0.02)) as mail:
        hits, fates = kill_often(redis_url, tmp_path, mail, kills, jobs)
        got = Counter(mail.recipients())

    print(f"{hits} of {kills} kills, {jobs} mails: {fates['delivery_unknown']} unknown")
    assert hits > 0
    assert max(got.values()) == 1
    assert set(fates) <= {"finished", "delivery_unknown"}
    assert sum(fates.values()) == jobs
    assert len(got) >= fates["finished"]
