"""Every page can be read and used by everybody, in light and dark and on a phone, says axe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium
from tests.browser.conftest import SignIn
from tests.data_scene import run
from tests.running_service import RunningService

pytestmark = pytest.mark.browser

MAIL = {
    "from": "us@shop.example",
    "to": "Ana <ana@shop.example>",
    "subject": "Your order, with a subject that is much longer than the list is wide",
    "text": "It works: https://shop.example/orders/1",
    "html": "<p>It works.</p>",
    "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}],
}
SCHEDULE = {
    "name": "nightly", "cron": "30 3 * * *",
    "job": {"type": "log.write", "params": {"message": "x" * 300}},
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"id": n, "half": n / 2 if n % 4 else None, "city": "x" * 60 if n % 3 else "<b>", "none": None}
    for n in range(50)
]
# Each page in both schemes and at both widths; two pages in a row are every pair.
WEARS = [[("light", 1280), ("dark", 390)], [("light", 390), ("dark", 1280)]]


def check(browser: Chromium, what: str, wears: list[tuple[str, int]] = WEARS[0]) -> None:
    """No violation, and nothing beyond the edge."""
    for scheme, width in wears:
        browser.wear(scheme, width)
        assert browser.violations() == [], f"{what} {scheme} {width}"
        wide = browser.value("document.documentElement.scrollWidth")
        assert wide <= width, f"{what} {scheme} {width}"


def failed(service: RunningService, message: str) -> Any:
    body = {
        "type": "test.permanent",
        "params": {"message": message},
        "options": {"max_attempts": 1},
    }
    return service.ended(service.client.post("/v1/jobs", json=body).json())


def test_every_page_of_the_console(
    browser: Chromium, service: RunningService, sign_in: SignIn
) -> None:
    job = failed(service, "the mail server said 550 " + "x" * 200)
    cause = job["error"]["fingerprint"]
    begun = service.client.post("/v1/failures/retry", json={"fingerprint": cause, "canary": True})
    assert service.client.post("/v1/schedules", json=SCHEDULE).status_code == 201
    gate = service.folder / "gate"
    waiting = {"type": "test.wait", "params": {"gate": str(gate)}}
    running = service.client.post("/v1/jobs", json=waiting).json()
    cause = failed(service, "another " + "y" * 200)["error"]["fingerprint"]
    paths = [
        "/", f"/jobs/{job['id']}", f"/jobs/{running['id']}", "/jobs/none", "/failures",
        f"/failures/{cause}", "/failures?queue=default", "/operations",
        f"/operations/{begun.json()['id']}", "/schedules", "/schedules/nightly",
        "/queues/default", "/suppressions", "/audit",
    ]  # fmt: skip
    sign_in()
    for number, path in enumerate(paths):
        browser.open(f"{service.url}/console{path}")
        browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
        check(browser, path, WEARS[number % 2])
    gate.touch()


def test_the_inbox(browser: Chromium, service: RunningService) -> None:
    browser.open(f"{service.url}/inbox")
    check(browser, "empty")
    response = service.client.post("/v1/emails", json=MAIL, headers={"Prefer": "wait=20"})
    assert response.json()["status"] == "finished", response.text
    browser.wait_for("document.querySelector('a.row')")
    check(browser, "the list", WEARS[1])
    path = browser.value("document.querySelector('a.row').pathname")
    for number, view in enumerate(("html", "text", "headers", "source")):
        browser.open(f"{service.url}{path}?view={view}")
        check(browser, view, [WEARS[number % 2][number // 2]])


def test_the_documentation(browser: Chromium, service: RunningService) -> None:
    browser.wear("light", 1280)
    browser.open(f"{service.url}/docs")
    browser.wait_for("document.querySelector('.opblock')")
    check(browser, "the list", WEARS[0][:1])
    browser.click("#operations-failures-listOperations .opblock-summary-control")
    browser.wait_for("document.querySelector('.opblock-body')")
    assert browser.value("location.hash") == "#/failures/listOperations"
    check(browser, "an operation", WEARS[0][1:])


def test_the_explanation_of_problems(browser: Chromium, service: RunningService) -> None:
    for path in ("/problems", "/problems/cross-origin"):
        browser.open(f"{service.url}{path}")
        check(browser, path)


def test_the_sign_in(browser: Chromium, service: RunningService) -> None:
    browser.open(f"{service.url}/console/")
    check(browser, "the form")
    browser.type_in("#key", "wrong")
    browser.click("form button")
    browser.wait_for("document.getElementById('wrong')")
    check(browser, "a wrong key", WEARS[1])


def test_the_report_of_a_profile(browser: Chromium, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_bytes(run("profile", rows=ROWS).first)
    browser.open(report.as_uri())
    check(browser, "the report", WEARS[0] + WEARS[1])
