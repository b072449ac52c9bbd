"""What every response has in common: an id, and a problem for everything that goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.http.middleware import RequestIdFilter
from app.http.problems import TABLE, TYPES
from app.queue.records.views import JobView
from tests.http_doubles import MemoryQueue, app_over, connect

LOG = {"type": "log.write", "params": {"message": "hello"}}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue)) as client:
        yield client


@pytest.mark.parametrize("path", ["/nothing", "/v1/jobs/", "/v1", "/healthz/", "/problems/none"])
async def test_unknown_path_is_a_problem(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json() == {
        "type": "/problems/not-found",
        "title": "Nothing is here",
        "status": 404,
        "detail": "There is nothing at this path.",
        "instance": path,
        "request_id": response.headers["x-request-id"],
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/jobs/x/cancel", "POST"),
        ("DELETE", "/v1/emails", "POST"),
        ("POST", "/v1/job-types", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/jobs", "GET, HEAD, POST"),
    ],
)
async def test_wrong_method_is_405_with_those_that_work(
    client: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)

    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert response.json()["type"] == "/problems/method-not-allowed"


async def test_head_works_where_get_does(client: httpx2.AsyncClient) -> None:
    assert (await client.head("/healthz")).status_code == 200


@pytest.mark.parametrize("given", ["abc", "A.b_c-9", "x" * 64])
async def test_sane_request_id_is_echoed_and_on_the_job(
    client: httpx2.AsyncClient, given: str
) -> None:
    response = await client.post("/v1/jobs", json=LOG, headers={"X-Request-Id": given})

    assert response.headers["x-request-id"] == given
    assert response.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "<script>", "é"])
async def test_other_request_ids_are_replaced(client: httpx2.AsyncClient, given: str) -> None:
    response = await client.get("/nothing", headers={b"X-Request-Id": given.encode()})

    assert response.headers["x-request-id"] != given
    assert response.headers["x-request-id"] == response.json()["request_id"]


async def test_unexpected_error_is_logged_and_tells_nothing(
    client: httpx2.AsyncClient, queue: MemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.failure = RuntimeError("secret-word")

    response = await client.post("/v1/jobs", json=LOG)

    assert response.status_code == 500
    assert response.json()["type"] == "/problems/internal-error"
    assert "secret-word" not in response.text
    [record] = caplog.records
    assert record.exc_info is not None
    assert vars(record)["fields"]["request_id"] == response.headers["x-request-id"]


async def test_log_lines_of_a_request_carry_its_id(caplog: pytest.LogCaptureFixture) -> None:
    other = logging.getLogger("recado.other")

    class Talkative(MemoryQueue):
        async def job(self, job_id: str) -> JobView | None:
            other.warning("inside")
            return None

    caplog.handler.addFilter(RequestIdFilter())
    async with connect(app_over(Talkative())) as client:
        await client.get("/v1/jobs/x", headers={"X-Request-Id": "r"})
    other.warning("outside")

    inside, outside = caplog.records
    assert vars(inside)["fields"] == {"request_id": "r"}
    assert "fields" not in vars(outside)


async def test_every_problem_is_explained(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/problems")).json()["data"]

    assert {each["type"] for each in listed} == {f"/problems/{slug}" for slug in TYPES}
    assert {row.slug for row in TABLE.values()} <= set(TYPES)
    for each in listed:
        shown = await client.get(each["type"])
        page = await client.get(each["type"], headers={"Accept": "text/html,*/*"})
        assert shown.json() == each
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert each["title"] in page.text


async def test_problems_are_listed_for_people_too(client: httpx2.AsyncClient) -> None:
    page = await client.get("/problems", headers={"Accept": "text/html"})

    assert 'href="/problems/not-found"' in page.text


async def test_index_leads_on(client: httpx2.AsyncClient) -> None:
    links = (await client.get("/")).json()["links"]

    for path in links.values():
        assert (await client.get(path)).status_code == 200


async def test_alive_also_when_redis_is_not(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    queue.unavailable = "Redis does not answer"

    alive = await client.get("/healthz")
    ready = await client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert ready.status_code == 503
    assert ready.json() == {"status": "unavailable", "reasons": ["Redis does not answer"]}


async def test_ready_says_why_not(client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ok", "reasons": []}

    queue.not_ready = ["no live worker listens to queue email"]
    response = await client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["reasons"] == ["no live worker listens to queue email"]
