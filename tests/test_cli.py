"""`python -m app`: what an operator types."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.keyring import ApiKey, Keyring
from tests.harness import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_new_key_opens_what_its_line_says() -> None:
    answer = run("keys", "new", "shop", "--scopes", "submit,operate")

    assert answer.returncode == 0
    secret, entry = (line.strip() for line in answer.stdout.splitlines() if line.startswith("  "))
    (key,) = ApiKey.parse_list(entry)
    assert key.name == "shop"
    assert sorted(key.scopes) == ["operate", "submit"]
    assert Keyring([key]).find(secret) == key
    assert secret not in entry
    assert run("keys", "new", "shop").stdout != run("keys", "new", "shop").stdout


@pytest.mark.parametrize(
    "arguments",
    [[], ["keys"], ["keys", "new"], ["keys", "new", "a b"], ["keys", "new", "a", "--scopes", "x"]],
)
def test_wrong_command_is_one_message_and_status_2(arguments: list[str]) -> None:
    answer = run(*arguments)

    assert answer.returncode == 2
    assert "usage: python -m app" in answer.stderr
    assert "Traceback" not in answer.stderr
