"""rq-dashboard's known faults, each closed, over real records in a real server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer
from starlette.testclient import TestClient

from app.queue.dashboard import pages
from tests.conftest import ValkeyServer, free_port
from tests.dashboard_doubles import (
    EVIL,
    MAIL,
    Producer,
    everything_shown,
    jobs_url,
    operator_of,
)

PAGES = ["/", "/0/view/queues", "/0/view/jobs", "/0/view/workers"]


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


def contents(server: redis.Redis) -> dict[Any, Any]:
    read: dict[Any, Callable[[Any], Any]] = {
        b"hash": server.hgetall,
        b"set": server.smembers,
        b"list": lambda key: server.lrange(key, 0, -1),
        b"zset": lambda key: server.zrange(key, 0, -1, withscores=True),
        b"stream": server.xrange,
        b"string": server.get,
    }
    return {key: read[server.type(key)](key) for key in server.keys("*")}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_brings_every_script_and_style_it_names(dashboard: TestClient, path: str) -> None:
    page = dashboard.get(path)
    assert page.status_code == 200
    named = re.findall(r'(?:src|href)="(/dashboard/(?:static|assets|favicon)[^"]*)"', page.text)
    assert len(named) >= 9
    for name in named:
        found = dashboard.get(f"http://testserver{name}")
        assert found.status_code == 200
        assert len(found.content) > 100


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_that_its_policy_would_stop(dashboard: TestClient, path: str) -> None:
    page = dashboard.get(path)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    inline = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>", page.text)
    assert all('type="text/template"' in tag or 'type="application/json"' in tag for tag in inline)
    assert re.search(r"\sstyle=|<style|\son\w+=|https?://[^\"]*\.(js|css)", page.text) is None


def test_scripts_need_no_eval_and_print_nothing_raw() -> None:
    script = pages.assets()["page.js"]
    templates = script.partition("/* Runs before")[0]
    printed = re.findall(r"^out \+= (.*);$", templates, re.MULTILINE)
    assert len(printed) > 50
    assert all(code.startswith(("escapeHtml(", '"')) for code in printed)
    assert "<%" not in "".join(pages.assets().values())
    assert re.search(r"new Function|\beval\(|\{\{|\{%", "".join(pages.assets().values())) is None


def test_a_hostile_queue_name_stays_text_in_page_and_script(
    dashboard: TestClient, producer: Producer
) -> None:
    name = "x');document.title='ran';//<img src=x onerror=y>\""
    producer.queued(queue=name.replace("/", ""))
    page = dashboard.get(
        "/0/view/jobs/"
        + "x%27%29;document.title=%27ran%27;%3Cimg%20src=x%20onerror=y%3E%22/queued/8/asc/1"
    )
    assert page.status_code == 200
    assert "<img" not in page.text
    assert "x')" not in page.text


def test_a_worker_busy_with_a_json_job_is_shown(dashboard: TestClient, producer: Producer) -> None:
    job = producer.running(worker="box.1")
    (worker,) = dashboard.get("/0/data/workers.json").json()["workers"]
    assert worker["name"] == "box.1"
    assert worker["state"] == "busy"
    assert worker["queues"] == ["email"]
    assert worker["current_job"]["job_id"] == job.id
    assert worker["current_job"]["call_string"] == "email.send"


def test_a_worker_with_many_jobs_says_how_many(dashboard: TestClient, producer: Producer) -> None:
    for _ in range(3):
        producer.running(worker="box.1")
    (worker,) = dashboard.get("/0/data/workers.json").json()["workers"]
    assert worker["current_job"]["call_string"] == "email.send and 2 more"


def test_queues_are_counted_by_registry(dashboard: TestClient, producer: Producer) -> None:
    producer.queued()
    producer.queued()
    producer.failed("no")
    (row,) = dashboard.get("/0/data/queues.json").json()["queues"]
    assert (row["name"], row["count"], row["failed_job_registry_count"]) == ("email", 2, 1)
    assert row["failed_url"] == "/dashboard/0/view/jobs/email/failed/8/asc/1"


def test_reading_changes_nothing(
    dashboard: TestClient, producer: Producer, server: redis.Redis
) -> None:
    running, failed = producer.running(), producer.failed("no")
    server.rpush("rq:queue:email", "gone-without-a-record")
    server.sadd("rq:workers", "rq:worker:gone")
    server.sadd("rq:worker:box.1:executions", "gone:execution")
    server.zadd("rq:wip:email", {f"{running.id}:long-expired": 1})
    before = contents(server)
    for job in (running, failed):
        everything_shown(dashboard, job)
    for path in PAGES:
        assert dashboard.get(path).status_code == 200
    assert dashboard.get("/0/data/queues.json").status_code == 200
    assert contents(server) == before


@pytest.mark.parametrize("order", ["asc", "dsc"])
@pytest.mark.parametrize("registry", ["queued", "failed"])
def test_pages_hold_each_job_once_in_order(
    dashboard: TestClient, producer: Producer, server: redis.Redis, registry: str, order: str
) -> None:
    ids = []
    for number in range(5):
        ids.append((producer.queued() if registry == "queued" else producer.failed("no")).id)
        server.zadd("rq:failed:email", {ids[-1]: number}, xx=True)
    pages = [
        dashboard.get(f"/0/data/jobs/email/{registry}/2/{order}/{page}.json").json()
        for page in (1, 2, 3, 4)
    ]
    shown = [job["id"] for page in pages for job in page["jobs"]]
    assert shown == (ids if order == "asc" else ids[::-1])
    assert [len(page["jobs"]) for page in pages] == [2, 2, 1, 0]
    assert pages[0]["pagination"]["num_pages"] == 3
    assert "prev_page" not in pages[0]["pagination"]
    assert "next_page" not in pages[2]["pagination"]


@pytest.mark.parametrize(
    ("per_page", "page"),
    [(0, 1), (201, 1), (-8, 1), ("many", 1), (8, 0), (8, -1), (8, "9" * 30), (8, "1.5")],
)
def test_a_page_out_of_bounds_is_refused(
    dashboard: TestClient, producer: Producer, per_page: object, page: object
) -> None:
    producer.queued()
    assert 400 <= dashboard.get(jobs_url("email", "queued", per_page, page)).status_code < 500
    view = dashboard.get(f"/0/view/jobs/email/queued/{per_page}/asc/{page}")
    assert 400 <= view.status_code < 500


@pytest.mark.parametrize(
    "path",
    [
        "/0/view/job/unknown", "/0/data/job/unknown.json", "/0/data/job/x:dependents.json",
        "/0/view/job/..%00", "/0/view/jobs/unknown/queued/8/asc/1", jobs_url("unknown", "queued"),
        jobs_url("email", "nowhere"), "/0/data/jobs/email/queued/8/sideways/1.json",
        "/1/view/queues", "/7/data/queues.json", "/assets/other.js", "/static/nothing.js",
        "/nothing",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(
    dashboard: TestClient, producer: Producer, path: str
) -> None:
    producer.queued()
    assert dashboard.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/requeue/email", "/job/x/requeue", "/job/x/delete"])
def test_get_changes_nothing(dashboard: TestClient, producer: Producer, path: str) -> None:
    job = producer.failed("no")
    answer = dashboard.get(path.replace("x", job.id))
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"OPTIONS", "POST"}
    assert job.get_status() == "failed"


@pytest.mark.parametrize(
    "path",
    [
        "/job/x/delete",
        "/queue/email/queued/empty",
        "/queue/email/failed/empty",
        "/queue/email/compact",
    ],
)
def test_deleting_emptying_and_compacting_are_refused(
    dashboard: TestClient, producer: Producer, server: redis.Redis, path: str
) -> None:
    job = producer.failed("no")
    producer.queued()
    before = contents(server)
    answer = dashboard.post(path.replace("x", job.id) if "job" in path else path)
    assert answer.status_code == 403
    assert "API" in answer.json()["detail"]
    assert contents(server) == before


def test_pages_offer_no_deleting(dashboard: TestClient, producer: Producer) -> None:
    job = producer.failed("no")
    for path in (f"/0/view/job/{job.id}", "/0/view/jobs", "/0/view/jobs/email/queued/8/asc/1"):
        assert not re.search(r"delete-job-btn|empty-btn|compact-btn", dashboard.get(path).text)


def test_a_failed_job_is_requeued_as_rq_has_it(dashboard: TestClient, producer: Producer) -> None:
    failed = producer.failed("no")
    assert dashboard.post(f"/job/{failed.id}/requeue").json() == {"status": "OK"}
    job = Job.fetch(failed.id, connection=producer.client, serializer=JSONSerializer)
    assert job.get_status() == "queued"
    assert job.ended_at is None
    assert job.args[1] == MAIL
    assert producer.queue().get_job_ids() == [job.id]
    assert producer.queue().failed_job_registry.get_job_ids() == []
    for key in (job.key, f"rq:results:{job.id}", job.dependents_key):
        assert producer.client.ttl(key) < 0
    assert dashboard.post(f"/job/{failed.id}/requeue").status_code == 409
    assert producer.queue().get_job_ids() == [job.id]


def test_requeue_all_takes_what_failed_in_that_queue(
    dashboard: TestClient, producer: Producer
) -> None:
    failed = [producer.failed("no").id for _ in range(230)]
    other = producer.failed("no", queue="data")
    producer.client.zadd("rq:failed:email", {"gone": 1})
    answer = dashboard.post("/requeue/email")
    assert answer.json() == {"status": "OK", "count": 230}
    assert sorted(producer.queue().get_job_ids()) == sorted(failed)
    assert other.get_status() == "failed"
    assert dashboard.post("/requeue/unknown").status_code == 404


@pytest.mark.parametrize("state", ["queued", "running", "finished"])
def test_only_a_failed_job_can_be_requeued(
    dashboard: TestClient, producer: Producer, state: str
) -> None:
    job = producer.finished({}) if state == "finished" else getattr(producer, state)()
    before = contents(producer.client)
    assert dashboard.post(f"/job/{job.id}/requeue").status_code == 409
    assert contents(producer.client) == before


def test_html_in_data_leaves_as_json(dashboard: TestClient, producer: Producer) -> None:
    producer.failed(EVIL)
    answer = dashboard.get(jobs_url("email", "failed"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert EVIL in answer.json()["jobs"][0]["exc_info"]


@pytest.mark.parametrize("path", [*PAGES, "/0/data/queues.json", "/0/data/job/x.json"])
def test_with_redis_away_a_page_says_so(path: str) -> None:
    dashboard = operator_of(f"redis://:s3cret@127.0.0.1:{free_port()}/0")
    answer = dashboard.get(path)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "Redis does not answer" in answer.text
    assert "Traceback" not in answer.text
    assert "s3cret" not in answer.text


def test_no_page_tells_the_password_of_redis(valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("requirepass", "s3cret")
    dashboard = operator_of(f"redis://:s3cret@127.0.0.1:{valkey.port}/0")
    for path in PAGES:
        page = dashboard.get(path)
        assert page.status_code == 200
        assert f"127.0.0.1:{valkey.port}/0" in page.text
        assert "s3cret" not in page.text
