"""The application of examples/, as bin/dev runs it: over HTTP, with a real worker and mail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import httpx2
import pytest

from examples.tokens import BadTokenError, check_token, make_token, user_of
from tests.conftest import poll_until
from tests.test_dev_command import NOT_COPIED, ROOT, Dev


@dataclass(frozen=True)
class Running:
    """The application, and the service behind it, which a test may ask how things stand."""

    dev: Dev
    shop: httpx2.Client
    recado: httpx2.Client

    def sign_up(self, email: str, name: str = "Ana") -> httpx2.Response:
        return self.shop.post("/user/", json={"email": email, "name": name})

    def request_reset(self, email: str) -> httpx2.Response:
        return self.shop.post("/user/pwd_reset_token/", json={"email": email})

    def mails_to(self, address: str, count: int) -> list[EmailMessage]:
        """The mails that the address has got, newest first, once there are so many."""
        poll_until(lambda: len(self._ids_to(address)) >= count, what=f"{count} to {address}")
        return [
            message_from_bytes(
                self.recado.get(f"/inbox/{each}/source").content, policy=policy.default
            )
            for each in self._ids_to(address)
        ]

    def _ids_to(self, address: str) -> list[str]:
        mails = self.recado.get("/inbox/mails.json").json()["data"]
        return [each["id"] for each in mails if address in [to["address"] for to in each["to"]]]

    def ended(self, job_id: str) -> dict[str, Any]:
        path = f"/v1/jobs/{job_id}"
        poll_until(lambda: self.recado.get(path).json()["ended_at"], what="the job ends")
        job: dict[str, Any] = self.recado.get(path, params={"include": "params,options"}).json()
        return job


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    project = tmp_path_factory.mktemp("examples") / "project"
    shutil.copytree(ROOT, project, ignore=NOT_COPIED)
    dev = Dev(project, "--examples")
    try:
        dev.wait_until_ready()
        found = re.search(r"^  Examples +(http://\S+)$", dev.output, re.MULTILINE)
        assert found is not None, dev.output
        recado_url = f"http://127.0.0.1:{dev.port}"
        with (
            httpx2.Client(base_url=found[1], timeout=30) as shop,
            httpx2.Client(base_url=recado_url, timeout=30) as recado,
        ):
            yield Running(dev, shop, recado)
    finally:
        if dev.process.poll() is None:
            dev.process.terminate()
        dev.status()
    assert dev.processes() == {}


def token_in(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    found = re.search(r"#token=(\S+)", str(body.get_content()))
    assert found is not None
    return found[1]


def reset_jobs(running: Running, *addresses: str) -> list[dict[str, Any]]:
    """What the service has been asked to send to them, in that order."""
    listed = running.recado.get("/v1/jobs", params={"type": "email.send", "limit": 200}).json()
    jobs = [running.ended(each["id"]) for each in listed["data"]]
    return [
        job
        for address in addresses
        for job in jobs
        if job["params"]["to"] == [address] and job["params"]["template"] == "password_reset"
    ]


class TestForgottenPassword:
    def test_known_and_unknown_addresses_are_answered_alike(self, running: Running) -> None:
        running.sign_up("known@example.com")

        known = running.request_reset("Known@Example.com")
        unknown = running.request_reset("unknown@example.com")

        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        assert known.status_code == 202
        assert set(known.headers) == set(unknown.headers)

    def test_the_same_is_done_for_both_but_only_one_is_mailed(self, running: Running) -> None:
        running.sign_up("here@example.com")
        for address in ("here@example.com", "gone@example.com"):
            running.request_reset(address)

        mails = running.mails_to("here@example.com", 2)
        here, gone = reset_jobs(running, "here@example.com", "gone@example.com")

        assert mails[0]["subject"] == "Reset your Example Shop password"
        assert (here["options"]["dry_run"], gone["options"]["dry_run"]) == (False, True)
        assert gone["status"] == "finished"
        assert gone["result"]["dry_run"] is True
        for job in (here, gone):
            del job["options"]["dry_run"], job["options"]["expires_at"]
        assert here["options"] == gone["options"]
        # What is handed over has the same size, too: the addresses are equally long.
        urls = [job["params"]["variables"].pop("reset_url") for job in (here, gone)]
        assert len(urls[0]) == len(urls[1])
        assert here["params"]["variables"] == gone["params"]["variables"]
        sources = [running.recado.get(f"/inbox/{each}/source").text
                   for each in running._ids_to("gone@example.com")]  # fmt: skip
        assert sources == []

    def test_the_token_of_the_mail_works_once(self, running: Running) -> None:
        running.sign_up("once@example.com")
        running.request_reset("once@example.com")
        token = token_in(running.mails_to("once@example.com", 2)[0])
        choice = {"token": token, "password": "correct horse"}

        first = running.shop.post("/user/password/", json=choice)
        again = running.shop.post("/user/password/", json=choice)

        assert (first.status_code, again.status_code) == (204, 400)

    def test_the_token_for_nobody_opens_nothing(self, running: Running) -> None:
        running.request_reset("nobody@example.com")
        job = reset_jobs(running, "nobody@example.com")[0]
        token = job["params"]["variables"]["reset_url"].partition("#token=")[2]

        choice = {"token": token, "password": "correct horse"}

        assert running.shop.post("/user/password/", json=choice).status_code == 400

    def test_what_is_no_address_is_refused(self, running: Running) -> None:
        assert running.request_reset("nobody").status_code == 422
        assert running.request_reset("a@b.example, c@d.example").status_code == 422


class TestTokens:
    SECRET = b"s" * 32

    def test_it_is_good_until_it_expires(self) -> None:
        token = make_token(self.SECRET, "u1", "digest", 1000)

        check_token(self.SECRET, token, "digest", 999.9)
        assert user_of(token) == "u1"
        with pytest.raises(BadTokenError):
            check_token(self.SECRET, token, "digest", 1000.0)

    @pytest.mark.parametrize(
        ("secret", "digest", "change"),
        [
            (b"t" * 32, "digest", lambda token: token),
            (SECRET, "another", lambda token: token),
            (SECRET, "digest", lambda token: token.replace("u1.", "u2.")),
            (SECRET, "digest", lambda token: token.replace(".1000.", ".9000.")),
            (SECRET, "digest", lambda token: token[:-1]),
            (SECRET, "digest", lambda token: token.rpartition(".")[0]),
            (SECRET, "digest", lambda token: token.replace(".1000.", ".٣.")),
            (SECRET, "digest", lambda token: f"u1.1000.{'é' * 43}"),
        ],
    )
    def test_another_is_not(self, secret: bytes, digest: str, change: Any) -> None:
        token = change(make_token(self.SECRET, "u1", "digest", 1000))

        with pytest.raises(BadTokenError):
            check_token(secret, token, digest, 1.0)


class TestSignUp:
    def test_welcome_note_and_log_entry_are_one_batch(self, running: Running) -> None:
        answer = running.sign_up("ana@example.com", "Ana & Co")

        assert answer.status_code == 201
        batch = running.recado.get(f"/v1/batches/{answer.json()['batch_id']}").json()
        jobs = [running.ended(each) for each in batch["job_ids"]]
        assert [(job["type"], job["status"]) for job in jobs] == [
            ("email.send", "finished"), ("email.send", "finished"), ("log.write", "finished"),
        ]  # fmt: skip
        assert jobs[2]["result"]["fields"] == {"user_id": answer.json()["id"]}
        welcome = running.mails_to("ana@example.com", 1)[0]
        note = running.mails_to("admin@example.com", 1)[0]
        assert welcome["subject"] == "Welcome to Example Shop"
        assert note["subject"] == "Ana & Co has signed up"
        password = {"token": token_in(welcome), "password": "correct horse"}
        assert running.shop.post("/user/password/", json=password).status_code == 204

    def test_a_taken_address_is_refused_and_sends_nothing(self, running: Running) -> None:
        running.sign_up("twice@example.com")
        count = len(running.recado.get("/v1/jobs", params={"limit": 200}).json()["data"])

        assert running.sign_up("TWICE@example.com").status_code == 409
        jobs = running.recado.get("/v1/jobs", params={"limit": 200}).json()["data"]
        assert len(jobs) == count

    def test_what_the_service_refuses_makes_no_account(self, running: Running) -> None:
        for _ in range(2):
            assert running.sign_up("no address").status_code == 422


class TestProcesses:
    WORK = {"steps": 4, "seconds_per_step": 0.05}  # noqa: RUF012 - read only
    RESULT = {"steps": 4, "total": 10}  # noqa: RUF012

    def test_in_the_request_the_answer_is_the_result(self, running: Running) -> None:
        answer = running.shop.post("/sync-process/", json=self.WORK)

        assert (answer.status_code, answer.json()) == (200, self.RESULT)

    def test_as_a_job_the_answer_comes_first_and_the_same_result_later(
        self, running: Running
    ) -> None:
        answer = running.shop.post("/async-process/", json=self.WORK)

        assert answer.status_code == 202
        href = answer.headers["location"]
        poll_until(
            lambda: running.shop.get(href).json()["status"] == "finished", what="the work is done"
        )
        shown = running.shop.get(href).json()
        assert shown["result"] == self.RESULT
        assert shown["progress"]["current"] == 4

    def test_the_answer_does_not_wait_for_the_work(self, running: Running) -> None:
        long = {"steps": 60, "seconds_per_step": 1.0}

        answer = running.shop.post("/async-process/", json=long)

        job_id = answer.json()["id"]
        assert running.shop.get(answer.headers["location"]).json()["status"] in {
            "queued", "started",
        }  # fmt: skip
        assert running.recado.post(f"/v1/jobs/{job_id}/cancel").status_code in {200, 202}

    def test_report_on_a_table_comes_by_mail(self, running: Running) -> None:
        table = "city,sold\nLisboa,3\nPorto,5\n"

        answer = running.shop.post(
            "/process-and-email/", json={"email": "leo@example.com", "table": table}
        )

        assert answer.status_code == 202, answer.text
        (mail,) = running.mails_to("leo@example.com", 1)
        (report,) = mail.iter_attachments()
        assert mail["subject"] == "Job data.profile finished"
        assert report.get_content_type() == "text/html"
        assert "sold" in report.get_content()
        shown = running.shop.get(answer.headers["location"]).json()
        assert shown["result"]["row_count"] == 2

    def test_report_for_no_address_is_refused(self, running: Running) -> None:
        asked = {"email": "nobody", "table": "a\n1\n"}

        assert running.shop.post("/process-and-email/", json=asked).status_code == 422

    @pytest.mark.parametrize("path", ["/sync-process/", "/async-process/"])
    def test_both_refuse_what_does_not_fit(self, running: Running, path: str) -> None:
        assert running.shop.post(path, json={"steps": 0}).status_code == 422
        assert running.shop.post(path, content=b"no").status_code == 422

    def test_there_is_a_page_to_try_it_all(self, running: Running) -> None:
        page = running.shop.get("/")

        assert page.status_code == 200
        for path in ("/sync-process/", "/async-process/", "/user/", "/user/pwd_reset_token/",
                     "/process-and-email/"):  # fmt: skip
            assert f'data-post="{path}"' in page.text
