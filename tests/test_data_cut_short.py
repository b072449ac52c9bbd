"""A data job that is cut short while it writes ends, each time."""

from __future__ import annotations

import pytest

from jobs.data import engine
from tests.data_scene import run


def cut_short(times: int) -> None:
    for _ in range(times):
        done = run(
            "query", rows=[{"a": 1}], sql="SELECT range AS n, range * 2 AS m FROM range(1000000)",
            max_artifact_bytes=1,
        )  # fmt: skip

        assert done.code == "result_too_large"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While writes are under way that were begun before anybody looked."""
    monkeypatch.setattr(engine, "WATCH_SECONDS", 0.001)


def test_result_that_is_too_large_ends_its_job() -> None:
    """One in 150 waited for ever, for what it was about to write."""
    cut_short(100)


@pytest.mark.slow
def test_result_that_is_too_large_ends_its_job_thousands_of_times() -> None:
    cut_short(3000)
