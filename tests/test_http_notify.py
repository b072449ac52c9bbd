"""The option `notify`, and the links that its mails have to results."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.queue.records.views import JobView
from app.storage import artifact_key
from app.storage.folder import FolderStorage
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with
from tests.stores import pieces
from tests.web_scene import WebScene, web_scene_on

LOG = {"type": "log.write", "params": {"message": "m"}}
SECRET = "s" * 32
KEYS = [key("a", "submit"), key("r", "read")]
PUBLIC = "https://jobs.example"


class Scene:
    """One finished job, and who gets its link."""

    def __init__(self, folder: Path, view: JobView, **settings: Any) -> None:
        self.queue = MemoryQueue()
        self.storage = FolderStorage(folder)
        values = {"secret_key": SECRET, "public_url": PUBLIC, "mail_from": "us@example.test"}
        chosen = settings_with(KEYS, **(values | settings))
        self.view = view
        self.client = connect(app_over(self.queue, chosen, storage=self.storage))

    async def submit(self, notify: Any) -> httpx2.Response:
        body = LOG | {"options": {"notify": notify}}
        return await self.client.post("/v1/jobs", json=body, headers=bearer("a"))

    async def link(self) -> str:
        """The path of the link that the mail about a job has; the job then ends."""
        response = await self.submit({"email": "ana@example.test"})
        assert response.status_code == 202, response.text
        draft = self.queue.drafts[-1]
        assert draft.notifying is not None
        url: str = draft.notifying.params["result_url"]
        assert url.startswith(PUBLIC)
        self.view.id = draft.id
        stored = await self.storage.put(artifact_key(draft.id, 1, "a.csv"), pieces(b"a\n1\n"), 10)
        self.view.artifacts = [
            {
                "name": "a.csv", "size": 4, "content_type": "text/csv", "sha256": stored.sha256,
                "key": artifact_key(draft.id, 1, "a.csv"),
            }
        ]  # fmt: skip
        self.queue.views[draft.id] = self.view
        return url.removeprefix(PUBLIC)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path, finished())
    async with scene.client:
        yield scene
    await scene.storage.aclose()


def finished() -> JobView:
    now = datetime.now(UTC)
    return JobView(
        id="", type="log.write", queue="default", priority="default", status="finished",
        attempt=1, max_attempts=3, created_at=now, ended_at=now, retention_seconds=3600,
    )  # fmt: skip


async def test_link_gives_the_file_without_a_key(scene: Scene) -> None:
    path = await scene.link()

    whole = await scene.client.get(path)
    part = await scene.client.get(path, headers={"Range": "bytes=0-1"})
    head = await scene.client.head(path)

    assert (whole.status_code, whole.content) == (200, b"a\n1\n")
    assert (part.status_code, part.content) == (206, b"a\n")
    assert (head.status_code, head.headers["content-length"]) == (200, "4")
    assert whole.headers["content-disposition"] == 'attachment; filename="a.csv"'
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["cache-control"] == "private, no-cache"


async def test_link_that_was_changed_or_is_over_does_not_work(scene: Scene) -> None:
    path = await scene.link()
    stem, _, signature = path.rpartition(".")
    other = "0" * 35
    scene.queue.views[other] = finished()
    changed = [
        f"{stem}.{'A' * 43}", f"/v1/results/{other}.{signature}", stem, f"{path}A", path[:-1],
        f"/v1/results/{'x' * 3000}", f"{stem}.{signature.swapcase()}",
    ]  # fmt: skip

    answers = [await scene.client.get(each) for each in changed]
    scene.view.ended_at = datetime.now(UTC) - timedelta(seconds=3601)
    answers.append(await scene.client.get(path))
    scene.view.ended_at, scene.view.artifacts = datetime.now(UTC), []
    answers.append(await scene.client.get(path))
    del scene.queue.views[scene.view.id]
    answers.append(await scene.client.get(path))

    assert {each.status_code for each in answers} == {404}
    assert {each.json()["detail"] for each in answers} == {
        "This link does not work, or not any more."
    }
    assert (await scene.client.post(path)).status_code == 405


async def test_another_secret_signs_other_links(scene: Scene, tmp_path: Path) -> None:
    path = await scene.link()
    other = Scene(tmp_path, scene.view, secret_key="t" * 32)
    other.queue.views = scene.queue.views

    async with other.client:
        assert (await other.client.get(path)).status_code == 404
    await other.storage.aclose()


async def test_no_log_has_a_link(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = await scene.link()

    await scene.client.get(path)
    await scene.storage.delete(scene.view.artifacts[0]["key"])
    assert (await scene.client.get(path)).status_code == 404
    scene.view.artifacts[0]["key"] = "broken"
    assert (await scene.client.get(path)).status_code == 500

    said = " ".join(f"{each.getMessage()} {each.__dict__.get('fields')}" for each in caplog.records)
    assert "request_failed" in said
    assert path.rpartition(".")[2] not in said


async def test_without_an_address_of_ours_there_is_a_warning(tmp_path: Path) -> None:
    scene = Scene(tmp_path, finished(), public_url=None)
    async with scene.client:
        response = await scene.submit({"email": "ana@example.test"})
    await scene.storage.aclose()

    (warning,) = response.json()["warnings"]
    assert warning.startswith("PUBLIC_URL is not set")


@pytest.mark.parametrize(
    ("notify", "pointer"),
    [
        ({}, "/options/notify/email"),
        ({"email": "nobody"}, "/options/notify/email"),
        ({"email": []}, "/options/notify/email"),
        ({"email": ["a@b.example", "x"]}, "/options/notify/email/1"),
        ({"email": "a@b.example", "on": []}, "/options/notify/on"),
        ({"email": "a@b.example", "on": ["queued"]}, "/options/notify/on/0"),
        ({"email": "a@b.example", "locale": "fr"}, "/options/notify/locale"),
        ({"email": "a@b.example", "typo": 1}, "/options/notify/typo"),
        ("a@b.example", "/options/notify"),
    ],
)
async def test_fault_is_pointed_at(scene: Scene, notify: Any, pointer: str) -> None:
    response = await scene.submit(notify)

    assert response.status_code == 422
    assert [each["pointer"] for each in response.json()["errors"]] == [pointer]


async def test_without_a_sender_nobody_can_be_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path, finished(), mail_from=None, environment="production")
    async with scene.client:
        response = await scene.submit({"email": "ana@example.test"})
    await scene.storage.aclose()

    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["pointer"] == "/options/notify"
    assert "MAIL_FROM" in fault["detail"]


async def test_the_mails_job_type_is_nobodys_to_submit(scene: Scene) -> None:
    body = {"type": "email.notify", "params": {}}
    response = await scene.client.post("/v1/jobs", json=body, headers=bearer("a"))
    types = (await scene.client.get("/v1/job-types", headers=bearer("a"))).json()["data"]
    document = (await scene.client.get("/openapi.json")).text

    assert response.status_code == 422
    assert "email.notify" not in [each["name"] for each in types]
    assert "email.notify" not in document


async def test_it_is_shown_among_the_options(redis_url: str) -> None:
    async with web_scene_on(redis_url) as web:
        job_id = await web.submit(notify={"email": "ana@example.test", "locale": "pt-BR"})
        batch = await submit_batch(web)

        shown = await web.client.get(f"/v1/jobs/{job_id}", params={"include": "options"})
        worker = await web.heart.worker("default")
        for claimed in (await worker.claim()).jobs:
            await worker.finish(claimed)

        assert shown.json()["options"]["notify"] == {
            "email": ["ana@example.test"], "on": ["finished", "failed"], "locale": "pt-BR",
        }  # fmt: skip
        assert any("PUBLIC_URL" in each for each in shown.json()["warnings"])
        assert batch.status_code == 202
        assert len(web.heart.queued("email")) == 3


async def submit_batch(web: WebScene) -> httpx2.Response:
    job = {"type": "test.note", "params": {}, "options": {"notify": {"email": "a@b.example"}}}
    return await web.post("/v1/batches", {"jobs": [job, job]})
