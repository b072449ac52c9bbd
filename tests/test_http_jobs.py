"""Submitting jobs and watching them, as a client sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.queue.records.views import Attempt, JobError, JobView
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

IN_TWO_YEARS = (datetime.now(UTC) + timedelta(days=730)).isoformat()
LOG = {"type": "log.write", "params": {"message": "hello"}}
FIELDS = {
    "id", "type", "queue", "status", "priority", "attempt", "max_attempts", "created_at",
    "scheduled_at", "enqueued_at", "started_at", "ended_at", "expires_at", "next_attempt_at",
    "position", "eta_seconds", "progress", "result", "artifacts", "error", "attempts", "reason",
    "batch_id", "parent_ids", "tags", "request_id", "submitted_by", "warnings", "links",
}  # fmt: skip


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue)) as client:
        yield client


async def submit(client: httpx2.AsyncClient, **options: Any) -> httpx2.Response:
    return await client.post("/v1/jobs", json=LOG | {"options": options})


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return [error["pointer"] for error in response.json()["errors"]]


def view(job_id: str = "0" * 24, **values: Any) -> JobView:
    at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    facts: dict[str, Any] = {
        "id": job_id, "type": "log.write", "queue": "default", "priority": "default",
        "status": "queued", "attempt": 0, "max_attempts": 5, "created_at": at,
    }  # fmt: skip
    return JobView(**(facts | values))


class TestSubmitting:
    async def test_accepted_job_is_answered_whole_with_its_location(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await client.post("/v1/jobs", json=LOG, headers={"X-Request-Id": "r.1"})

        job = response.json()
        assert response.status_code == 202
        assert response.headers["location"] == f"/v1/jobs/{job['id']}"
        assert response.headers["retry-after"] == "1"
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert set(job) == FIELDS
        assert job["status"] == "queued"
        assert job["created_at"].endswith("Z")
        assert (job["queue"], job["priority"], job["attempt"]) == ("default", "default", 0)
        assert (job["request_id"], job["submitted_by"]) == ("r.1", "local")
        assert job["links"]["cancel"] == f"/v1/jobs/{job['id']}/cancel"
        assert queue.drafts[0].params == {"message": "hello", "level": "info", "fields": {}}

    async def test_defaults_come_from_the_job_type_and_the_settings(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        await client.post("/v1/jobs", json=LOG)

        draft = queue.drafts[0]
        assert (draft.max_attempts, draft.timeout_seconds) == (5, 180)
        assert (draft.backoff.initial, draft.backoff.maximum) == (15, 3600)
        assert draft.retention_seconds == 24 * 3600
        assert draft.failure_retention_seconds == 30 * 24 * 3600

    async def test_options_reach_the_queue(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        response = await submit(
            client, priority="high", max_attempts=25, backoff={"initial": 1.5, "max": 9},
            timeout=0.5, retention=60, dry_run=True, delay=2.5,
        )  # fmt: skip

        draft = queue.drafts[0]
        assert response.json()["priority"] == "high"
        assert draft.rq_queue == "default.high"
        assert (draft.max_attempts, draft.timeout_seconds) == (25, 0.5)
        assert (draft.backoff.initial, draft.backoff.factor, draft.backoff.maximum) == (1.5, 3, 9)
        assert (draft.retention_seconds, draft.dry_run, draft.delay_seconds) == (60, True, 2.5)

    async def test_null_option_is_an_absent_one(self, client: httpx2.AsyncClient) -> None:
        response = await submit(client, delay=None, priority=None, backoff=None)

        assert response.status_code == 202
        assert response.json()["status"] == "queued"

    async def test_delayed_job_is_scheduled(self, client: httpx2.AsyncClient) -> None:
        job = (await submit(client, delay=60)).json()

        assert (job["status"], job["enqueued_at"]) == ("scheduled", None)
        wait = datetime.fromisoformat(job["scheduled_at"]) - datetime.fromisoformat(
            job["created_at"]
        )
        assert wait == timedelta(seconds=60)

    async def test_time_of_another_zone_is_shown_in_utc(self, client: httpx2.AsyncClient) -> None:
        at = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
        local = at + timedelta(hours=2)

        response = await submit(client, scheduled_at=f"{local:%Y-%m-%dT%H:%M:%S}+02:00")

        assert response.json()["scheduled_at"] == f"{at:%Y-%m-%dT%H:%M:%SZ}"

    @pytest.mark.parametrize("at", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"])
    async def test_time_in_the_past_means_now(self, client: httpx2.AsyncClient, at: str) -> None:
        job = (await submit(client, scheduled_at=at)).json()

        assert (job["status"], job["scheduled_at"]) == ("queued", None)

    @pytest.mark.parametrize(
        ("options", "pointer"),
        [
            ({"delay": -1}, "/options/delay"),
            ({"delay": 366 * 86400}, "/options/delay"),
            ({"delay": "5"}, "/options/delay"),
            ({"delay": True}, "/options/delay"),
            ({"delay": 1, "scheduled_at": "2030-01-01T00:00:00Z"}, "/options"),
            ({"scheduled_at": "2030-01-01T00:00:00"}, "/options/scheduled_at"),
            ({"scheduled_at": "2030-01-01"}, "/options/scheduled_at"),
            ({"scheduled_at": "2030-13-01T00:00:00Z"}, "/options/scheduled_at"),
            ({"scheduled_at": 1900000000}, "/options/scheduled_at"),
            ({"scheduled_at": IN_TWO_YEARS}, "/options/scheduled_at"),
            ({"scheduled_at": "9999-12-31T23:59:59-23:59"}, "/options/scheduled_at"),
            ({"priority": "urgent"}, "/options/priority"),
            ({"max_attempts": 0}, "/options/max_attempts"),
            ({"max_attempts": 26}, "/options/max_attempts"),
            ({"max_attempts": 1.5}, "/options/max_attempts"),
            ({"backoff": {"factor": 0.5}}, "/options/backoff/factor"),
            ({"backoff": {"jitter": 1.1}}, "/options/backoff/jitter"),
            ({"backoff": {"maximum": 1}}, "/options/backoff/maximum"),
            ({"timeout": 0}, "/options/timeout"),
            ({"timeout": 86401}, "/options/timeout"),
            ({"retention": 31 * 86400}, "/options/retention"),
            ({"dry_run": "yes"}, "/options/dry_run"),
        ],
    )
    async def test_bad_option_is_named(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, options: Any, pointer: str
    ) -> None:
        assert pointers(await submit(client, **options)) == [pointer]
        assert queue.drafts == []

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ([], [""]),
            ("text", [""]),
            ({}, ["/type"]),
            ({"type": 5}, ["/type"]),
            ({"type": "os.system", "params": {}}, ["/type"]),
            ({"type": "log.write"}, ["/params/message"]),
            ({"type": "log.write", "params": []}, ["/params"]),
            (LOG | {"options": None}, ["/options"]),
            (LOG | {"optoins": {}}, ["/optoins"]),
            (LOG | {"a/b~c": 1}, ["/a~1b~0c"]),
            ({"type": "log.write", "params": {"message": ""}}, ["/params/message"]),
            (
                {"type": "log.write", "params": {"level": "x"}, "options": {"timeout": -1}},
                ["/options/timeout", "/params/message", "/params/level"],
            ),
            ({"type": "no.such", "options": {"dely": 1}}, ["/options/dely", "/type"]),
        ],
    )
    async def test_every_bad_field_is_named_at_once(
        self, client: httpx2.AsyncClient, queue: MemoryQueue, body: Any, expected: list[str]
    ) -> None:
        assert pointers(await client.post("/v1/jobs", json=body)) == expected
        assert queue.drafts == []

    async def test_what_the_client_sent_is_not_echoed(self, client: httpx2.AsyncClient) -> None:
        response = await client.post(
            "/v1/jobs", json={"type": "log.write", "params": {"message": ["secret-word"]}}
        )

        assert pointers(response) == ["/params/message"]
        assert "secret-word" not in response.text

    async def test_capacity_warnings_are_told(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.capacity_warnings = ["no live worker listens to queue default"]

        assert (await submit(client)).json()["warnings"] == queue.capacity_warnings

    async def test_queue_that_cannot_take_the_job_is_503(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.unavailable = "Redis is full"

        response = await submit(client)

        assert response.status_code == 503
        assert response.headers["retry-after"] == "7"
        assert response.json()["type"] == "/problems/queue-unavailable"
        assert response.json()["detail"] == "Redis is full"

    async def test_submission_is_logged_without_its_params(
        self, client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "recado")
        response = await client.post("/v1/jobs", json=LOG, headers={"X-Request-Id": "r1"})

        [record] = [each for each in caplog.records if each.message == "job_submitted"]
        assert vars(record)["fields"] == {
            "job_id": response.json()["id"], "type": "log.write", "queue": "default",
            "request_id": "r1", "key": "local",
        }  # fmt: skip


class TestWatching:
    async def test_submitted_job_can_be_watched(self, client: httpx2.AsyncClient) -> None:
        accepted = await submit(client)

        response = await client.get(accepted.headers["location"])

        assert response.status_code == 200
        assert response.json() == accepted.json()

    async def test_job_tells_its_attempts_and_error(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        at = datetime(2030, 1, 2, 3, 4, 5, 600000, tzinfo=UTC)
        error = JobError("timeout", "took too long", "JobTimeoutError", retryable=True)
        queue.views["x" * 20] = view(
            "x" * 20, status="failed", attempt=1, ended_at=at, error=error,
            attempts=[Attempt(1, "w.1", at, at, "failed", error)], result={"sum": float("inf")},
        )  # fmt: skip

        job = (await client.get(f"/v1/jobs/{'x' * 20}")).json()

        shown = {
            "code": "timeout", "message": "took too long", "class": "JobTimeoutError",
            "retryable": True, "fingerprint": None,
        }  # fmt: skip
        assert job["error"] == shown
        assert job["attempts"] == [
            {
                "number": 1, "worker": "w.1", "started_at": "2030-01-02T03:04:05.600000Z",
                "ended_at": "2030-01-02T03:04:05.600000Z", "outcome": "failed", "error": shown,
            }
        ]  # fmt: skip
        assert job["result"] == {"sum": None}

    async def test_result_with_half_a_surrogate_pair_can_be_read(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        queue.views["x" * 20] = view("x" * 20, result={"text": "\ud800"})

        response = await client.get(f"/v1/jobs/{'x' * 20}")

        assert response.status_code == 200
        assert b'"\\ud800"' in response.content

    @pytest.mark.parametrize("job_id", ["f" * 35, "no", "x%20y", "%F0%9F%98%80", "a.b", "z" * 500])
    async def test_unknown_job_is_404(self, client: httpx2.AsyncClient, job_id: str) -> None:
        response = await client.get(f"/v1/jobs/{job_id}")

        assert response.status_code == 404
        assert response.json()["type"] == "/problems/not-found"
        assert response.json()["instance"] == f"/v1/jobs/{job_id}"

    async def test_unchanged_job_is_304(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        path = (await submit(client)).headers["location"]
        first = await client.get(path)
        etag = first.headers["etag"]

        same = await client.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
        queue.views[path.rpartition("/")[2]].status = "started"
        changed = await client.get(path, headers={"If-None-Match": etag})

        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert changed.status_code == 200
        assert changed.headers["etag"] != etag

    async def test_include_shows_params_options_and_traceback(
        self, client: httpx2.AsyncClient, queue: MemoryQueue
    ) -> None:
        path = (await submit(client, priority="low")).headers["location"]
        queue.views[path.rpartition("/")[2]].traceback = "Traceback …"

        job = (await client.get(f"{path}?include=params,options,traceback")).json()

        assert job["params"]["message"] == "hello"
        assert job["options"]["priority"] == "low"
        assert job["traceback"] == "Traceback …"

    @pytest.mark.parametrize("query", ["include=secrets", "inlcude=params", "include=a&include=b"])
    async def test_unknown_query_is_refused(self, client: httpx2.AsyncClient, query: str) -> None:
        response = await client.get(f"/v1/jobs/{'x' * 20}?{query}")

        assert response.status_code == 422
        assert response.json()["errors"][0]["parameter"] in {"include", "inlcude"}

    async def test_redis_away_is_503(self, client: httpx2.AsyncClient, queue: MemoryQueue) -> None:
        queue.unavailable = "Redis does not answer"

        assert (await client.get(f"/v1/jobs/{'x' * 20}")).status_code == 503

    async def test_submit_key_sees_only_its_own_jobs(self, queue: MemoryQueue) -> None:
        keys = [key("a", "submit"), key("b", "submit"), key("r", "read"), key("o", "operate")]
        async with connect(app_over(queue, settings_with(keys))) as client:
            path = (await client.post("/v1/jobs", json=LOG, headers=bearer("a"))).headers[
                "location"
            ]
            seen = {
                name: await client.get(path, headers=bearer(name)) for name in ("a", "b", "r", "o")
            }
            unknown = await client.get(f"/v1/jobs/{'f' * 35}", headers=bearer("b"))

        assert {name: each.status_code for name, each in seen.items()} == {
            "a": 200, "b": 404, "r": 200, "o": 200,
        }  # fmt: skip
        varying = {"instance", "request_id"}
        assert {k: v for k, v in seen["b"].json().items() if k not in varying} == {
            k: v for k, v in unknown.json().items() if k not in varying
        }

    async def test_traceback_needs_operate(self, queue: MemoryQueue) -> None:
        async with connect(app_over(queue, settings_with([key("a", "submit", "read")]))) as client:
            path = (await client.post("/v1/jobs", json=LOG, headers=bearer("a"))).headers[
                "location"
            ]
            own = await client.get(f"{path}?include=params", headers=bearer("a"))
            refused = await client.get(f"{path}?include=traceback", headers=bearer("a"))

        assert own.json()["params"]["message"] == "hello"
        assert refused.status_code == 403
        assert "operate" in refused.json()["detail"]

    async def test_job_types_are_listed_with_their_schemas(
        self, client: httpx2.AsyncClient
    ) -> None:
        types = {each["name"]: each for each in (await client.get("/v1/job-types")).json()["data"]}

        shown = types["log.write"]
        assert (shown["queue"], shown["max_attempts"], shown["timeout"]) == ("default", 5, 180)
        assert shown["params"]["properties"]["message"]["type"] == "string"
        assert shown["backoff"] == {"initial": 15, "factor": 3, "max": 3600, "jitter": 0.2}
