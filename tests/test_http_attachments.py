"""Files that an e-mail names or carries: checked and kept before the job is accepted."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.http.waiting import ENDED
from app.storage import upload_key
from app.storage.folder import FolderStorage
from tests.file_doubles import MemoryUploads
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

EMAIL: dict[str, Any] = {
    "from": "us@example.test", "to": ["a@example.test"], "subject": "Hello", "text": "Hi",
}  # fmt: skip
KEYS = [key("shop", "submit"), key("blog", "submit"), key("eyes", "submit", "read")]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = MemoryQueue()
        self.uploads = MemoryUploads()
        self.storage = FolderStorage(folder)
        app = app_over(self.queue, settings_with(KEYS), storage=self.storage, uploads=self.uploads)
        self.client = connect(app, headers=bearer("shop"))

    async def upload(self, octets: bytes, **options: Any) -> str:
        response = await self.client.post("/v1/uploads", content=octets, **options)
        assert response.status_code == 201
        return str(response.json()["id"])

    async def send(self, *attachments: Any, **headers: str) -> httpx2.Response:
        body = EMAIL | {"attachments": list(attachments)}
        return await self.client.post("/v1/emails", json=body, headers=headers)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    async with scene.client:
        yield scene
    await scene.storage.aclose()


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [error["pointer"] for error in response.json()["errors"]]


async def test_upload_is_named_and_held_for_the_job(scene: Scene) -> None:
    upload_id = await scene.upload(b"%PDF")
    response = await scene.send({"upload_id": upload_id, "filename": "a.pdf"})

    assert response.status_code == 202
    assert scene.uploads.held == {upload_id: {response.json()["id"]}}


async def test_upload_that_is_not_there_or_anothers_is_pointed_at(scene: Scene) -> None:
    mine = await scene.upload(b"x")
    theirs = await scene.upload(b"x", headers=bearer("blog"))
    wanted = [{"upload_id": each} for each in (mine, "n" * 20, theirs)]
    flat = await scene.send(*wanted)
    job = {"type": "email.send", "params": EMAIL | {"attachments": wanted}}
    wrapped = await scene.client.post("/v1/jobs", json=job)
    batch = await scene.client.post("/v1/batches", json={"jobs": [job]})
    seeing_all = await scene.send(*wanted[::2], **bearer("eyes"))

    found = ["/attachments/1/upload_id", "/attachments/2/upload_id"]
    assert pointers(flat) == found
    assert pointers(wrapped) == [f"/params{each}" for each in found]
    assert pointers(batch) == [f"/jobs/0/params{each}" for each in found]
    assert seeing_all.status_code == 202


async def test_permissive_batch_takes_the_jobs_whose_files_are_there(scene: Scene) -> None:
    there = await scene.upload(b"x")
    jobs = [
        {"type": "email.send", "params": EMAIL | {"attachments": [{"upload_id": each}]}}
        for each in ("n" * 20, there)
    ]
    response = await scene.client.post("/v1/batches", json={"jobs": jobs, "mode": "permissive"})

    results = response.json()["results"]
    assert [each["status"] for each in results] == [422, 202]
    assert list(scene.uploads.held) == [there]


async def test_large_content_goes_to_storage_and_small_stays(scene: Scene) -> None:
    large, small = b"l" * 65_000, b"s" * 600
    response = await scene.send(
        {"content": base64.b64encode(small).decode(), "filename": "s.txt"},
        {
            "content": base64.b64encode(large).decode(), "filename": "é.pdf",
            "content_type": "application/pdf", "content_id": "x",
        },
    )  # fmt: skip

    kept, sent = scene.queue.drafts[0].params["attachments"]
    assert response.status_code == 202
    assert kept["content"] == base64.b64encode(small).decode()
    assert {name: value for name, value in sent.items() if name != "upload_id"} == {
        "filename": "é.pdf", "content_type": "application/pdf", "content_id": "x",
    }  # fmt: skip
    assert (scene.folder / upload_key(sent["upload_id"])).read_bytes() == large
    upload = scene.uploads.uploads[sent["upload_id"]]
    assert (upload.owner, upload.size_bytes, upload.filename) == ("shop", 65_000, "é.pdf")
    assert scene.uploads.held == {upload.id: {response.json()["id"]}}


async def test_uploads_that_are_too_large_together_are_pointed_at(scene: Scene) -> None:
    half = await scene.upload(b"x" * 13_107_200)
    more = await scene.upload(b"x")
    response = await scene.send({"upload_id": half}, {"upload_id": half}, {"upload_id": more})

    assert pointers(response) == ["/attachments/2"]


async def test_another_jobs_artifact_makes_that_job_a_parent(scene: Scene) -> None:
    parent = (await scene.send()).json()["id"]
    child = await scene.send({"job_id": parent})
    unknown = await scene.send({"job_id": parent}, {"job_id": "n" * 20})

    assert child.status_code == 202
    assert child.json()["parent_ids"] == [parent]
    assert pointers(unknown) == ["/attachments/1/job_id"]


async def test_repeated_request_gets_the_first_answer_though_its_upload_has_gone(
    scene: Scene,
) -> None:
    upload_id = await scene.upload(b"x")
    first = await scene.send({"upload_id": upload_id}, **{"Idempotency-Key": "k"})
    scene.uploads.uploads.clear()
    again = await scene.send({"upload_id": upload_id}, **{"Idempotency-Key": "k"})
    new = await scene.send({"upload_id": upload_id}, **{"Idempotency-Key": "other"})

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert pointers(new) == ["/attachments/0/upload_id"]
    assert len(scene.queue.drafts) == 1


@pytest.mark.parametrize("mode", ["strict", "permissive"])
async def test_repeated_batch_gets_the_first_answer_though_its_upload_has_gone(
    scene: Scene, mode: str
) -> None:
    large = base64.b64encode(bytes(65_537)).decode()
    carried = {"content": large, "filename": "a.bin"}
    named = {"upload_id": await scene.upload(b"x")}
    jobs = [
        {"type": "email.send", "params": EMAIL | {"attachments": [each]}}
        for each in (named, carried)
    ]

    async def send(key: str, jobs: list[Any] = jobs) -> httpx2.Response:
        body = {"mode": mode, "jobs": jobs}
        return await scene.client.post("/v1/batches", json=body, headers={"Idempotency-Key": key})

    first = await send("k")
    await scene.client.delete(f"/v1/uploads/{named['upload_id']}")
    stored = len(scene.uploads.uploads)
    again, other, new = await send("k"), await send("k", jobs[:1]), await send("new")

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert other.json()["type"] == "/problems/idempotency-mismatch"
    assert len(scene.queue.drafts) == (2 if mode == "strict" else 3)
    # What a repeated request carries is not stored once more.
    assert len(scene.uploads.uploads) == (stored if mode == "strict" else stored + 1)
    if mode == "strict":
        assert pointers(new) == ["/jobs/0/params/attachments/0/upload_id"]
    else:
        assert [each["status"] for each in new.json()["results"]] == [422, 202]


async def test_deleted_upload_is_hidden_and_stays_for_the_jobs_that_have_it(scene: Scene) -> None:
    upload_id = await scene.upload(b"x")
    job_id = (await scene.send({"upload_id": upload_id})).json()["id"]
    deleted = await scene.client.delete(f"/v1/uploads/{upload_id}")
    shown = await scene.client.get(f"/v1/uploads/{upload_id}")
    late = await scene.send({"upload_id": upload_id})

    assert scene.queue.views[job_id].status not in ENDED
    assert (deleted.status_code, shown.status_code) == (204, 404)
    assert pointers(late) == ["/attachments/0/upload_id"]
    assert await scene.storage.size(upload_key(upload_id)) == 1


async def test_storage_that_fails_refuses_what_would_need_it(scene: Scene) -> None:
    scene.uploads.fails_on = {"hold"}
    upload_id = await scene.upload(b"x")
    response = await scene.send({"upload_id": upload_id})

    assert response.status_code == 503
    assert scene.queue.drafts == []
