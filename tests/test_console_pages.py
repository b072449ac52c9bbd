"""The console's pages beside the overview: selections, operations, queues, schedules, the audit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.queue import lists
from tests.http_doubles import bearer, key
from tests.test_console import HTML, KEYS, SAME, failed_job, signed_in
from tests.web_scene import WebScene, web_scene_on

SCHEDULE = {
    "name": "nightly", "cron": "30 3 * * *", "time_zone": "Europe/Berlin",
    "job": {"type": "log.write", "params": {"message": "<b>"}},
}  # fmt: skip


@pytest.fixture
async def web(redis_url: str) -> AsyncIterator[WebScene]:
    async with web_scene_on(redis_url, *KEYS, key("other", "operate")) as web:
        await signed_in(web, "o")
        yield web


async def shown(web: WebScene, path: str) -> str:
    page = await web.client.get(f"/console{path}", headers=HTML)
    assert page.status_code == 200, page.text
    return page.text


async def act(web: WebScene, method: str, path: str, **sent: Any) -> Any:
    answer = await web.client.request(method, f"/console/v1/{path}", headers=SAME, **sent)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def jobs_on(page: str) -> set[str]:
    listed = page.partition('<ul class="jobs">')[2].partition("</ul>")[0]
    return set(re.findall(r"/console/jobs/([\w-]+)", listed))


async def test_failed_jobs_are_selected_by_what_they_have_in_common(web: WebScene) -> None:
    actor = await web.heart.worker("default", "email")
    ids = []
    for queue in ("default", "email"):
        ids.append(await web.heart.submit(queue=queue, tags={"shop": queue}))
        assert await actor.fail(await actor.take(), "refused") == "done"
    day = "2000-01-01T03:00"
    for query, fitting in (
        ("type=test.note", ids), ("queue=email", ids[1:]), ("error=refused", ids),
        ("error=timeout", []), ("tag=shop:default", ids[:1]), ("queue=email&type=other", []),
        (f"created_after={day}", ids), (f"created_before={day}", []),
    ):  # fmt: skip
        page = await shown(web, f"/failures?{query}")
        assert jobs_on(page) == set(fitting), query
    filter_text = re.search(r'data-filter="([^"]*)"', await shown(web, "/failures?queue=email"))
    assert filter_text is not None
    assert filter_text[1] == "{&#34;queue&#34;: &#34;email&#34;}"
    wrong = await web.client.get("/console/failures?created_after=soon", headers=HTML)
    assert wrong.status_code == 422
    assert "created_after" in wrong.text
    assert "data-filter" not in wrong.text


async def test_page_of_a_selection_says_whether_anything_follows(
    web: WebScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks at so many jobs: none on it may mean none at all, or some behind it."""
    # The registries of a queue that has few are read whole.
    monkeypatch.setattr(lists, "MOST_LOOKED_AT", 2)
    monkeypatch.setattr(lists, "MOST_SORTED", -1)
    actor = await web.heart.worker("default", "email")
    for queue in ("email", "default", "default", "default"):
        await web.heart.submit(queue=queue)
        assert await actor.fail(await actor.take(), "refused") == "done"

    none = await shown(web, "/failures?queue=data")
    older = await shown(web, "/failures?queue=email")

    assert "There is none." in none
    assert "Older jobs" not in none
    assert "older ones follow" in older
    assert "Older jobs" in older


async def test_an_operation_is_listed_watched_and_stopped(web: WebScene) -> None:
    assert "None yet" in await shown(web, "/operations")
    for _ in range(2):
        job_id = await failed_job(web, "refused")
    error = (await web.heart.view(job_id)).error
    assert error is not None
    chosen = {"fingerprint": error.fingerprint, "canary": True, "pace": 2}
    begun = await act(web, "POST", "failures/retry", json=chosen)
    listed = await shown(web, "/operations")
    assert "0 retried" in listed
    assert f"/console/operations/{begun['id']}" in listed
    assert f"/console/failures/{error.fingerprint}" in listed
    path = f"/operations/{begun['id']}"
    page = await shown(web, path)
    assert "no live worker listens to queue" in page
    assert "one, then ten, then the rest" in page
    assert f'data-src="/console{path}"' in page
    await act(web, "POST", f"operations/{begun['id']}/pause")
    assert "operation-resume" in await shown(web, path)
    await act(web, "POST", f"operations/{begun['id']}/stop")
    page = await shown(web, path)
    assert "Stopped by <bdi>o</bdi>" in page
    assert "data-src" not in page
    assert "operation-stop" not in page
    for asked, told in (
        ({"queue": "default", "error": "refused"}, "error: refused"),
        ({"status": "failed"}, "of all that had failed"),
    ):
        begun = await act(web, "POST", "failures/discard", json=asked)
        for path in ("/operations", f"/operations/{begun['id']}"):
            assert told in await shown(web, path)
    none = await web.client.get("/console/operations/none", headers=HTML)
    assert none.status_code == 404


