"""The console as an operator uses it, in a browser: looking, acting, on a phone and in the dark."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import SignIn
from tests.conftest import poll_until
from tests.running_service import RunningService

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>\u202e"


def submitted(service: RunningService, job_type: str, **params: Any) -> dict[str, Any]:
    """It is tried once."""
    body = {"type": job_type, "params": params, "options": {"max_attempts": 1}}
    response = service.client.post("/v1/jobs", json=body)
    assert response.status_code == 202, response.text
    shown: dict[str, Any] = response.json()
    return shown


def failed(service: RunningService, message: str) -> Any:
    return service.ended(submitted(service, "test.permanent", message=message))


def test_hostile_text_stays_text(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = failed(service, EVIL)
    sign_in()
    for path in ("/", f"/jobs/{job['id']}", f"/failures/{job['error']['fingerprint']}"):
        browser.open(f"{service.url}/console{path}")
        browser.wait_for("document.body.innerText.includes('onerror')")
        assert browser.value("document.querySelectorAll('main img, main script').length") == 0
        assert browser.value("document.title").endswith("Recado")
    assert browser.complaints == []


def test_the_overview_follows_what_happens(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    gate = service.folder / "another-gate"
    sign_in()
    browser.wait_for("document.getElementById('watch').dataset.state === 'live'")
    job = submitted(service, "test.wait", gate=str(gate))
    browser.wait_for(f"document.getElementById('job-{job['id']}')")
    browser.wait_for("document.querySelector('tr[data-queue] svg.spark path').getTotalLength()")
    gate.touch()
    browser.wait_for(f"!document.getElementById('job-{job['id']}')")
    assert browser.complaints == []


def test_a_read_key_looks_and_has_nothing_to_act_with(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = failed(service, "for a looker")
    sign_in(f"/jobs/{job['id']}", "looker")
    assert "for a looker" in browser.text()
    assert browser.value("document.querySelectorAll('main button').length") == 0
    assert "Traceback" not in browser.text()
    browser.open(f"{service.url}/dashboard/")
    browser.wait_for("location.href.includes('sign-in')")


def test_a_job_is_retried_with_other_params(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = service.ended(submitted(service, "test.flaky", succeed_on=99))
    sign_in(f"/jobs/{job['id']}")
    browser.click("summary")
    browser.value("document.getElementById('params').value = '{\"succeed_on\": \"soon\"}'")
    browser.click("#edit button")
    browser.wait_for(
        "document.getElementById('edit-faults').textContent.includes('/params/succeed_on')"
    )
    browser.value("document.getElementById('params').value = '{\"succeed_on\": 1}'")
    browser.click("#edit button")
    poll_until(
        lambda: service.client.get(f"/v1/jobs/{job['id']}").json()["status"] == "finished",
        what="the job finishes",
    )
    browser.wait_for("document.querySelector('h1').textContent.includes('finished')")


def test_a_cause_is_previewed_and_retried_by_a_canary_which_stops_when_it_comes_back(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    jobs = [failed(service, "the same for all three") for _ in range(3)]
    sign_in(f"/failures/{jobs[0]['error']['fingerprint']}")
    browser.click("#preview")
    browser.wait_for("document.body.innerText.includes('3 jobs are taken down')")
    sample = browser.value("[...document.querySelectorAll('#sample a')].map(a => a.textContent)")
    assert sorted(sample) == sorted(job["id"] for job in jobs)
    assert browser.violations() == []
    browser.click("#order button[value=retry]")
    browser.wait_for("document.getElementById('operation-state')?.dataset.state === 'stopped'")
    assert "It stopped itself" in browser.text()
    runs = [
        len(service.client.get(f"/v1/jobs/{job['id']}").json()["attempts"]) - len(job["attempts"])
        for job in jobs
    ]
    assert sorted(runs) == [0, 0, 1]
    browser.click("p.alarm a")
    browser.wait_for("document.body.innerText.includes('the same for all three')")


def test_a_cause_is_discarded_once_that_is_confirmed(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = failed(service, "to be thrown away")
    path = f"/v1/jobs/{job['id']}"
    sign_in(f"/failures/{job['error']['fingerprint']}")
    browser.click("#preview")
    browser.wait_for("!document.getElementById('order').hidden")
    browser.click("#order button[value=discard]")
    browser.click("dialog button:not(.danger)")
    browser.wait_for("document.querySelector('dialog') === null")
    assert service.client.get(path).status_code == 200
    browser.click("#order button[value=discard]")
    browser.click("#yes")
    browser.wait_for("document.getElementById('operation-state')?.dataset.state === 'finished'")
    assert service.client.get(path).status_code == 404


def test_a_queue_is_paused_and_resumed(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    sign_in()
    browser.click("tr[data-queue=email] button[data-post$=pause]")
    browser.wait_for("document.querySelector('tr[data-queue=email] .badge')")
    assert "email" in json.dumps(service.client.get("/readyz").json())
    browser.click("tr[data-queue=email] button[data-post$=resume]")
    browser.wait_for("!document.querySelector('tr[data-queue=email] .badge')")
    poll_until(service.is_ready, what="nothing is paused")


def test_a_queue_is_emptied_once_its_name_is_typed(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    service.client.post("/v1/queues/default/pause")
    job = submitted(service, "log.write", message="never")
    sign_in("/queues/default")
    browser.type_in("#confirm", "email")
    browser.click("#empty button")
    browser.wait_for("document.getElementById('empty-faults').textContent.includes('default')")
    assert service.client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
    browser.type_in("#confirm", "default")
    browser.click("#empty button")
    browser.wait_for("document.getElementById('told').textContent === '1 job is canceled.'")
    assert service.client.get(f"/v1/jobs/{job['id']}").json()["status"] == "canceled"
    service.client.post("/v1/queues/default/resume")


def test_failed_jobs_are_selected_in_a_form_and_discarded(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = failed(service, "to be found by its time and its code")
    sign_in("/failures")
    browser.click("summary")
    browser.type_in("[name=type]", "test.permanent")
    browser.type_in("[name=error]", job["error"]["code"])
    created = job["created_at"].rstrip("Z")[:19]
    browser.value(f"document.querySelector('[name=created_after]').value = {json.dumps(created)}")
    browser.click(".filters button")
    browser.wait_for("document.getElementById('preview')")
    assert job["id"] in browser.text()
    browser.click("#preview")
    browser.wait_for("!document.getElementById('order').hidden")
    browser.click("#order button[value=discard]")
    browser.click("#yes")
    browser.wait_for("document.getElementById('operation-state')?.dataset.state === 'finished'")
    assert service.client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert browser.complaints == []


def test_keys_lead_to_the_search_and_through_the_causes(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    for message in ("one cause", "quite another"):
        failed(service, message)
    sign_in()
    browser.press("/")
    assert browser.value("document.activeElement.id") == "find"
    browser.value("document.querySelector('a.cause').focus()")
    first = browser.value("document.activeElement.id")
    browser.press("ArrowDown")
    assert browser.value("document.activeElement.id") not in (first, "")
    browser.press("ArrowUp")
    assert browser.value("document.activeElement.id") == first
