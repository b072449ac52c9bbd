"""Downloading what a job left behind: whole, in part, again, and by nobody else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.queue.records.views import JobView
from app.storage import Storage, artifact_key
from app.storage.folder import FolderStorage
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

KEYS = [key("a", "submit"), key("b", "submit"), key("r", "read")]
JOB = "0123456789abcdef0123"
PATH = f"/v1/jobs/{JOB}/artifacts/rows.csv"
# The same in each process of a test run, whose tests are named after it.
DATA = random.Random(7).randbytes(600_000)
SIZE = len(DATA)
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


async def keep(storage: Storage, name: str, content_type: str, data: bytes) -> dict[str, Any]:
    """The record that a worker makes of an artifact, and its bytes."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    stored = await storage.put(artifact_key(JOB, 1, name), chunks(), len(data))
    return {
        "name": name, "size": stored.size_bytes, "content_type": content_type,
        "sha256": stored.sha256, "key": artifact_key(JOB, 1, name),
    }  # fmt: skip


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    opened = FolderStorage(tmp_path / "storage")
    yield opened
    await opened.aclose()


@pytest.fixture
async def view(storage: Storage) -> JobView:
    return JobView(
        id=JOB, type="data.query", queue="data", priority="default", status="finished",
        attempt=1, max_attempts=3, created_at=datetime.now(UTC), ended_at=datetime.now(UTC),
        submitted_by="a",
        artifacts=[
            await keep(storage, "rows.csv", "text/csv", DATA),
            await keep(storage, "report.html", "text/html; charset=utf-8", b"<script>"),
            await keep(storage, "empty", "text/plain", b""),
        ],
    )  # fmt: skip


@pytest.fixture
async def client(storage: Storage, view: JobView) -> AsyncIterator[httpx2.AsyncClient]:
    queue = MemoryQueue(views={JOB: view})
    app = app_over(queue, settings_with(KEYS), storage=storage)
    async with connect(app, headers=bearer("a")) as client:
        yield client


async def test_artifact_is_downloaded(client: httpx2.AsyncClient) -> None:
    job = (await client.get(f"/v1/jobs/{JOB}")).json()
    shown = job["artifacts"][0]

    response = await client.get(shown["href"])

    assert shown == {
        "name": "rows.csv", "size": SIZE, "content_type": "text/csv",
        "sha256": ETAG.strip('"'), "href": PATH,
    }  # fmt: skip
    assert response.status_code == 200
    assert response.content == DATA
    assert response.headers["content-type"] == "text/csv"
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["content-disposition"] == 'attachment; filename="rows.csv"'
    assert response.headers["etag"] == ETAG
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "private" in response.headers["cache-control"]


async def test_page_that_somebody_opens_all_the_same_runs_nothing(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.get(f"/v1/jobs/{JOB}/artifacts/report.html")

    assert response.content == b"<script>"
    assert response.headers["content-disposition"].startswith("attachment")
    policy = response.headers["content-security-policy"]
    assert "sandbox" in policy.split("; ")
    assert "default-src 'none'" in policy


async def test_head_tells_all_but_the_content(client: httpx2.AsyncClient) -> None:
    get = await client.get(PATH)
    head = await client.head(PATH, headers={"Range": "bytes=0-1"})

    assert (head.status_code, head.content) == (200, b"")
    ignored = {"x-request-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in ignored} == {
        k: v for k, v in get.headers.items() if k not in ignored
    }


async def test_empty_artifact_is_downloaded(client: httpx2.AsyncClient) -> None:
    response = await client.get(f"/v1/jobs/{JOB}/artifacts/empty")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "0"


def reference(value: str) -> tuple[int, bytes, str | None]:
    """What RFC 9110 says of one range: status, content, Content-Range."""
    first, _, last = value.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, SIZE - int(last))
    end = min(int(last), SIZE - 1) if first and last else SIZE - 1
    return 206, DATA[start : end + 1], f"bytes {start}-{end}/{SIZE}"


@pytest.mark.parametrize(
    "value",
    ["bytes=0-0", "bytes=0-", "bytes=1-2", "bytes=262143-262145", f"bytes={SIZE - 1}-",
     f"bytes=0-{SIZE * 10}", "bytes=-1", f"bytes=-{SIZE}", f"bytes=-{SIZE * 5}", "bytes=100000-"],
)  # fmt: skip
async def test_part_is_downloaded(client: httpx2.AsyncClient, value: str) -> None:
    response = await client.get(PATH, headers={"Range": value})

    found = (response.status_code, response.content, response.headers["content-range"])
    assert found == reference(value)
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["etag"] == ETAG


