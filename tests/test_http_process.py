"""The web process as an operator runs it, on a real Valkey that comes and goes."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from app.http.server import listen
from tests.conftest import ValkeyServer, poll_until
from tests.harness import ROOT
from tests.http_doubles import bearer, key
from tests.web_process import Start, Web, web_processes

LOG = {"type": "log.write", "params": {"message": "hello"}}


@contextmanager
def asking(web: Web) -> Iterator[http.client.HTTPConnection]:
    """A client that has sent a job and not looked at the answer yet."""
    connection = http.client.HTTPConnection("localhost", web.port, timeout=15)
    body = json.dumps(LOG)
    connection.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def stopped(valkey: ValkeyServer) -> Iterator[None]:
    """It answers nobody until it goes on, with the block's end at the latest."""
    valkey.halt()
    try:
        yield
    finally:
        valkey.go_on()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with web_processes(tmp_path) as start:
        yield start


def test_submitted_job_stands_in_redis_as_rq_reads_it(start: Start, redis_url: str) -> None:
    web = start(redis_url)

    accepted = web.client.post("/v1/jobs", json=LOG).json()

    shown = web.client.get(accepted["links"]["self"] + "?include=params").json()
    assert shown.pop("params")["message"] == "hello"
    # The queue was not looked at before the answer: where the job stands is told later.
    times = {"created_at", "enqueued_at", "position"}
    assert {k: v for k, v in shown.items() if k not in times} == {
        k: v for k, v in accepted.items() if k not in times
    }
    assert shown["created_at"][:23] == accepted["created_at"][:23]
    assert accepted["warnings"] == ["no live worker listens to queue default"]
    with redis.Redis.from_url(redis_url) as client:
        job = Job.fetch(accepted["id"], connection=client, serializer=JSONSerializer)
        assert (job.get_status(), job.origin) == ("queued", "default")
        assert job.args[0] == "log.write"


def test_delayed_job_is_queued_when_it_is_due(start: Start, redis_url: str) -> None:
    web = start(redis_url)

    job = web.client.post("/v1/jobs", json=LOG | {"options": {"delay": 0.05}}).json()

    assert job["status"] == "scheduled"
    poll_until(
        lambda: web.client.get(job["links"]["self"]).json()["status"] == "queued",
        what="the job is queued",
    )


def test_starts_without_redis_and_works_when_it_comes(start: Start, valkey: ValkeyServer) -> None:
    valkey.kill()
    web = start(valkey.url, SUBMIT_TIMEOUT_SECONDS="0.3")

    away = web.client.post("/v1/jobs", json=LOG)
    ready = web.client.get("/readyz")
    dashboard = web.client.get("/dashboard/")
    valkey.start()

    assert away.status_code == 503
    assert int(away.headers["retry-after"]) > 0
    assert away.json()["type"] == "/problems/queue-unavailable"
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["Redis does not answer"])
    assert dashboard.status_code == 503
    poll_until(
        lambda: web.client.post("/v1/jobs", json=LOG).status_code == 202, what="a job is taken"
    )
    assert web.client.get("/dashboard/").status_code == 200


def test_accepted_jobs_outlive_the_death_of_redis(start: Start, valkey: ValkeyServer) -> None:
    web = start(valkey.url)
    path = web.client.post("/v1/jobs", json=LOG).headers["location"]
    valkey.kill()
    valkey.start()

    poll_until(lambda: web.client.get(path).status_code == 200, what="the job is shown")


def test_who_asks_while_redis_halts_is_answered_by_what_it_says_then(
    start: Start, valkey: ValkeyServer
) -> None:
    web = start(valkey.url, MAX_QUEUE_JOBS="3")
    with ExitStack() as stack, stopped(valkey):
        clients = [stack.enter_context(asking(web)) for _ in range(5)]
        assert web.answers()
        valkey.go_on()
        statuses = sorted(client.getresponse().status for client in clients)

    assert statuses == [202, 202, 202, 503, 503]
    assert [each["event"] for each in web.events()].count("job_submitted") == 3


def test_redis_that_halts_for_too_long_is_told_and_its_late_reply_taken_for_nobody_elses(
    start: Start, valkey: ValkeyServer
) -> None:
    web = start(valkey.url, SUBMIT_TIMEOUT_SECONDS="0.5")
    assert web.client.post("/v1/jobs", json=LOG).status_code == 202
    with stopped(valkey):
        late = web.client.post("/v1/jobs", json=LOG)
    answers: list[httpx2.Response] = []

    def is_taken() -> bool:
        answers.append(web.client.post("/v1/jobs", json=LOG | {"options": {"tags": {"n": "1"}}}))
        return answers[-1].status_code == 202

    poll_until(is_taken, what="a job is taken")

    assert (late.status_code, late.json()["type"]) == (503, "/problems/queue-unavailable")
    shown = web.client.get(answers[-1].headers["location"]).json()
    assert shown["tags"] == {"n": "1"}


