"""What every test in a browser stands on: the browser, and the service that it looks at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.browser.chromium import Chromium, find_chromium
from tests.harness import JOB_MODULES
from tests.http_doubles import key
from tests.running_service import MASTER, RunningService, running_service

SignIn = Callable[..., None]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium")
    running = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def browser(chromium: Chromium) -> Chromium:
    """With a page of this test's own."""
    chromium.begin()
    return chromium


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, key("looker", "read"), job_modules=JOB_MODULES) as running:
        yield running


@pytest.fixture
def sign_in(browser: Chromium, service: RunningService) -> SignIn:
    """To the console as `who`; then at the path."""

    def to(path: str = "/", who: str = MASTER) -> None:
        browser.open(f"{service.url}/console{path}")
        browser.wait_for("document.forms.length")
        browser.value(f"document.getElementById('key').value = {json.dumps(who * 2)}")
        browser.click("form button")
        browser.wait_for("!location.href.includes('sign-in') && document.readyState === 'complete'")

    return to
