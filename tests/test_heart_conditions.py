"""Each condition that the heart rests on has a test that fails without it.

The condition is taken out of a copy of the program, and the test named beside it must fail
there. `heart_conditions` lists them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.heart_conditions import CONDITIONS, Condition


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("without") / "copy"
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT, folder, ignore=leave_out)
    return folder


def test_list_of_conditions_names_what_is_there() -> None:
    stale = [
        each.claim
        for each in CONDITIONS
        if not (ROOT / each.file).is_file() or each.text not in (ROOT / each.file).read_text()
    ]
    assert not stale, "these conditions are written otherwise now: adapt the list"


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda each: each.claim.replace(" ", "-"))
def test_condition_is_watched_by_a_test(copy: Path, condition: Condition) -> None:
    file = copy / condition.file
    whole = file.read_text()
    file.write_text(whole.replace(condition.text, condition.without))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
             f"--basetemp={copy.parent / 'tmp'}", f"tests/{condition.test}"],
            cwd=copy, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        file.write_text(whole)

    # 1: tests failed. Anything else is a run that proves nothing.
    assert run.returncode == 1, run.stdout + run.stderr
