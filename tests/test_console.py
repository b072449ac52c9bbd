"""The console without a browser: who may look, who may act, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import pytest

from app.queue.calling import run_script, to_json
from app.queue.scripts import PROGRESS
from tests.conftest import ValkeyServer
from tests.http_doubles import bearer, key
from tests.web_scene import WebScene, web_scene_on

KEYS = [key("s", "submit"), key("r", "read"), key("o", "operate", "submit")]
HTML = {"Accept": "text/html"}
SAME = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url, *KEYS) as web:
        yield web


async def signed_in(web: WebScene, name: str) -> httpx2.Response:
    """The client has the session of this key from now on, if it gets one."""
    return await web.client.post("/console/sign-in", data={"key": name * 2}, headers=SAME)


async def failed_job(web: WebScene, message: str) -> str:
    actor = await web.heart.worker()
    job_id = await web.heart.submit()
    assert await actor.fail(await actor.take(), message) == "done"
    return job_id


async def test_a_browser_without_a_session_is_led_to_the_sign_in_and_back(web: WebScene) -> None:
    page = await web.client.get("/console/jobs/abc", headers=HTML)
    assert page.status_code == 303
    assert page.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fjobs%2Fabc"
    form = await web.client.get(page.headers["location"], headers=HTML)
    assert "<code>read</code> or <code>operate</code>" in form.text
    script = await web.client.get("/console/live")
    assert script.status_code == 401


async def test_read_and_operate_may_sign_in_and_submit_may_not(web: WebScene) -> None:
    refused = await signed_in(web, "s")
    assert refused.status_code == 403
    assert "read or operate" in refused.text
    for name in "ro":
        assert (await signed_in(web, name)).status_code == 303
        assert (await web.client.get("/console/", headers=HTML)).status_code == 200


async def test_a_session_for_looking_opens_no_dashboard_and_changes_nothing(web: WebScene) -> None:
    job_id = await failed_job(web, "refused")
    await signed_in(web, "r")
    acts = [
        ("POST", "queues/email/pause"), ("POST", f"jobs/{job_id}/retry"),
        ("POST", f"jobs/{job_id}/cancel"), ("DELETE", f"jobs/{job_id}"),
        ("POST", "failures/preview"), ("POST", "failures/discard"),
        ("DELETE", "queues/default/jobs?confirm=default"), ("DELETE", "schedules/nightly"),
        ("DELETE", "suppressions/a@b.example"), ("POST", "operations/none/stop"),
    ]  # fmt: skip
    answers = [
        await web.client.request(method, f"/console/v1/{path}", headers=SAME)
        for method, path in acts
    ]
    assert [each.status_code for each in answers] == [403] * len(acts)
    assert {each.headers["content-type"] for each in answers} == {"application/problem+json"}
    assert web.heart.status(job_id) == "failed"
    error = (await web.heart.view(job_id)).error
    assert error is not None
    paths = [
        f"jobs/{job_id}", f"failures/{error.fingerprint}", "failures?queue=default",
        "queues/default", "operations", "schedules", "suppressions", "audit",
    ]  # fmt: skip
    for path in paths:
        page = await web.client.get(f"/console/{path}", headers=HTML)
        assert page.status_code == 200
        main = page.text.partition("<main")[2].partition("</main>")[0]
        assert [
            each in main for each in ("<textarea", "data-post", "data-delete", 'id="preview"')
        ] == ([False] * 4), path


async def test_an_act_comes_from_a_page_of_this_service_and_is_told_of_its_key(
    web: WebScene,
) -> None:
    job_id = await failed_job(web, "refused")
    await signed_in(web, "o")
    path = f"/console/v1/jobs/{job_id}/retry"
    for foreign in ({}, {"Sec-Fetch-Site": "cross-site"}, SAME | {"Origin": "https://evil.test"}):
        assert (await web.client.post(path, headers=foreign)).status_code == 403
        assert web.heart.status(job_id) == "failed"
    assert (await web.client.post(path, headers=SAME)).status_code == 202
    assert web.heart.status(job_id) == "queued"
    audit = await web.client.get("/v1/audit", headers=bearer("o"))
    assert [(act["key"], act["target"]) for act in audit.json()["data"]] == [
        ("o", f"/v1/jobs/{job_id}")
    ]


async def test_the_session_is_no_key_of_the_api(web: WebScene) -> None:
    await signed_in(web, "o")
    assert (await web.client.get("/v1/jobs", headers=SAME)).status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/live", "/jobs/none", "/failures/0123456789abcdef", "/audit", "/queues/default"]
)
async def test_pages_run_only_their_own_script_and_are_kept_nowhere(
    web: WebScene, path: str
) -> None:
    await signed_in(web, "o")
    page = await web.client.get(f"/console{path}", headers=HTML)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"


async def test_hostile_text_is_escaped(web: WebScene) -> None:
    evil = "</pre><script>x</script>"
    job_id = await failed_job(web, evil)
    web.heart.redis.sadd("rq:queues", f"rq:queue:{evil}")
    error = (await web.heart.view(job_id)).error
    assert error is not None
    await signed_in(web, "o")
    paths = ["/", f"/jobs/{job_id}", f"/failures/{error.fingerprint}", f"/queues/{quote(evil)}"]
    for path in (*paths, f"/failures?tag={quote(evil)}", f"/failures?queue={quote(evil)}"):
        page = await web.client.get(f"/console{path}", headers=HTML)
        assert page.status_code == (422 if "tag=" in path else 200)
        assert "&lt;script&gt;" in page.text
        assert "<script>x" not in page.text


async def test_the_search_leads_to_a_job_and_says_when_there_is_none(web: WebScene) -> None:
    await signed_in(web, "r")
    found = await web.client.get("/console/jobs", params={"id": " //evil.test/x "}, headers=HTML)
    assert found.headers["location"] == "/console/jobs/%2F%2Fevil.test%2Fx"
    page = await web.client.get("/console/jobs/none", headers=HTML)
    assert page.status_code == 404
    assert "There is no such job" in page.text
    for cause in ("0123456789abcdef", "0123456789abcdef:jobs", "%00"):
        cleared = await web.client.get(f"/console/failures/{cause}", headers=HTML)
        assert cleared.status_code == 404


async def test_what_runs_tells_how_far_it_is(web: WebScene) -> None:
    job_id = await web.heart.submit()
    actor = await web.heart.worker()
    claimed = await actor.take()
    await signed_in(web, "r")
    words = [
        ({"current": 30, "total": 120, "unit": "rows", "message": "<b>"}, ["25 %", "&lt;b&gt;"]),
        ({"current": 30, "total": None, "unit": "rows", "message": ""}, ["30 rows"]),
        ({"current": 30, "total": 0, "unit": "rows", "message": ""}, ["30 rows"]),
    ]
    for word, shown in words:
        parts = [claimed.id, claimed.execution, to_json(word)]
        await run_script(actor.scene.lane, PROGRESS, actor.name, 1, *parts)
        for path in ("/live", f"/jobs/{job_id}"):
            page = (await web.client.get(f"/console{path}", headers=HTML)).text
            assert [each in page for each in shown] == [True] * len(shown)


async def test_a_job_shows_each_attempt_with_its_error(web: WebScene) -> None:
    job_id = await failed_job(web, "the first time")
    await signed_in(web, "o")
    await web.client.post(f"/console/v1/jobs/{job_id}/retry", headers=SAME)
    actor = await web.heart.worker()
    assert await actor.fail(await actor.take(), "the second time") == "done"
    page = (await web.client.get(f"/console/jobs/{job_id}", headers=HTML)).text
    timeline = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
    assert timeline.index("the first time") < timeline.index("the second time")
    assert timeline.count("failed after") == 2


async def test_causes_go_on_over_pages(web: WebScene) -> None:
    for index in range(21):
        await failed_job(web, "abcdefghijklmnopqrstuvwxyz"[index] * 9)
    await signed_in(web, "r")
    overview = (await web.client.get("/console/", headers=HTML)).text
    assert overview.count('class="cause"') == 6
    assert 'href="/console/failures">All causes' in overview
    first = (await web.client.get("/console/failures", headers=HTML)).text
    assert first.count('class="cause"') == 20
    cursor = first.partition('href="?cursor=')[2].partition('"')[0]
    second = (await web.client.get(f"/console/failures?cursor={cursor}", headers=HTML)).text
    assert second.count('class="cause"') == 1


async def test_pages_say_that_redis_does_not_answer(valkey: ValkeyServer) -> None:
    async with web_scene_on(valkey.url) as web:
        assert (await web.client.get("/console/", headers=HTML)).status_code == 200
        valkey.kill()
        paths = ["/", "/live", "/jobs/660d7b4b9cf4b57ac439d5925266b00a557", "/queues/default"]
        paths += ["/failures", "/operations", "/schedules", "/suppressions", "/audit"]
        for path in paths:
            page = await web.client.get(f"/console{path}", headers=HTML)
            assert page.status_code == 503
            assert "Redis does not answer" in page.text
