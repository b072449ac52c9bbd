"""What the dashboard shows of a job's record: nothing of a mail, and whatever stands there."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rq.job import Job
from starlette.testclient import TestClient

from app.queue.records.calls import encode_call
from tests.dashboard_doubles import (
    EVIL,
    MAIL,
    Producer,
    everything_shown,
    jobs_url,
    listed,
    operator_of,
)


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def producer(server: redis.Redis) -> Producer:
    return Producer(server)


@pytest.fixture
def dashboard(redis_url: str) -> TestClient:
    return operator_of(redis_url)


@pytest.mark.parametrize("state", ["queued", "running", "failed", "finished"])
def test_no_page_tells_what_a_mail_says_or_to_whom(
    dashboard: TestClient, producer: Producer, state: str
) -> None:
    reply = {"address": "ana@example.com", "status": "refused", "code": 550, "reply": "no ana here"}
    result = {"message_id": "<id@example.com>", "recipients": [reply], "server": "mx.example.com"}
    error = "refused for ana@example.com [input_value={'text': 'A secret body'}, input_type=dict]"
    makers: dict[str, Callable[[], Job]] = {
        "queued": producer.queued,
        "running": producer.running,
        "failed": lambda: producer.failed(error),
        "finished": lambda: producer.finished(result),
    }
    job = makers[state]()
    producer.client.hset(job.key, "meta", json.dumps({"to": "ana@example.com"}))
    shown = everything_shown(dashboard, job)
    assert "email.send" in shown
    for secret in ("ana@", "example.com", "A secret", "no ana here"):
        assert secret not in shown
    if state == "finished":
        facts = dashboard.get(f"/0/data/job/{job.id}.json").json()
        assert facts["result"] == {"recipients": [{"status": "refused", "code": 550}]}


def test_a_result_of_other_work_is_shown_with_addresses_masked(
    dashboard: TestClient, producer: Producer
) -> None:
    job = producer.finished({"rows": [{"bob@example.com": "Bob <bob@example.com>"}]}, "data.query")
    facts = dashboard.get(f"/0/data/job/{job.id}.json").json()
    assert facts["description"] == "data.query"
    assert facts["result"] == {"rows": [{"b***@…": "Bob <b***@…>"}]}


def test_a_job_of_our_own_submission_shows_its_type(
    dashboard: TestClient, server: redis.Redis
) -> None:
    job_id = "0123456789abcdef0123"
    record: dict[Any, Any] = {
        "origin": "email",
        "status": "queued",
        "created_at": "2026-01-01T00:00:00.000000Z",
    }
    server.hset(f"rq:job:{job_id}", mapping=record | {"data": encode_call("email.send", MAIL)})
    server.sadd("rq:queues", "rq:queue:email")
    server.rpush("rq:queue:email", job_id)
    (row,) = listed(dashboard, "email", "queued")
    assert row["description"] == "email.send"
    assert row["created_at"] == "2026-01-01T00:00:00+00:00"


def test_a_foreign_job_shows_its_function_and_no_arguments(
    dashboard: TestClient, producer: Producer
) -> None:
    producer.queue("other").enqueue("os.system", "echo A secret")
    (row,) = listed(dashboard, "other", "queued")
    assert row["description"] == "os.system"


def test_broken_records_are_shown_as_such(
    dashboard: TestClient, producer: Producer, server: redis.Redis
) -> None:
    bomb = zlib.compressobj()
    stored = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(300)) + bomb.flush()
    bodies = {
        "not-json": b"\xff\xfe{", "bomb": stored, "pickled": zlib.compress(pickle.dumps(["f", 1])),
        "deep": b"[" * 100_000, "huge": b'["app.worker.perform",null,["x' + bytes(300_000),
        "empty": b"", "number": b"7", "html": json.dumps([EVIL, None, [], {}]).encode(),
    }  # fmt: skip
    producer.queued()
    for name, body in bodies.items():
        server.hset(f"rq:job:{name}", mapping={"data": body, "origin": "email", "status": "x"})
        server.hset(f"rq:job:{name}", mapping={"created_at": "yesterday", "meta": b"\xff"})
        server.hset(f"rq:job:{name}", "dependency_ids", "{")
        server.xadd(f"rq:results:{name}", {"type": 9, "return_value": "%", "exc_string": "%"})
    server.xadd("rq:results:bomb", {"return_value": base64.b64encode(b"[" * 50_000)})
    server.set("rq:job:of-another-type", "x")
    server.rpush("rq:queue:email", *bodies, "of-another-type", "gone", b"\xff\xfe")
    rows = dashboard.get(jobs_url("email", "queued", 200)).json()["jobs"]
    assert len(rows) == len(bodies) + 4
    assert {row["description"] for row in rows[1 : len(bodies) + 1]} == {"(unreadable job)"}
    for name in bodies:
        facts = dashboard.get(f"/0/data/job/{name}.json").json()
        assert facts["description"] == "(unreadable job)"
        assert dashboard.get(f"/0/view/job/{name}").status_code == 200


def test_keys_of_another_type_break_no_page(
    dashboard: TestClient, producer: Producer, server: redis.Redis
) -> None:
    producer.running()
    server.set("rq:failed:email", "x")
    server.set("rq:worker:box.1:executions", "x")
    server.sadd("rq:workers", "rq:worker:odd", "odd")
    server.sadd("rq:queues", "odd")
    server.set("rq:worker:odd", "x")
    assert (
        dashboard.get("/0/data/queues.json").json()["queues"][0]["failed_job_registry_count"] == 0
    )
    assert dashboard.get("/0/data/workers.json").json()["workers"][0]["current_job"] == "idle"
    assert listed(dashboard, "email", "failed") == []
