"""/docs as a browser shows it: no CDN, no breach of its policy, and an operation tried out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Chromium, find_chromium
from tests.http_doubles import bearer
from tests.running_service import MASTER, RunningService, running_service

pytestmark = pytest.mark.browser

SECRET = bearer(MASTER)["Authorization"].removeprefix("Bearer ")
SUBMIT = "#operations-jobs-submitJob"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium")
    chromium = Chromium(program, tmp_path)
    yield chromium
    chromium.close()


def type_in(browser: Chromium, selector: str, text: str) -> None:
    """As a person would: React takes no value that nobody typed."""
    browser.wait_for(f"document.querySelector({json.dumps(selector)})")
    browser.value(f"document.querySelector({json.dumps(selector)}).focus()")
    browser.command("Input.insertText", text=text)


def sign_in(browser: Chromium) -> None:
    browser.click(".auth-wrapper .authorize")
    type_in(browser, ".modal-ux input", SECRET)
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
    sign_in(browser)
    browser.click(f"{SUBMIT} .opblock-summary-control")
    browser.click(f"{SUBMIT} .try-out__btn")
    browser.click(f"{SUBMIT} .execute")

    browser.wait_for(f"document.querySelector('{SUBMIT} .live-responses-table')")
    browser.wait_for("document.querySelector('.live-responses-table').innerText.includes('202')")
    assert "log.write" in browser.text()
    assert browser.complaints == []


def test_it_is_dark_where_the_system_is(browser: Chromium, service: RunningService) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.command("Emulation.setEmulatedMedia", features=dark)

    browser.open(f"{service.url}/docs")

    browser.wait_for("document.querySelector('.opblock')")
    color = browser.value("getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(28, 32, 34)"
    assert browser.complaints == []
