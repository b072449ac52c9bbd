"""The dashboard as a browser runs it: HTML in data stays text, and the policy stops nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import redis
import uvicorn

from tests.browser.chromium import Chromium
from tests.conftest import free_port, poll_until
from tests.dashboard_doubles import EVIL, OPERATOR_KEY, Producer, mounted

pytestmark = pytest.mark.browser

HOSTILE_QUEUE = "<img src=x onerror=\"document.title='ran'\">');document.title='ran'"
HOSTILE_WORKER = "<img src=x onerror=\"document.title='ran'\">"


@pytest.fixture
def dashboard(redis_url: str) -> Iterator[str]:
    port = free_port()
    config = uvicorn.Config(mounted(redis_url), host="127.0.0.1", port=port, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    poll_until(lambda: server.started, what="the web server listens")
    yield f"http://127.0.0.1:{port}/dashboard"
    server.should_exit = True
    thread.join()


@pytest.fixture
def producer(redis_url: str) -> Iterator[Producer]:
    with redis.Redis.from_url(redis_url) as client:
        yield Producer(client)


def sign_in(browser: Chromium, url: str) -> None:
    browser.open(url)
    browser.wait_for("document.forms.length")
    browser.value(f"document.getElementById('key').value = {json.dumps(OPERATOR_KEY)}")
    browser.click("form button")
    browser.wait_for("!location.href.includes('sign-in') && document.readyState === 'complete'")


def test_html_in_data_stays_text_on_every_page(
    browser: Chromium, dashboard: str, producer: Producer
) -> None:
    failed, finished = producer.failed(EVIL), producer.finished({"x": EVIL}, "log.write")
    producer.running(worker="box.1")
    producer.client.copy("rq:worker:box.1", f"rq:worker:{HOSTILE_WORKER}")
    producer.client.sadd("rq:workers", f"rq:worker:{HOSTILE_WORKER}")
    producer.queue(HOSTILE_QUEUE).enqueue("os.system", EVIL, description=EVIL)
    producer.client.hset(failed.key, "meta", json.dumps({"x": EVIL}))
    pages = {
        "/0/view/queues": "onerror",
        "/0/view/workers": "onerror",
        "/0/view/jobs/email/failed/8/asc/1": "<script>",
        f"/0/view/job/{failed.id}": "<script>",
        f"/0/view/job/{finished.id}": "<script>",
    }
    sign_in(browser, dashboard)
    for path, expected in pages.items():
        browser.open(dashboard + path)
        browser.wait_for(f"document.body.innerText.includes({json.dumps(expected)})")
        assert browser.value("document.querySelectorAll('td img, #job-data img').length") == 0
        assert browser.value("document.title").endswith("RQ dashboard")
    browser.open(dashboard + "/0/view/jobs")
    browser.wait_for("document.querySelector('table#jobs td')")
    assert browser.complaints == []


def test_an_operator_signs_in_requeues_and_signs_out(
    browser: Chromium, dashboard: str, producer: Producer
) -> None:
    first, second = producer.failed("no"), producer.failed("no again")
    sign_in(browser, dashboard + "/0/view/jobs/email/failed/8/asc/1")
    browser.click(f"tr[data-job-id='{first.id}'] [data-role=requeue-job-btn]")
    poll_until(lambda: first.get_status() == "queued", what="the job is queued again")
    browser.wait_for("document.body.innerText.includes('Requeued')")
    browser.click("#requeue-all-btn")
    browser.click("#confirmation-modal.show #confirmation-modal-yes")
    poll_until(lambda: second.get_status() == "queued", what="the rest is queued again")
    assert browser.complaints == []
    browser.click(".sign-out button")
    browser.wait_for("document.getElementById('key') !== null")
    browser.open(dashboard + "/")
    browser.wait_for("location.href.includes('sign-in')")