@pytest.mark.parametrize("value", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
async def test_part_behind_the_end_is_416(client: httpx2.AsyncClient, value: str) -> None:
    response = await client.get(PATH, headers={"Range": value})

    assert response.status_code == 416
    assert response.json()["type"] == "/problems/range-not-satisfiable"
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "value",
    ["bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "0-1", "",
     "bytes=" + "9" * 5000 + "-", "bytes=0 - 1", "bytes=--1"],
)  # fmt: skip
async def test_range_that_is_none_is_ignored(client: httpx2.AsyncClient, value: str) -> None:
    response = await client.get(PATH, headers={"Range": value})

    assert (response.status_code, response.content) == (200, DATA)


async def test_any_range_of_an_empty_artifact_is_416(client: httpx2.AsyncClient) -> None:
    for value in ("bytes=0-", "bytes=-5"):
        response = await client.get(f"/v1/jobs/{JOB}/artifacts/empty", headers={"Range": value})
        assert response.status_code == 416


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", "*", f'"other", {ETAG}'])
async def test_client_that_has_it_gets_304(client: httpx2.AsyncClient, known: str) -> None:
    headers = {"If-None-Match": known, "Range": "bytes=0-1"}

    response = await client.get(PATH, headers=headers)

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == ETAG


async def test_client_that_has_another_gets_it(client: httpx2.AsyncClient) -> None:
    response = await client.get(PATH, headers={"If-None-Match": '"other"'})

    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(ETAG, 206), (f"W/{ETAG}", 200), ('"other"', 200), ("Sat, 29 Oct 1994 19:43:31 GMT", 200)],
)
async def test_rest_is_sent_only_of_the_same_content(
    client: httpx2.AsyncClient, if_range: str, status: int
) -> None:
    response = await client.get(PATH, headers={"Range": "bytes=10-", "If-Range": if_range})

    assert response.status_code == status
    assert response.content == (DATA[10:] if status == 206 else DATA)


async def test_artifact_belongs_to_whose_the_job_is(client: httpx2.AsyncClient) -> None:
    for method in ("GET", "HEAD"):
        foreign = await client.request(method, PATH, headers=bearer("b"))
        assert foreign.status_code == 404
        assert (await client.request(method, PATH, headers=bearer("r"))).status_code == 200
    unknown = await client.get("/v1/jobs/99999999999999999999/artifacts/rows.csv")
    assert unknown.status_code == 404


@pytest.mark.parametrize(
    "name",
    ["other", "ROWS.CSV", "..%2frows.csv", "%2e%2e", "rows.csv%00", "rows.csv%0a", "a" * 10_000,
     "%E2%80%AEvsc.swor", "%22rows.csv%22"],
)  # fmt: skip
async def test_name_that_is_not_there_is_404(client: httpx2.AsyncClient, name: str) -> None:
    response = await client.get(f"/v1/jobs/{JOB}/artifacts/{name}")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_artifacts_go_with_a_deleted_job(client: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert (await client.delete(f"/v1/jobs/{JOB}", headers=bearer("a"))).status_code == 204

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_bytes_that_storage_has_lost_are_404(
    client: httpx2.AsyncClient, storage: Storage
) -> None:
    await storage.delete_under(f"artifacts/{JOB}/")

    for method in ("GET", "HEAD"):
        assert (await client.request(method, PATH)).status_code == 404


async def test_storage_that_cannot_be_read_is_503(view: JobView) -> None:
    async with connect(app_over(MemoryQueue(views={JOB: view}))) as client:
        response = await client.get(PATH)

    assert response.status_code == 503
    assert response.json()["type"] == "/problems/storage-unavailable"


async def test_content_type_cannot_inject_a_header(
    client: httpx2.AsyncClient, view: JobView
) -> None:
    view.artifacts[0]["content_type"] = "text/html\r\nX-Injected: 1"

    response = await client.get(PATH)

    assert response.headers["content-type"] == "application/octet-stream"
    assert "x-injected" not in response.headers