async def test_a_queue_is_emptied_only_by_its_name(web: WebScene) -> None:
    ids = [await web.heart.submit() for _ in range(2)]
    page = await shown(web, "/queues/default")
    assert 'data-name="default"' in page
    wrong = await web.client.delete(
        "/console/v1/queues/default/jobs", params={"confirm": "email"}, headers=SAME
    )
    assert wrong.status_code == 422
    emptied = await act(web, "DELETE", "queues/default/jobs", params={"confirm": "default"})
    assert emptied["canceled"] == 2
    assert [web.heart.status(each) for each in ids] == ["canceled"] * 2
    none = await web.client.get("/console/queues/none", headers=HTML)
    assert none.status_code == 404


async def test_a_queue_says_why_its_jobs_will_be_tried_again(web: WebScene) -> None:
    job_id = await web.heart.submit()
    actor = await web.heart.worker()
    await actor.retry(await actor.take(), 600.0)
    page = await shown(web, "/queues/default")
    assert jobs_on(page) == {job_id}
    assert "attempt 1 of" in page


async def test_a_queue_draws_its_last_hour(web: WebScene) -> None:
    redis, now = web.heart.redis, web.heart.now_ms() // 1000
    for ago in (10, 9, 8, 3):
        note = f'{{"at": "{now - ago * 60}000000", "queues": {{"default": [{ago}, ""]}}}}'
        redis.set(f"rq:recado:counts:{now // 60 - ago}:waiting", note)
    page = await shown(web, "/queues/default")
    line = re.search(r'<path class="depth" d="([^"]*)"', page)
    assert line is not None
    # Two lines: of the minutes between nothing is known. The scale ends at ten.
    assert re.fullmatch(
        r"M50\.0,1\.0L51\.0,2\.4L52\.0,3\.8M57\.0,10\.8h0M60\.0,15\.0h0", line[1]
    ), line[1]
    assert "at most 10" in page
    assert 'class="spark"' in await shown(web, "/")


async def test_a_schedule_shows_its_next_and_last_runs_and_is_deleted(web: WebScene) -> None:
    assert "None yet" in await shown(web, "/schedules")
    made = await web.client.post("/v1/schedules", json=SCHEDULE, headers=bearer("other"))
    assert made.status_code == 201, made.text
    job_id = await web.heart.submit()
    web.heart.redis.rpush("rq:recado:schedule:nightly:runs", job_id, "0" * 32)
    assert "30 3 * * * (Europe/Berlin)" in await shown(web, "/schedules")
    page = await shown(web, "/schedules/nightly")
    assert page.count(", 03:30</time>") == 5
    assert f"/console/jobs/{job_id}" in page
    assert "is no longer kept" in page
    assert "&lt;b&gt;" in page
    await act(web, "DELETE", "schedules/nightly")
    gone = await web.client.get("/console/schedules/nightly", headers=HTML)
    assert gone.status_code == 404


async def test_the_audit_goes_on_over_pages_and_leads_to_what_was_acted_on(web: WebScene) -> None:
    assert "Nobody has done anything yet" in await shown(web, "/audit")
    job_id = await failed_job(web, "refused")
    await act(web, "POST", f"jobs/{job_id}/retry")
    for _ in range(50):
        for word in ("pause", "resume"):
            await act(web, "POST", f"queues/default/{word}")
    first = await shown(web, "/audit")
    assert first.count("/console/queues/default") == 100
    cursor = first.partition('href="?cursor=')[2].partition('"')[0]
    second = await shown(web, f"/audit?cursor={cursor}")
    assert f"/console/jobs/{job_id}" in second
    assert "/console/queues/default" not in second
    wrong = await web.client.get("/console/audit?cursor=x", headers=HTML)
    assert wrong.status_code == 404


async def test_a_job_is_edited_with_the_options_that_it_has(web: WebScene) -> None:
    job_id = await failed_job(web, "refused")
    page = await shown(web, f"/jobs/{job_id}")
    assert "&#34;max_attempts&#34;:" in page
    changed = {"options": {"max_attempts": 7, "tags": {"by": "hand"}}}
    await act(web, "POST", f"jobs/{job_id}/retry", json=changed)
    view = await web.heart.view(job_id)
    assert (view.max_attempts, view.tags) == (7, {"by": "hand"})


async def test_many_queues_are_shown_by_urgency_and_all_on_demand(web: WebScene) -> None:
    for number in range(40):
        web.heart.redis.sadd("rq:queues", f"rq:queue:q{number:02}")
    await web.heart.submit(queue="zz")
    first = await shown(web, "/")
    assert first.count("<tr data-queue") == 30
    assert first.index('data-queue="zz"') < first.index('data-queue="q00"')
    assert (await shown(web, "/?queues=all")).count("<tr data-queue") > 40
    assert 'data-src="/console/live?queues=all"' in await shown(web, "/live?queues=all")
