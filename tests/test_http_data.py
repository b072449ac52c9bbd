"""POST /v1/data: a job and its file in one call, and no file of a job that was refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.storage import upload_key
from app.storage.folder import FolderStorage
from tests.http_doubles import bearer, key, until
from tests.stores import read
from tests.web_scene import WebScene, web_scene_on

CSV = b"city,sold\nLisboa,3\nPorto,5\n"
SQL = "SELECT sum(sold) AS sold FROM input"
FILE = {"file": ("sales.csv", CSV, "text/csv")}
KEYS = [key("shop", "submit"), key("eyes", "read")]


class Scene:
    """The application over a real Valkey and a folder."""

    def __init__(self, web: WebScene, folder: Path, storage: FolderStorage) -> None:
        self.web = web
        self.folder = folder
        self.storage = storage

    async def post(self, fields: dict[str, Any], files: Any = FILE, **headers: str) -> Any:
        return await self.web.client.post(
            "/v1/data", data=fields, files=files, headers=bearer("shop") | headers
        )

    async def post_json(self, body: Any, **headers: str) -> httpx2.Response:
        return await self.web.client.post(
            "/v1/data", json=body, headers=bearer("shop") | headers
        )  # fmt: skip

    async def params(self, job_id: str) -> dict[str, Any]:
        view = await self.web.heart.view(job_id)
        assert view.params is not None
        return view.params

    def files(self) -> list[Path]:
        """What is stored, drafts among it."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def records(self) -> list[str]:
        names: list[str] = self.web.heart.redis.keys("rq:recado:upload*")
        return names


@pytest.fixture
async def scene(redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    storage = FolderStorage(tmp_path)
    async with web_scene_on(redis_url, *KEYS, storage=storage, max_upload_bytes=100_000) as web:
        yield Scene(web, tmp_path, storage)
    await storage.aclose()


def faults(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [each["pointer"] for each in response.json()["errors"]]


async def test_file_and_job_come_in_one_call(scene: Scene) -> None:
    options = json.dumps({"tags": {"a": "b"}, "priority": "low"})
    response = await scene.post({"operation": "query", "sql": SQL, "options": options})

    job = response.json()
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["type"], job["priority"], job["tags"]) == ("data.query", "low", {"a": "b"})
    params = await scene.params(job["id"])
    assert params["sql"] == SQL
    assert await read(scene.storage, upload_key(params["upload_id"])) == CSV
    record = scene.web.heart.redis.hgetall(f"rq:recado:upload:{params['upload_id']}")
    assert (record["filename"], record["content_type"]) == ("sales.csv", "text/csv")
    assert scene.web.heart.redis.smembers(
        f"rq:recado:upload:{params['upload_id']}:jobs"
    ) == {job["id"]}  # fmt: skip


async def test_rows_come_as_json(scene: Scene) -> None:
    rows = [{"city": "Lisboa", "sold": 3}]
    response = await scene.post_json(
        {"operation": "query", "sql": SQL, "rows": rows, "options": {"delay": 60}}
    )

    assert response.status_code == 202
    assert response.json()["status"] == "scheduled"
    assert (await scene.params(response.json()["id"]))["rows"] == rows


async def test_params_that_are_no_text_stand_in_a_form_as_json(scene: Scene) -> None:
    schema = {"type": "object", "properties": {"sold": {"type": "integer"}}}
    validated = await scene.post(
        {"operation": "validate", "schema": json.dumps(schema), "header": "true"}
    )
    deduped = await scene.post(
        {"operation": "dedupe", "keys": '["city"]', "keep": "last", "format": "csv"}
    )

    assert (await scene.params(validated.json()["id"]))["schema"] == schema
    assert (await scene.params(validated.json()["id"]))["header"] is True
    assert (await scene.params(deduped.json()["id"]))["keys"] == ["city"]


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({}, ["/operation"]),
        ({"operation": "erase"}, ["/operation"]),
        ({"operation": "query"}, ["/sql"]),
        ({"operation": "query", "sql": SQL, "typo": "1"}, ["/typo"]),
        ({"operation": "profile", "header": "yes"}, ["/header"]),
        ({"operation": "profile", "options": "{"}, ["/options"]),
        ({"operation": "profile", "options": '{"delay": -1}'}, ["/options/delay"]),
        ({"operation": "profile", "upload_id": "x" * 20}, ["/upload_id"]),
        (
            {"operation": "profile", "options": '{"depends_on": ["nobody"]}'},
            ["/options/depends_on/0"],
        ),
    ],
)
async def test_refused_job_leaves_no_file(
    scene: Scene, fields: dict[str, str], pointers: list[str]
) -> None:
    response = await scene.post(fields)

    assert faults(response) == pointers
    assert scene.files() == []
    assert scene.records() == []


