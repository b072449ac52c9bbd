"""A failed job runs again: as it is, edited, later; and what stands in the way of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.http_doubles import bearer, key
from tests.web_scene import NOTE, WebScene, web_scene_on

TRAIL = {"Accept": "application/json"}


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url) as scene:
        yield scene


async def failed(web: WebScene, message: str = "refused", **options: Any) -> str:
    """A job whose first run failed for good."""
    job_id = await web.submit(**options)
    actor = await web.heart.worker()
    assert await actor.fail(await actor.take(), message) == "done"
    return job_id


async def retry(web: WebScene, job_id: str, body: Any = None) -> httpx2.Response:
    return await web.client.post(f"/v1/jobs/{job_id}/retry", json=body)


async def trail(web: WebScene, job_id: str) -> list[Any]:
    shown = await web.client.get(f"/v1/jobs/{job_id}/events", headers=TRAIL)
    return [(each["event"], each["detail"]) for each in shown.json()["data"]]


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [each["pointer"] for each in response.json()["errors"]]


async def test_failed_job_waits_again_under_its_id(web: WebScene) -> None:
    job_id = await failed(web)

    response = await web.client.post(f"/v1/jobs/{job_id}/retry")

    shown = response.json()
    assert (response.status_code, shown["id"], shown["status"]) == (202, job_id, "queued")
    assert response.headers["location"] == f"/v1/jobs/{job_id}"
    assert (shown["error"], shown["ended_at"], shown["position"]) == (None, None, 1)
    assert [each["outcome"] for each in shown["attempts"]] == ["failed"]
    assert web.heart.members("failed") == []
    assert web.heart.redis.ttl(f"rq:job:{job_id}") == -1


async def test_it_gets_all_its_attempts_anew_and_numbering_goes_on(web: WebScene) -> None:
    job_id = await failed(web)
    await retry(web, job_id)

    actor = await web.heart.worker()
    claimed = await actor.take()
    counted = claimed.number("failures")
    await actor.finish(claimed)

    shown = await web.job(job_id)
    assert (counted, claimed.attempt, shown["status"]) == (0, 2, "finished")
    assert [each["number"] for each in shown["attempts"]] == [1, 2]


async def test_the_trail_and_the_audit_name_the_key(redis_url: str) -> None:
    async with web_scene_on(redis_url, key("o", "submit", "operate")) as web:
        web.client.headers.update(bearer("o"))
        job_id = await failed(web)
        await retry(web, job_id)

        event, detail = (await trail(web, job_id))[-1]
        act = (await web.client.get("/v1/audit")).json()["data"][0]

    assert (event, detail) == ("queued", {"by": "o", "retried": True})
    assert (act["key"], act["action"], act["target"]) == ("o", "retry", f"/v1/jobs/{job_id}")
    assert act["detail"] == {"status": "failed", "type": "test.note"}


async def test_params_are_replaced(web: WebScene) -> None:
    job_id = await failed(web, tags={"a": "b"}, timeout=7)

    response = await retry(web, job_id, {"params": {"message": "new"}})

    shown = (await web.client.get(f"/v1/jobs/{job_id}?include=params,options")).json()
    assert response.status_code == 202
    assert shown["params"] == {
        "message": "new", "succeed_on": 1, "seconds": 0.0, "size": 0,
    }  # fmt: skip
    assert (shown["options"]["tags"], shown["options"]["timeout"]) == ({"a": "b"}, 7.0)
    assert (await trail(web, job_id))[-1][1]["edited"] == ["params"]


async def test_options_are_replaced_as_a_whole(web: WebScene) -> None:
    job_id = await failed(web, tags={"a": "b"}, timeout=7.5)

    await retry(web, job_id, {"options": {"priority": "high", "tags": {"c": "d"}}})

    shown = (await web.client.get(f"/v1/jobs/{job_id}?include=params,options")).json()
    assert (shown["priority"], shown["tags"], shown["options"]["timeout"]) == (
        "high", {"c": "d"}, 180.0,
    )  # fmt: skip
    assert web.heart.queued("default.high") == [job_id]
    by_tag = [(await web.client.get(f"/v1/jobs?tag={tag}")).json() for tag in ("a:b", "c:d")]
    assert [[each["id"] for each in page["data"]] for page in by_tag] == [[], [job_id]]


async def test_it_may_be_for_later(web: WebScene) -> None:
    job_id = await failed(web)

    shown = (await retry(web, job_id, {"options": {"delay": 60}})).json()

    assert (shown["status"], shown["next_attempt_at"]) == ("scheduled", None)
    assert shown["scheduled_at"] > shown["created_at"]
    assert web.heart.members("scheduled") == [job_id]


async def test_it_may_wait_for_another_job(web: WebScene) -> None:
    job_id, parent, dead = await failed(web), await web.submit(delay=60), await failed(web)

    unknown = await retry(web, job_id, {"options": {"depends_on": ["x" * 20]}})
    hopeless = await retry(web, job_id, {"options": {"depends_on": [parent, dead]}})
    waiting = await retry(web, job_id, {"options": {"depends_on": [parent]}})

    assert pointers(unknown) == ["/options/depends_on/0"]
    assert pointers(hopeless) == ["/options/depends_on/1"]
    assert (waiting.json()["status"], waiting.json()["parent_ids"]) == ("deferred", [parent])


async def test_edit_is_checked_like_a_submission(web: WebScene) -> None:
    job_id = await failed(web)
    path = f"/v1/jobs/{job_id}/retry"

    wrong = await retry(web, job_id, {"params": {"typo": 1}, "options": {"delay": -1}})
    typo = await retry(web, job_id, {"param": {}})
    other = await retry(web, job_id, {"type": "email.send"})
    expiry = await retry(web, job_id, {"options": {"expires_at": "2999-01-01T00:00:00Z"}})
    array = await web.client.post(path, json=[])
    broken = await web.client.post(path, content=b"{", headers={"Content-Type": "application/json"})

    assert sorted(pointers(wrong)) == ["/options/delay", "/params/typo"]
    assert pointers(typo) == ["/param"]
    assert pointers(other) == ["/type"]
    assert pointers(expiry) == ["/options/expires_at"]
    assert (array.status_code, broken.status_code) == (422, 400)
    assert web.heart.status(job_id) == "failed"


async def test_what_has_not_failed_is_409(web: WebScene) -> None:
    waiting, canceled = await web.submit(delay=60), await web.submit(delay=60)
    await web.client.post(f"/v1/jobs/{canceled}/cancel")
    finished = await web.submit()
    actor = await web.heart.worker()
    await actor.finish(await actor.take())
    running = await web.submit()
    await actor.take()

    answers = [await retry(web, each) for each in (waiting, canceled, finished, running)]
    gone = await retry(web, "f" * 35)

    assert {each.json()["type"] for each in answers} == {"/problems/job-not-failed"}
    words = ["scheduled", "canceled", "finished", "started"]
    assert [each.json()["detail"] for each in answers] == [f"The job is {w}." for w in words]
    assert gone.status_code == 404


async def test_stopped_job_may_run_again(web: WebScene) -> None:
    job_id = await web.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    await web.client.post(f"/v1/jobs/{job_id}/cancel")
    await actor.retry(claimed, 60)
    stopped = (await web.job(job_id))["status"]

    shown = (await retry(web, job_id)).json()

    assert (stopped, shown["status"], shown["reason"]) == ("stopped", "queued", None)


async def test_second_of_two_retries_is_409(web: WebScene) -> None:
    job_id = await failed(web)

    answers = [(await retry(web, job_id)).status_code for _ in range(2)]

    assert answers == [202, 409]
    assert web.heart.queued() == [job_id]


async def test_it_waits_for_its_concurrency_key(web: WebScene) -> None:
    first = await failed(web, concurrency={"key": "k", "limit": 1})
    second = await failed(web, concurrency={"key": "k", "limit": 1})
    await retry(web, first)
    await retry(web, second)

    waiting = (web.heart.status(first), web.heart.status(second))
    actor = await web.heart.worker()
    await actor.finish(await actor.take())

    assert waiting == ("queued", "rate_limited")
    assert web.heart.queued() == [second]


async def test_full_queue_is_503_and_bytes_are_counted_once(redis_url: str) -> None:
    async with web_scene_on(redis_url, most_queued=1) as web:
        job_id = await failed(web)
        other = await web.submit()
        full = await retry(web, job_id)
        await web.client.post(f"/v1/jobs/{other}/cancel")
        accepted = await retry(web, job_id)
        counted = int(web.heart.redis.hget("rq:recado:bytes", "default"))
        actor = await web.heart.worker()
        await actor.finish(await actor.take())
        left = int(web.heart.redis.hget("rq:recado:bytes", "default"))

    assert (full.status_code, full.headers["retry-after"], accepted.status_code) == (503, "30", 202)
    assert (counted > 0, left) == (True, 0)


async def test_upload_that_is_gone_is_named(web: WebScene) -> None:
    params = {"from": "a@b.example", "to": "c@d.example", "subject": "s", "text": "t"}
    body = {"type": "email.send", "params": params}
    job_id = str((await web.post("/v1/jobs", body)).json()["id"])
    actor = await web.heart.worker("email")
    await actor.fail(await actor.take())
    attached = params | {"attachments": [{"filename": "a", "upload_id": "u" * 30}]}

    response = await retry(web, job_id, {"params": attached})

    assert pointers(response) == ["/params/attachments/0/upload_id"]


@pytest.mark.parametrize("scope", ["submit", "read"])
async def test_it_needs_operate(redis_url: str, scope: str) -> None:
    async with web_scene_on(redis_url, key("k", scope)) as web:
        answers = [
            await web.client.request(method, path, headers=bearer("k"))
            for method, path in (("POST", f"/v1/jobs/{'f' * 35}/retry"), ("GET", "/v1/audit"))
        ]

    assert [each.status_code for each in answers] == [403, 403]


class TestAudit:
    async def test_each_act_is_there_once_the_latest_first(self, web: WebScene) -> None:
        waiting, dead = await web.submit(delay=60), await failed(web)
        await web.client.post(f"/v1/jobs/{waiting}/cancel")
        await web.client.post(f"/v1/jobs/{waiting}/cancel")
        await web.client.delete(f"/v1/jobs/{dead}")
        await web.client.post("/v1/queues/email/pause")
        await web.client.post("/v1/queues/email/resume")
        web.heart.redis.zadd("rq:recado:suppressed", {"a@b.example": 9e12})
        await web.client.delete("/v1/suppressions/a@b.example")
        await web.client.delete("/v1/suppressions/a@b.example")

        acts = (await web.client.get("/v1/audit")).json()["data"]

        assert [(each["action"], each["target"]) for each in acts] == [
            ("unsuppress", "/v1/suppressions/a@b.example"),
            ("resume", "/v1/queues/email"),
            ("pause", "/v1/queues/email"),
            ("delete", f"/v1/jobs/{dead}"),
            ("cancel", f"/v1/jobs/{waiting}"),
        ]
        assert acts[4]["detail"] == {"status": "scheduled", "type": "test.note"}

    async def test_pages_lead_to_one_another(self, web: WebScene) -> None:
        for act in ("pause", "resume", "pause"):
            await web.client.post(f"/v1/queues/email/{act}")

        path, seen = "/v1/audit?limit=2", []
        while path:
            page = await web.client.get(path)
            seen += [each["action"] for each in page.json()["data"]]
            path = page.headers.get("link", "").partition(">")[0].removeprefix("<")
        wrong = await web.client.get("/v1/audit?cursor=x")

        assert seen == ["pause", "resume", "pause"]
        assert wrong.status_code == 422

    async def test_upkeep_forgets_what_is_older_than_ninety_days(self, web: WebScene) -> None:
        old_ms = web.heart.now_ms() - 91 * 86_400_000
        fields = {"key": "k", "action": "pause", "target": "t", "detail": "{}"}
        web.heart.redis.xadd("rq:recado:audit", fields, id=f"{old_ms}-0")
        hidden = (await web.client.get("/v1/audit")).json()["data"]
        for number in range(300):
            web.heart.redis.xadd("rq:recado:audit", fields, id=f"{old_ms}-{number + 1}")
        await web.client.post("/v1/queues/email/pause")

        await web.heart.recover()

        assert hidden == []
        assert web.heart.redis.xlen("rq:recado:audit") < 200


async def test_batch_counts_a_retried_job_as_what_it_is(web: WebScene) -> None:
    batch = (await web.post("/v1/batches", {"jobs": [NOTE]})).json()
    actor = await web.heart.worker()
    await actor.fail(await actor.take())
    await retry(web, batch["job_ids"][0])

    shown = (await web.client.get(f"/v1/batches/{batch['id']}")).json()

    assert (shown["counts"], shown["finished_at"]) == ({"queued": 1}, None)
