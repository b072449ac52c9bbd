"""Who is answered: API keys with scopes, or this machine alone when there are none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LOG = {"type": "log.write", "params": {"message": "hello"}}
KEYS = [key("s", "submit"), key("r", "read"), key("o", "operate")]


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def keyed(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    app = app_over(queue, settings_with(KEYS))
    async with connect(
        app, client=("203.0.113.9", 1), base_url="https://jobs.example.test"
    ) as client:
        yield client


class TestWithKeys:
    @pytest.mark.parametrize(
        "authorization",
        [None, "", "Bearer", "Bearer ", "Basic c3M=", "Bearer wrong", "bearer\tss", "Bearer é"],
    )
    async def test_no_valid_key_is_401_with_a_challenge(
        self, keyed: httpx2.AsyncClient, queue: MemoryQueue, authorization: str | None
    ) -> None:
        headers = {} if authorization is None else {b"Authorization": authorization.encode()}

        response = await keyed.post("/v1/jobs", json=LOG, headers=headers)

        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="recado"'
        assert response.json()["type"] == "/problems/unauthenticated"
        assert queue.drafts == []

    async def test_key_with_the_scope_may_submit_under_its_name(
        self, keyed: httpx2.AsyncClient
    ) -> None:
        response = await keyed.post("/v1/jobs", json=LOG, headers=bearer("s"))

        assert response.status_code == 202
        assert response.json()["submitted_by"] == "s"

    async def test_scheme_is_case_insensitive(self, keyed: httpx2.AsyncClient) -> None:
        response = await keyed.post("/v1/jobs", json=LOG, headers={"Authorization": "bearer ss"})

        assert response.status_code == 202

    @pytest.mark.parametrize("name", ["r", "o"])
    async def test_missing_scope_is_403_and_named(
        self, keyed: httpx2.AsyncClient, queue: MemoryQueue, name: str
    ) -> None:
        response = await keyed.post("/v1/jobs", json=LOG, headers=bearer(name))

        assert response.status_code == 403
        assert response.json()["type"] == "/problems/missing-scope"
        assert "submit" in response.json()["detail"]
        assert queue.drafts == []

    async def test_key_is_checked_before_the_body_is_read(self, keyed: httpx2.AsyncClient) -> None:
        response = await keyed.post("/v1/jobs", content=b" " * (26 * 1024 * 1024))

        assert response.status_code == 401

    @pytest.mark.parametrize(
        "path",
        ["/healthz", "/readyz", "/problems", "/problems/not-found", "/openapi.json", "/docs"],
    )
    async def test_some_paths_are_open_to_all(self, keyed: httpx2.AsyncClient, path: str) -> None:
        assert (await keyed.get(path)).status_code == 200

    async def test_refusals_are_logged_without_the_key(
        self, keyed: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "recado")
        await keyed.get("/v1/job-types", headers={"Authorization": "Bearer secret-word"})

        [record] = caplog.records
        fields = vars(record)["fields"]
        assert (record.message, fields["status"]) == ("request_refused", 401)
        assert "secret-word" not in str(fields)


class TestWithoutKeys:
    async def test_this_machine_acts_as_the_local_key(self, queue: MemoryQueue) -> None:
        async with connect(app_over(queue)) as client:
            response = await client.post("/v1/jobs", json=LOG)

        assert response.json()["submitted_by"] == "local"

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
    async def test_loopback_peers_are_answered(self, queue: MemoryQueue, peer: str) -> None:
        async with connect(app_over(queue), client=(peer, 1)) as client:
            assert (await client.get("/healthz")).status_code == 200

    @pytest.mark.parametrize("peer", ["192.168.0.7", "203.0.113.9", "::ffff:10.0.0.1", "fe80::1"])
    async def test_other_machines_are_refused(self, queue: MemoryQueue, peer: str) -> None:
        async with connect(app_over(queue), client=(peer, 1)) as client:
            for path in ("/healthz", "/v1/job-types", "/nothing"):
                response = await client.get(path)
                assert response.status_code == 403
                assert response.json()["type"] == "/problems/local-only"

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
    async def test_local_names_are_answered(self, queue: MemoryQueue, host: str) -> None:
        async with connect(app_over(queue)) as client:
            response = await client.get("/healthz", headers={"Host": host})

        assert response.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example.test"},
            {"Host": "localhost.evil.example.test"},
            {"Host": "127.0.0.1.nip.io"},
            {"Host": ""},
            {"X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
        ],
    )
    async def test_rebound_names_and_proxies_are_refused(
        self, queue: MemoryQueue, headers: dict[str, str]
    ) -> None:
        async with connect(app_over(queue)) as client:
            assert (await client.get("/healthz", headers=headers)).status_code == 403

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("http://localhost", 202),
            ("https://app.example.test", 202),
            ("https://evil.example.test", 403),
            ("http://localhost:9999", 403),
            ("null", 403),
        ],
    )
    async def test_other_sites_pages_cannot_submit(
        self, queue: MemoryQueue, origin: str, status: int
    ) -> None:
        settings = settings_with(cors_origins=["https://app.example.test"])
        async with connect(app_over(queue, settings)) as client:
            response = await client.post("/v1/jobs", json=LOG, headers={"Origin": origin})

        assert response.status_code == status


class TestBrowsers:
    async def test_no_origin_is_allowed_by_default(self, keyed: httpx2.AsyncClient) -> None:
        response = await keyed.get("/healthz", headers={"Origin": "https://app.example.test"})

        assert "access-control-allow-origin" not in response.headers

    async def test_configured_origin_may_call_and_read_errors(self, queue: MemoryQueue) -> None:
        origin: dict[str, Any] = {"Origin": "https://app.example.test"}
        settings = settings_with(KEYS, cors_origins=["https://app.example.test"])
        async with connect(app_over(queue, settings)) as client:
            preflight = await client.options(
                "/v1/jobs",
                headers=origin
                | {
                    "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": (
                        "authorization,content-type,idempotency-key,prefer,last-event-id"
                    ),
                },
            )
            method = await client.options(
                "/v1/jobs", headers=origin | {"Access-Control-Request-Method": "PATCH"}
            )
            refused = await client.post("/v1/jobs", json=LOG, headers=origin)

        assert method.status_code == 400
        assert method.headers["content-type"] == "application/problem+json"
        assert method.json()["request_id"] == method.headers["x-request-id"]
        assert "Access-Control-Request-Method asks" in method.json()["detail"]
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin["Origin"]
        assert preflight.headers["x-request-id"]
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == origin["Origin"]
        exposed = refused.headers["access-control-expose-headers"].split(", ")
        assert {
            "X-Request-Id", "Location", "Retry-After", "ETag", "Link", "Preference-Applied",
            "Idempotency-Replayed", "RateLimit", "RateLimit-Policy", "Content-Disposition",
        } <= set(exposed)  # fmt: skip
