"""A data job that is cut short while it writes, or finds a fault, ends: each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.data import engine
from tests.data_scene import run


def cut_short(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    written: list[Path] = []
    keep_size = engine.Engine.keep_size

    def keep(self: engine.Engine, target: Path) -> None:
        written.append(target)
        keep_size(self, target)

    monkeypatch.setattr(engine.Engine, "keep_size", keep)
    # While writes are under way that were begun before anybody looked.
    monkeypatch.setattr(engine, "WATCH_SECONDS", 0.001)
    for _ in range(times):
        done = run(
            "query", rows=[{"a": 1}], sql="SELECT range AS n, range * 2 AS m FROM range(1000000)",
            max_artifact_bytes=1,
        )  # fmt: skip

        assert done.code == "result_too_large"
    assert len(written) < times, "none was cut short: each was whole before it was found too large"


def test_result_that_is_too_large_ends_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 150 waited for ever, for what it was about to write."""
    cut_short(monkeypatch, 100)


def test_fault_in_the_middle_ends_its_job() -> None:
    """One in 50 waited for ever: rows that came before the fault were about to be written."""
    for row in range(200_000, 900_000, 7_000):
        done = run(
            "query", rows=[{"a": 1}],
            sql=f"SELECT range AS n, CASE WHEN range = {row} THEN error('it is odd') ELSE 'a' END"
            " AS m FROM range(1000000)",
        )  # fmt: skip

        assert (done.code, "it is odd" in str(done.error)) == ("sql_error", True)


@pytest.mark.slow
def test_result_that_is_too_large_ends_its_job_thousands_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_short(monkeypatch, 3000)
