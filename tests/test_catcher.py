"""The local mail catcher, as a process that senders talk to over SMTP."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.dev.catcher import MAX_MAIL_BYTES, MailFolder
from app.http.inbox import routes
from app.http.mailbox import Mailbox
from tests.conftest import free_port, poll_until
from tests.preloaded import ForkedProcess

ROOT = Path(__file__).parent.parent
PLAIN = b"From: ana@example.com\r\nTo: rui@example.com\r\nSubject: Hello\r\n\r\nText.\r\n"


class CatcherProcess:
    """`python -m app.dev.catcher` on a free port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder.parent / "catcher.log"
        self.process = ForkedProcess(
            "app.dev.catcher",
            ["--port", str(port), "--folder", str(folder)],
            {**os.environ},
            self.log,
        )

    def wait_ready(self) -> None:
        poll_until(lambda: "catcher_ready" in self.log.read_text(), what="the catcher is ready")

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=30)

    def subjects(self) -> list[str]:
        mailbox = Mailbox(self.folder)
        return [summary.subject for summary in mailbox.newest(mailbox.ids())]


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[CatcherProcess]:
    running = CatcherProcess(tmp_path / "inbox", free_port())
    running.wait_ready()
    yield running
    running.process.kill()
    running.process.wait()


def numbered(number: int) -> bytes:
    return b"Subject: %d\r\n\r\nx\r\n" % number


def test_sent_mail_is_on_the_page_when_the_sender_is_answered(catcher: CatcherProcess) -> None:
    with catcher.client() as client:
        client.sendmail("bounce@example.com", ["rui@example.com", "hidden@example.com"], PLAIN)

    page = TestClient(Starlette(routes=routes(catcher.folder)))
    (listed,) = page.get("/inbox/mails.json").json()["data"]
    opened = page.get(listed["href"]).text
    assert listed["subject"] == "Hello"
    assert listed["from"]["address"] == "ana@example.com"
    assert "from <bdi>bounce@example.com</bdi>" in opened
    assert "to <bdi>hidden@example.com</bdi>" in opened
    assert page.get(f"{listed['href']}/source").text == PLAIN.decode()


def test_international_addresses_and_8_bit_bodies_are_taken_as_sent(
    catcher: CatcherProcess,
) -> None:
    source = "From: zoë@exemplo.com\r\nSubject: Olá\r\n\r\nação\r\n".encode()
    with catcher.client() as client:
        client.ehlo()
        offered = set(client.esmtp_features)
        client.sendmail("zoë@exemplo.com", ["joão@exemplo.com"], source, ["SMTPUTF8"])

    (mail_id,) = Mailbox(catcher.folder).ids()
    opened = Mailbox(catcher.folder).open(mail_id)
    assert {"8bitmime", "smtputf8", "size"} <= offered
    assert opened.envelope.sender == "zoë@exemplo.com"
    assert opened.envelope.recipients == ("joão@exemplo.com",)
    assert opened.source == source
    assert opened.summary.subject == "Olá"


@pytest.mark.parametrize(
    "source",
    [
        b"\x00\xff\xfe",
        b"no header at all",
        b"Content-Type: multipart/mixed\r\n\r\n--\r\n",
        b"Subject: =?x?q?\xff?=\r\n: \r\n\r\n",
        b"To: " + b"(" * 900 + b"\r\n\r\n",
    ],
)
def test_broken_mail_is_kept_and_the_next_one_too(catcher: CatcherProcess, source: bytes) -> None:
    with catcher.client() as client:
        client.sendmail("a@example.com", ["b@example.com"], source)
        client.sendmail("a@example.com", ["b@example.com"], PLAIN)

    assert catcher.subjects()[0] == "Hello"
    assert len(catcher.subjects()) == 2


