"""Who gets to the dashboard, by key or by session, and from which page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient
from starlette.types import Message

from app.http.sign_in import WINDOW_SECONDS, Guesses
from app.keyring import LOCAL_KEY, Keyring
from tests.dashboard_doubles import (
    KEYRING,
    OPERATOR,
    OPERATOR_KEY,
    Producer,
    client_of,
    mounted,
)

PAGE = "/dashboard/"
SIGN_IN = "/dashboard/sign-in"
HTML = {"Accept": "text/html,*/*;q=0.8"}
SAME = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}


@pytest.fixture
def producer(redis_url: str) -> Iterator[Producer]:
    with redis.Redis.from_url(redis_url) as client:
        yield Producer(client)


@pytest.fixture
def browser(redis_url: str) -> TestClient:
    return client_of(mounted(redis_url), headers=HTML)


def sign_in(
    browser: TestClient, key: str = OPERATOR_KEY, path: str = SIGN_IN, **headers: str
) -> Any:
    return browser.post(path, data={"key": key}, headers=SAME | headers)


def test_a_program_without_a_key_gets_a_problem(redis_url: str) -> None:
    answer = client_of(mounted(redis_url)).get("/dashboard/0/data/queues.json")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_browser_without_a_session_is_sent_to_sign_in(browser: TestClient) -> None:
    answer = browser.get(PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
    assert browser.post("/dashboard/requeue/email").status_code == 401


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {OPERATOR_KEY}", 200),
        (f"bearer  {OPERATOR_KEY}", 200),
        ("Bearer rcd_shop", 403),
        ("Bearer unknown", 401),
        ("Bearer", 401),
        (f"Basic {OPERATOR_KEY}", 401),
        ("Bearer \xff", 401),
    ],
)
def test_a_bearer_needs_the_scope_operate(
    browser: TestClient, authorization: str, status: int
) -> None:
    headers = {"Authorization": authorization.encode("latin-1")}
    assert browser.get(PAGE, headers=headers).status_code == status  # type: ignore[arg-type]


def test_a_wrong_bearer_is_not_made_good_by_a_session(browser: TestClient) -> None:
    sign_in(browser)
    assert browser.get(PAGE, headers={"Authorization": "Bearer unknown"}).status_code == 401


def test_signing_in_gives_a_session_and_the_page_asked_for(browser: TestClient) -> None:
    wanted = "/dashboard/0/view/workers"
    asked = browser.get(wanted).headers["location"]
    form = browser.get(asked)
    assert form.status_code == 200
    assert f'action="{asked}"' in form.text
    answer = sign_in(browser, path=asked)
    assert (answer.status_code, answer.headers["location"]) == (303, wanted)
    page = browser.get(wanted)
    assert page.status_code == 200
    assert "Sign out ops" in page.text


def test_the_cookie_is_for_this_server_only_and_holds_no_key(redis_url: str) -> None:
    plain = sign_in(client_of(mounted(redis_url))).headers["set-cookie"]
    assert plain.startswith("recado_session=")
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=3600"} <= set(plain.split("; "))
    assert "Secure" not in plain
    assert OPERATOR_KEY not in plain
    secure = sign_in(client_of(mounted(redis_url, secure_cookie=True))).headers["set-cookie"]
    assert secure.startswith("__Host-recado_session=")
    assert "Secure" in secure.split("; ")


@pytest.mark.parametrize(("key", "status"), [("unknown", 401), ("", 401), ("rcd_shop", 403)])
def test_a_key_that_may_not_gets_the_form_again(browser: TestClient, key: str, status: int) -> None:
    answer = sign_in(browser, key)
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert 'name="key"' in answer.text
    assert "set-cookie" not in answer.headers
    assert browser.get(PAGE).status_code == 303


@pytest.mark.parametrize(
    ("body", "status"), [(b"key=" + b"x" * 5000, 413), (b"\xff\xfe", 401), (b"&" * 50, 401)]
)
def test_a_strange_form_is_refused(browser: TestClient, body: bytes, status: int) -> None:
    assert browser.post(SIGN_IN, content=body, headers=SAME).status_code == status


def test_guessing_is_slowed_for_the_one_who_guesses(redis_url: str) -> None:
    app = mounted(redis_url)
    guesser, other = client_of(app, "192.0.2.1"), client_of(app, "192.0.2.2")
    assert [sign_in(guesser, f"guess {n}").status_code for n in range(10)] == [401] * 10
    refused = sign_in(guesser)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    assert sign_in(other).status_code == 303


def test_a_minute_after_its_guesses_a_client_may_try_again() -> None:
    now = 0.0
    guesses = Guesses(lambda: now)
    for client in ["a"] * 10 + [str(number) for number in range(1023)]:
        guesses.note(client)
    assert guesses.too_many("a")
    assert not guesses.too_many("b")
    now = WINDOW_SECONDS
    assert not guesses.too_many("a")


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/", "//evil.example/", "/dashboard//evil.example", "/v1/jobs",
        "/dashboard/../v1", "/dashboard/\\evil", "/dashboard/x\r\nSet-Cookie: a=b", "",
    ],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(browser: TestClient, wanted: str) -> None:
    answer = browser.post(
        SIGN_IN, params={"next": wanted}, data={"key": OPERATOR_KEY}, headers=SAME
    )
    assert answer.headers["location"] == PAGE
    form = browser.get(SIGN_IN, params={"next": '"><script>'})
    assert "<script" not in form.text


def test_signing_out_ends_the_session_in_the_browser(browser: TestClient) -> None:
    sign_in(browser)
    assert browser.get("/dashboard/sign-out").status_code == 405
    answer = browser.post("/dashboard/sign-out", headers=SAME)
    assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
    assert browser.get(PAGE).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://testserver:8080"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[evil"},
    ],
)
@pytest.mark.parametrize("way", ["session", "bearer", "local"])
def test_another_sites_page_changes_nothing(
    redis_url: str, headers: dict[str, str], way: str
) -> None:
    local = way == "local"
    app = mounted(
        redis_url, Keyring([]) if local else KEYRING, local_key=LOCAL_KEY if local else None
    )
    client = client_of(app, "127.0.0.1")
    if way == "session":
        sign_in(client)
    elif way == "bearer":
        client.headers.update(OPERATOR)
    else:
        client.headers["Host"] = "localhost"
    for path in ("/dashboard/requeue/default", "/dashboard/sign-in", "/dashboard/sign-out"):
        answer = client.post(path, headers=headers)
        problem = answer.json()
        assert answer.status_code == 403
        kinds = {"local-only", "cross-origin"} if way == "local" else {"cross-origin"}
        assert problem["type"].removeprefix("/problems/") in kinds
        assert (problem["instance"], problem["status"]) == (path, 403)
        assert "request_id" in problem
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SAME, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "https://testserver"}, 200),  # a proxy took TLS off
        ({}, 403),
    ],
)
def test_a_session_acts_only_from_its_own_pages(
    browser: TestClient, headers: dict[str, str], status: int
) -> None:
    sign_in(browser)
    assert browser.post("/dashboard/requeue/default", headers=headers).status_code == status


def test_a_program_with_a_key_needs_no_origin(redis_url: str) -> None:
    program = client_of(mounted(redis_url), headers=OPERATOR)
    assert program.post("/dashboard/requeue/default").status_code == 200


def test_without_keys_this_machine_is_let_in_and_no_other(redis_url: str) -> None:
    app = mounted(redis_url, Keyring([]), local_key=LOCAL_KEY)
    here = client_of(app, "127.0.0.1", base_url="http://127.0.0.1:8000")
    assert here.get(PAGE).status_code == 200
    assert "Sign out" not in here.get(PAGE).text
    assert here.get(SIGN_IN).headers["location"] == PAGE
    assert here.post("/dashboard/requeue/default").status_code == 200
    assert here.get(PAGE, headers={"Host": "rebound.example"}).status_code == 403
    assert (
        client_of(app, "192.0.2.7", base_url="http://127.0.0.1:8000").get(PAGE).status_code == 403
    )


@pytest.mark.parametrize(
    ("path", "credentials", "status"),
    [
        (PAGE, OPERATOR, 200),
        ("/dashboard/0/data/workers.json", OPERATOR, 200),
        ("/dashboard/nothing", OPERATOR, 404),
        ("/dashboard/static/css/main.css", OPERATOR, 200),
        ("/dashboard/assets/page.js", OPERATOR, 200),
        (PAGE, {}, 401),
        (PAGE, HTML, 303),
        (SIGN_IN, {}, 200),
        ("/dashboard/sign-out", {}, 405),
    ],
)
def test_every_answer_is_hardened(
    redis_url: str, path: str, credentials: dict[str, str], status: int
) -> None:
    answer = client_of(mounted(redis_url)).get(path, headers=credentials)
    assert answer.status_code == status
    assert_hardened(answer.headers)
    static = "/static/" in path or "/assets/" in path
    assert ("no-store" in answer.headers["cache-control"]) != static


def assert_hardened(headers: Mapping[str, str]) -> None:
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_address_without_its_last_slash_leads_on(browser: TestClient) -> None:
    assert browser.get("/dashboard").headers["location"] == PAGE


async def test_bytes_in_the_query_are_no_crash(redis_url: str) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {
        "type": "http", "method": "GET", "path": PAGE, "query_string": b"\xe9",
        "http_version": "1.1", "headers": [(b"authorization", OPERATOR["Authorization"].encode())],
    }  # fmt: skip
    await mounted(redis_url)(scope, receive, send)
    assert sent[0]["status"] == 400


def test_an_act_is_logged_with_its_keys_name(
    redis_url: str, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    job = producer.failed("no")
    with caplog.at_level(logging.INFO, "recado.dashboard"):
        client_of(mounted(redis_url), headers=OPERATOR).post(f"/dashboard/job/{job.id}/requeue")
    (record,) = [record for record in caplog.records if record.message == "dashboard_act"]
    fields: dict[str, Any] = vars(record)["fields"]
    assert fields == {"path": f"/job/{job.id}/requeue", "status": 200, "key": "ops"}
    assert OPERATOR_KEY not in caplog.text


def test_an_act_is_in_the_audit_trail_and_the_jobs(redis_url: str, producer: Producer) -> None:
    job = producer.failed("no")
    client_of(mounted(redis_url), headers=OPERATOR).post(f"/dashboard/job/{job.id}/requeue")
    acts: Any = producer.client.xrange("rq:recado:audit")
    ((_, act),) = acts
    assert (act[b"key"], act[b"action"]) == (b"ops", b"retry")
    assert act[b"target"] == f"/v1/jobs/{job.id}".encode()
    trail: Any = producer.client.hget(job.key, "x_trail")
    assert b'"by":"ops"' in trail
