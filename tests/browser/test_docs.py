"""/docs as a browser shows it: no CDN, no breach of its policy, and an operation tried out."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium
from tests.http_doubles import bearer
from tests.running_service import MASTER, RunningService

pytestmark = pytest.mark.browser

SECRET = bearer(MASTER)["Authorization"].removeprefix("Bearer ")
SUBMIT = "#operations-jobs-submitJob"


def authorize(browser: Chromium) -> None:
    browser.click(".auth-wrapper .authorize")
    browser.type_in(".modal-ux input", SECRET)
    browser.click(".modal-ux .auth-btn-wrapper button.authorize")
    browser.click(".modal-ux .btn-done")


def test_every_operation_is_shown(browser: Chromium, service: RunningService) -> None:
    document = service.client.get("/openapi.json").json()
    count = sum(len(path) for path in document["paths"].values())

    browser.open(f"{service.url}/docs")

    browser.wait_for(f"document.querySelectorAll('.opblock').length === {count}")
    assert browser.complaints == []


def test_a_job_is_submitted_from_the_page(browser: Chromium, service: RunningService) -> None:
    browser.open(f"{service.url}/docs")
    authorize(browser)
    browser.click(f"{SUBMIT} .opblock-summary-control")
    browser.click(f"{SUBMIT} .try-out__btn")
    browser.click(f"{SUBMIT} .execute")

    browser.wait_for(f"document.querySelector('{SUBMIT} .live-responses-table')")
    browser.wait_for("document.querySelector('.live-responses-table').innerText.includes('202')")
    assert "log.write" in browser.text()
    assert browser.complaints == []


def test_it_is_dark_where_the_system_is(browser: Chromium, service: RunningService) -> None:
    browser.wear("dark", 1280)

    browser.open(f"{service.url}/docs")

    browser.wait_for("document.querySelector('.opblock')")
    color = browser.value("getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(28, 32, 34)"
    assert browser.complaints == []
