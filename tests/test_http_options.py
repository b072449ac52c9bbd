"""Options of a submission: what reaches the queue, what is shown, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.queue.records.options import Concurrency
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LOG = {"type": "log.write", "params": {"message": "hello"}}


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
async def client(queue: MemoryQueue) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app_over(queue)) as client:
        yield client


async def submit(client: httpx2.AsyncClient, **options: Any) -> httpx2.Response:
    return await client.post("/v1/jobs", json=LOG | {"options": options})


def at(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat().replace("+00:00", "Z")


def faults(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [each["pointer"] for each in response.json()["errors"]]


async def test_expiry_concurrency_and_tags_reach_the_queue(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    response = await submit(
        client, expires_at="2030-01-01T02:00:00+02:00", tags={"order": "17", "empty": ""},
        concurrency={"key": "shop é", "limit": 3},
    )  # fmt: skip

    draft = queue.drafts[0]
    assert draft.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert draft.concurrency == Concurrency("shop é", 3)
    assert draft.tags == {"order": "17", "empty": ""}
    assert response.json()["expires_at"] == "2030-01-01T00:00:00Z"
    assert response.json()["tags"] == {"order": "17", "empty": ""}


async def test_parents_are_named_once_and_shown(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    first = (await submit(client)).json()["id"]
    second = (await submit(client)).json()["id"]

    job = (await submit(client, depends_on=[first, second, first], allow_failure=True)).json()

    assert job["parent_ids"] == [first, second]
    assert job["status"] == "deferred"
    assert (queue.drafts[-1].depends_on, queue.drafts[-1].allow_failure) == ([first, second], True)


async def test_unknown_parent_is_named_where_it_stands(client: httpx2.AsyncClient) -> None:
    known = (await submit(client)).json()["id"]

    response = await submit(client, depends_on=[known, known, "f" * 35])

    assert faults(response) == ["/options/depends_on/2"]


async def test_everything_that_is_wrong_is_told_at_once(client: httpx2.AsyncClient) -> None:
    options = {
        "allow_failure": 1,
        "depends_on": ["x" * 20, "y" * 20],
        "expires_at": "2001-01-01T00:00:00Z",
    }
    jobs = [
        {"type": "log.write", "params": {"message": 5}, "options": options, "func": "os.system"},
    ]
    answers = [
        await client.post("/v1/jobs", json=jobs[0], headers={"Idempotency-Key": "k"}),
        await client.post("/v1/jobs", json=jobs[0]),
        await client.post("/v1/batches", json={"jobs": [LOG, jobs[0]]}),
        await client.post("/v1/emails", json={"nonsense": 1, "options": options}),
    ]

    times_and_parents = [
        "/options/expires_at", "/options/depends_on/0", "/options/depends_on/1",
    ]  # fmt: skip
    expected = ["/options/allow_failure", "/func", "/params/message", *times_and_parents]
    told = [faults(answer) for answer in answers]
    assert told[0] == told[1] == expected
    assert told[2] == [f"/jobs/1{pointer}" for pointer in expected]
    assert told[3][-3:] == times_and_parents
    assert {"/options/allow_failure", "/nonsense", "/to"} <= set(told[3])


async def test_every_unknown_parent_is_named_at_once(client: httpx2.AsyncClient) -> None:
    known = (await submit(client)).json()["id"]

    response = await submit(client, depends_on=["e" * 35, known, "f" * 35])

    assert faults(response) == ["/options/depends_on/0", "/options/depends_on/2"]


async def test_foreign_parent_is_as_unknown_as_any(queue: MemoryQueue) -> None:
    keys = [key("a", "submit"), key("b", "submit"), key("c", "submit", "read")]
    async with connect(app_over(queue, settings_with(keys))) as client:
        parent = (await client.post("/v1/jobs", json=LOG, headers=bearer("a"))).json()["id"]
        child = LOG | {"options": {"depends_on": [parent]}}
        email = {
            "to": "a@example.test",
            "subject": "s",
            "text": "t",
            **{"options": child["options"]},
        }
        answers = {
            name: await client.post("/v1/jobs", json=child, headers=bearer(name)) for name in "abc"
        }
        flat = await client.post("/v1/emails", json=email, headers=bearer("b"))

    assert {name: each.status_code for name, each in answers.items()} == {
        "a": 202, "b": 422, "c": 202,
    }  # fmt: skip
    assert faults(answers["b"]) == faults(flat) == ["/options/depends_on/0"]


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"expires_at": "2001-01-01T00:00:00Z"}, "/options/expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "/options/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/options/expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "/options/expires_at"),
        ({"expires_at": at(seconds=10), "delay": 20}, "/options/expires_at"),
        ({"expires_at": at(hours=1), "scheduled_at": at(hours=2)}, "/options/expires_at"),
        ({"depends_on": []}, "/options/depends_on"),
        ({"depends_on": "x" * 20}, "/options/depends_on"),
        ({"depends_on": ["x" * 20] * 101}, "/options/depends_on"),
        ({"depends_on": ["x" * 20, "../etc"]}, "/options/depends_on/1"),
        ({"depends_on": ["x" * 20 + "\n"]}, "/options/depends_on/0"),
        ({"depends_on": ["x" * 10_000]}, "/options/depends_on/0"),
        ({"depends_on": [""]}, "/options/depends_on/0"),
        ({"depends_on": [5]}, "/options/depends_on/0"),
        ({"allow_failure": True}, "/options/allow_failure"),
        ({"concurrency": {"key": "k"}}, "/options/concurrency/limit"),
        ({"concurrency": {"limit": 1}}, "/options/concurrency/key"),
        ({"concurrency": {"key": "", "limit": 1}}, "/options/concurrency/key"),
        ({"concurrency": {"key": "k" * 101, "limit": 1}}, "/options/concurrency/key"),
        ({"concurrency": {"key": "a\nb", "limit": 1}}, "/options/concurrency/key"),
        ({"concurrency": {"key": "a\0b", "limit": 1}}, "/options/concurrency/key"),
        ({"concurrency": {"key": "k", "limit": 0}}, "/options/concurrency/limit"),
        ({"concurrency": {"key": "k", "limit": 1001}}, "/options/concurrency/limit"),
        ({"concurrency": {"key": "k", "limit": 1.5}}, "/options/concurrency/limit"),
        ({"concurrency": {"key": "k", "limit": True}}, "/options/concurrency/limit"),
        ({"tags": ["a"]}, "/options/tags"),
        ({"tags": {str(n): "" for n in range(21)}}, "/options/tags"),
        ({"tags": {"a": 1}}, "/options/tags/a"),
        ({"tags": {"a": None}}, "/options/tags/a"),
        ({"tags": {"a": "x" * 201}}, "/options/tags/a"),
        ({"tags": {"a": "x\0"}}, "/options/tags/a"),
        ({"func": "os.system"}, "/options/func"),
        ({"on_success": "os.system"}, "/options/on_success"),
        ({"meta": {}}, "/options/meta"),
        ({"webhook": {"url": "https://example.com"}}, "/options/webhook"),
        ({"job_id": "x"}, "/options/job_id"),
    ],
)  # fmt: skip
async def test_bad_option_is_named(
    client: httpx2.AsyncClient, queue: MemoryQueue, options: Any, pointer: str
) -> None:
    assert faults(await submit(client, **options)) == [pointer]
    assert queue.drafts == []


@pytest.mark.parametrize("name", ["", "x" * 51, "a:b", "a\nb", "a\0b"])
async def test_bad_tag_name_is_refused(client: httpx2.AsyncClient, name: str) -> None:
    [pointer] = faults(await submit(client, tags={name: "x"}))

    assert pointer.startswith("/options/tags")


@pytest.mark.parametrize(
    "options",
    [
        {"tags": {str(n) * 25: "x" * 200 for n in range(10, 30)}},
        {"tags": {}},
        {"concurrency": {"key": "k" * 100, "limit": 1000}},
        {"expires_at": at(hours=2), "delay": 3600},
        {"allow_failure": False},
        {"expires_at": None, "depends_on": None, "concurrency": None, "tags": None},
    ],
)
async def test_what_is_just_within_the_limits_is_taken(
    client: httpx2.AsyncClient, options: Any
) -> None:
    assert (await submit(client, **options)).status_code == 202


async def test_every_option_is_shown_on_demand(client: httpx2.AsyncClient) -> None:
    parent = (await submit(client)).json()["id"]
    options: dict[str, Any] = {
        "scheduled_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-02T00:00:00Z",
        "priority": "high", "max_attempts": 3,
        "backoff": {"initial": 1, "factor": 2, "max": 3, "jitter": 0}, "timeout": 7,
        "retention": 60, "depends_on": [parent], "allow_failure": True, "dry_run": True,
        "concurrency": {"key": "k", "limit": 2}, "tags": {"a": "b"},
        "notify": {"email": ["a@b.example"], "on": ["failed"], "locale": "pt"},
    }  # fmt: skip
    path = (await client.post(
        "/v1/jobs", json=LOG | {"options": options | {"scheduled_at": at(days=30)}}
    )).headers["location"]  # fmt: skip

    shown = (await client.get(f"{path}?include=options")).json()["options"]

    assert set(shown) == set(options)
    assert {name: shown[name] for name in shown if name != "scheduled_at"} == {
        name: options[name] for name in options if name != "scheduled_at"
    }


async def test_place_progress_and_batch_are_shown(
    client: httpx2.AsyncClient, queue: MemoryQueue
) -> None:
    path = (await submit(client)).headers["location"]
    view = queue.views[path.rpartition("/")[2]]
    progress = {"current": 1, "total": 2, "unit": "rows", "message": "half"}
    view.position, view.eta_seconds, view.progress, view.batch_id = 4, 1.5, progress, "b" * 35

    job = (await client.get(path)).json()

    assert (job["position"], job["eta_seconds"], job["batch_id"]) == (4, 1.5, "b" * 35)
    assert job["progress"] == progress