async def test_queue_that_is_full_leaves_no_file(redis_url: str, tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    async with web_scene_on(redis_url, *KEYS, storage=storage, most_queued=1) as web:
        scene = Scene(web, tmp_path, storage)
        first = await scene.post({"operation": "profile"})
        second = await scene.post({"operation": "profile"})

        assert (first.status_code, second.status_code) == (202, 503)
        assert len(scene.files()) == 1
    await storage.aclose()


async def test_key_with_enough_uploads_leaves_no_more_of_them(
    redis_url: str, tmp_path: Path
) -> None:
    storage = FolderStorage(tmp_path)
    async with web_scene_on(redis_url, *KEYS, storage=storage, most_uploads=1) as web:
        scene = Scene(web, tmp_path, storage)
        first = await web.client.post("/v1/uploads", content=CSV, headers=bearer("shop"))
        raw = await web.client.post("/v1/uploads", content=CSV, headers=bearer("shop"))
        form = await scene.post({"operation": "profile"})
        rows = await scene.post_json({"operation": "profile", "rows": [{"a": "x" * 70_000}]})

        assert first.status_code == 201
        assert {each.status_code for each in (raw, form, rows)} == {507}
        assert {each.json()["type"] for each in (raw, form, rows)} == {"/problems/too-many-uploads"}
        assert len(scene.files()) == 1
    await storage.aclose()


async def test_without_a_file_there_must_be_another_source(scene: Scene) -> None:
    nothing = await scene.post({"operation": "profile"}, {"other": (None, "x")})
    upload = await scene.web.client.post("/v1/uploads", content=CSV, headers=bearer("shop"))
    named = await scene.post(
        {}, {"operation": (None, "profile"), "upload_id": (None, upload.json()["id"])}
    )

    assert faults(nothing)
    assert named.status_code == 202


async def test_form_is_refused_where_it_is_wrong(scene: Scene) -> None:
    twice = await scene.post(
        {}, [("file", FILE["file"]), ("operation", (None, "profile")), ("file", FILE["file"])]
    )
    no_text = await scene.post({"operation": b"\xff"})
    many = await scene.post({f"f{n}": "x" for n in range(60)})
    long = await scene.post({"operation": "query", "sql": "x" * 1_100_000})
    large = await scene.post({"operation": "profile"}, {"file": ("a.csv", b"x" * 100_001)})
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = await scene.web.client.post(
        "/v1/data", content=b"--x\r\nfoo", headers=headers | bearer("shop")
    )

    assert faults(twice) == ["/file"]
    assert faults(no_text) == ["/operation"]
    assert many.status_code == 422
    assert (long.status_code, large.status_code, broken.status_code) == (413, 413, 400)
    assert scene.files() == []
    assert scene.records() == []


async def test_repeated_call_has_the_first_job_and_the_first_file(scene: Scene) -> None:
    fields = {"operation": "query", "sql": SQL}
    named = {"Idempotency-Key": "once"}
    first = await scene.post(fields, **named)
    again = await scene.post(fields, **named)
    another = await scene.post(fields, {"file": ("sales.csv", b"a\n1\n", "text/csv")}, **named)

    assert (first.status_code, again.status_code, another.status_code) == (202, 202, 422)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert another.json()["type"] == "/problems/idempotency-mismatch"
    assert len(scene.files()) == 1
    params = await scene.params(first.json()["id"])
    assert await read(scene.storage, upload_key(params["upload_id"])) == CSV


async def test_answer_can_be_waited_for(scene: Scene) -> None:
    worker = await scene.web.heart.worker("data")

    async def work() -> None:
        await until(lambda: scene.web.heart.queued("data"))
        await worker.finish((await worker.claim(processes=4)).jobs[0], {"row_count": 2})

    working = asyncio.create_task(work())
    response = await scene.post({"operation": "profile"}, Prefer="wait=10")
    await working

    assert (response.status_code, response.json()["result"]) == (200, {"row_count": 2})
    assert len(scene.files()) == 1


async def test_who_may_only_read_submits_nothing(scene: Scene) -> None:
    response = await scene.web.client.post(
        "/v1/data", data={"operation": "profile"}, files=FILE, headers=bearer("eyes")
    )

    assert response.status_code == 403
    assert scene.files() == []