def test_request_under_way_outlives_its_client_and_the_order_to_end(
    start: Start, valkey: ValkeyServer
) -> None:
    web = start(valkey.url)
    with ExitStack() as stack, stopped(valkey):
        leaving, staying = (stack.enter_context(asking(web)) for _ in range(2))
        assert web.answers()
        leaving.close()
        assert web.answers()
        web.process.send_signal(signal.SIGTERM)
        poll_until(lambda: not web.listens(), what="the web process begins to end")
        valkey.go_on()
        answer = staying.getresponse()
        told = answer.status, answer.getheader("connection"), len(answer.read())

    assert told[:2] == (202, "close")
    assert told[2]
    assert web.process.wait(timeout=15) == 0
    with redis.Redis.from_url(valkey.url) as client:
        assert client.llen("rq:queue:default") == 2
    assert [each["event"] for each in web.events()].count("job_submitted") == 2


def test_job_under_way_is_not_refused_for_what_its_client_sends_next(
    start: Start, valkey: ValkeyServer
) -> None:
    web = start(valkey.url)
    with stopped(valkey), asking(web) as client:
        # A connection is accepted, and then read from: each in a turn of its own.
        assert all(web.answers() for _ in range(3))
        client.sock.sendall(b"\x00garbage\r\n\r\n")
        received = client.sock.recv(1024)

    assert received == b""
    with redis.Redis.from_url(valkey.url) as own:
        poll_until(lambda: own.llen("rq:queue:default") == 1, what="the job stands")


def test_log_names_no_request_that_was_answered_long_ago(
    start: Start, valkey: ValkeyServer
) -> None:
    web = start(valkey.url, SUBMIT_TIMEOUT_SECONDS="0.5")
    headers = {"X-Request-Id": "long-ago", "Prefer": "wait=0"}
    assert web.client.post("/v1/jobs", json=LOG, headers=headers).status_code == 202
    valkey.kill()

    assert web.client.post("/v1/jobs", json=LOG).status_code == 503

    told = [each for each in web.events() if each.get("request_id") == "long-ago"]
    assert {each["event"] for each in told} == {"job_submitted"}


@pytest.mark.parametrize("key", ["rq:workers", "rq:recado:paused", "rq:recado:beats"])
def test_job_is_taken_though_nobody_can_tell_who_will_run_it(
    start: Start, redis_url: str, key: str
) -> None:
    web = start(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
        client.set(key, "somebody's")

    answers = [web.client.post("/v1/jobs", json=LOG) for _ in range(3)]

    assert [(each.status_code, each.json().get("warnings")) for each in answers] == [(202, [])] * 3
    reasons = web.client.get("/readyz").json()
    assert "holds something else" in str(reasons)


def test_dashboard_and_inbox_stand_beside_the_api(start: Start, redis_url: str) -> None:
    web = start(redis_url)

    links = web.client.get("/").json()["links"]

    for name in ("dashboard", "inbox"):
        page = web.client.get(links[name], follow_redirects=True)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["x-request-id"]
    lost = web.client.get("/inbox/nothing")
    assert (lost.status_code, lost.headers["content-type"]) == (404, "application/problem+json")
    assert lost.json()["detail"].startswith("There is no such e-mail")


def test_keys_guard_everything_but_the_open_paths(start: Start, redis_url: str) -> None:
    keys = [key("o", "operate"), key("s", "submit")]
    entries = [f"{each.name}:{'+'.join(each.scopes)}:{each.digest}" for each in keys]
    web = start(redis_url, API_KEYS=",".join(entries))

    assert web.client.post("/v1/jobs", json=LOG).status_code == 401
    assert web.client.post("/v1/jobs", json=LOG, headers=bearer("s")).status_code == 202
    assert web.client.get("/dashboard/").status_code == 401
    assert web.client.get("/dashboard/", headers={"Accept": "text/html"}).status_code == 303
    assert web.client.get("/dashboard/", headers=bearer("s")).status_code == 403
    assert web.client.get("/dashboard/", headers=bearer("o")).status_code == 200
    elsewhere = {"Host": "jobs.example.test"}
    assert web.client.get("/healthz", headers=elsewhere).status_code == 200
    assert web.client.get("/inbox", headers=elsewhere).status_code == 403


def test_running_without_keys_is_said_loudly(start: Start, redis_url: str) -> None:
    web = start(redis_url, by_itself=True)

    assert web.end() == 0
    events = {each["event"]: each for each in web.events()}
    assert events["no_api_keys"]["level"] == "warning"
    assert events["web_started"]["host"] == "127.0.0.1"
    assert events["web_started"]["port"] == web.port
    assert "web_stopped" in events
    assert not [each for each in web.events() if each["level"] == "error"]


def test_taken_port_is_one_sentence_and_status_1(start: Start, redis_url: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        web = start(redis_url, wait=False, by_itself=True, PORT=str(taken.getsockname()[1]))

        assert web.process.wait(timeout=15) == 1
    assert web.log.read_text() == (
        f"web: Port {web.port} of 127.0.0.1 is in use by another program; set PORT to a free one.\n"
    )


@pytest.mark.parametrize("source", ["import no_such_module", "1/0", "def ("])
def test_broken_job_module_is_a_fault_of_the_settings(
    start: Start, redis_url: str, tmp_path: Path, source: str
) -> None:
    (tmp_path / "broken_jobs.py").write_text(source)

    web = start(redis_url, wait=False, JOB_MODULES="broken_jobs", PYTHONPATH=f"{ROOT}:{tmp_path}")

    assert web.process.wait(timeout=15) == 2
    assert "  JOB_MODULES: cannot " in web.log.read_text()
    assert "Traceback" not in web.log.read_text()