def test_mail_over_the_limit_is_refused_for_good(catcher: CatcherProcess) -> None:
    with catcher.client() as client, pytest.raises(smtplib.SMTPSenderRefused) as refused:
        client.ehlo()
        client.sendmail("a@example.com", ["b@example.com"], b"x" * (MAX_MAIL_BYTES + 1))

    assert refused.value.smtp_code == 552
    assert catcher.subjects() == []


def test_trouble_with_the_disk_asks_the_sender_to_try_again(catcher: CatcherProcess) -> None:
    catcher.folder.rmdir()
    catcher.folder.write_text("in the way")

    with catcher.client() as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@example.com", ["b@example.com"], PLAIN)
        catcher.folder.unlink()
        client.sendmail("a@example.com", ["b@example.com"], PLAIN)

    assert refused.value.smtp_code == 451
    assert catcher.subjects() == ["Hello"]


def test_log_names_no_address_and_no_content(catcher: CatcherProcess) -> None:
    with catcher.client() as client:
        client.sendmail("secret@example.com", ["rui@example.com"], PLAIN)

    log = catcher.log.read_text()
    assert "mail_caught" in log
    assert "example.com" not in log
    assert "Hello" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_quietly_also_in_the_middle_of_a_mail(
    catcher: CatcherProcess, number: signal.Signals
) -> None:
    with socket.create_connection(("127.0.0.1", catcher.port), timeout=30) as half_way:
        half_way.sendall(
            b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        )
        answers = b""
        while b"354" not in answers:
            answers += half_way.recv(4096)
        half_way.sendall(b"Subject: half\r\n")
        catcher.process.send_signal(number)

        assert catcher.process.wait(timeout=15) == 0

    log = catcher.log.read_text()
    assert "catcher_stopped" in log
    assert "Traceback" not in log
    assert "ERROR" not in log
    assert catcher.subjects() == []


def test_taken_port_is_one_clear_sentence(catcher: CatcherProcess, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = CatcherProcess(tmp_path / "second" / "inbox", catcher.port)

    assert second.process.wait(timeout=15) == 1
    assert second.log.read_text().startswith("catcher: cannot start: ")
    assert len(second.log.read_text().splitlines()) == 1


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path, kept_mails=3)
    folder.open()

    for number in range(5):
        folder.save("a@example.com", ["b@example.com"], numbered(number))

    mailbox = Mailbox(tmp_path)
    assert [each.subject for each in mailbox.newest(mailbox.ids())] == ["4", "3", "2"]


def test_large_ones_are_kept_only_while_they_fit(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path, kept_bytes=2500)
    folder.open()

    for number in range(4):
        folder.save("a@example.com", ["b@example.com"], numbered(number) + b"x" * 900)
    folder.save("a@example.com", ["b@example.com"], numbered(4) + b"x" * 9000)

    mailbox = Mailbox(tmp_path)
    assert [each.subject for each in mailbox.newest(mailbox.ids())] == ["4"]


def test_limit_counts_what_was_there_before_and_leaves_foreign_files(tmp_path: Path) -> None:
    first = MailFolder(tmp_path)
    first.open()
    for number in range(3):
        first.save("a@example.com", ["b@example.com"], numbered(number))
    (tmp_path / "notes.eml").write_text("mine")
    (tmp_path / ".incoming-dead").write_text("half")

    MailFolder(tmp_path, kept_mails=2).open()

    mailbox = Mailbox(tmp_path)
    assert [each.subject for each in mailbox.newest(mailbox.ids())] == ["2", "1"]
    assert (tmp_path / "notes.eml").exists()
    assert not (tmp_path / ".incoming-dead").exists()


def test_order_is_arrival_even_within_a_microsecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = MailFolder(tmp_path)
    folder.open()
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_000_000_000)

    for number in range(20):
        folder.save("a@example.com", ["b@example.com"], numbered(number))

    mailbox = Mailbox(tmp_path)
    subjects = [each.subject for each in mailbox.newest(mailbox.ids())]
    assert subjects == [str(number) for number in reversed(range(20))]
