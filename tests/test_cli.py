"""`python -m app`: what an operator types."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from app.cli import STATUSES, new_parser
from app.keyring import ApiKey, Keyring
from app.queue.records.names import Status
from tests.harness import ROOT

# In a block of code a command ends with its line, else with its quotation.
_TYPED = re.compile(r"python -m app +([a-z][^`\n]*)")
_SAID = re.compile(r"python -m app +([a-z][^`\n\"]*)")
_TOLD_IN = ("README*.md", "docs/**/*.md", "deploy/**/*", "app/**/*.py")


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


def test_python_without_our_requirements_is_told_which_has_them() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "app", "workers"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert ".venv/bin/python -m app" in done.stderr
    assert "Traceback" not in done.stderr


def test_answer_that_could_not_be_written_is_no_success() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", "keys", "new", "shop"], cwd=ROOT, stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

    assert done.returncode != 0
    assert "No space left on device" in done.stderr


def test_no_library_is_loaded_to_tell_what_can_be_typed() -> None:
    program = (
        "import sys, app.cli; app.cli.new_parser().format_help();"
        "print(sorted({'redis', 'rich', 'pydantic', 'starlette'} & sys.modules.keys()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers that run something."""
    if parser.get_default("run") is not None:
        yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from leaves(each)


def test_every_command_is_there_and_takes_json() -> None:
    found = list(leaves(new_parser()))

    assert len(found) > 20
    for each in found:
        module, _, function = each.get_default("run").partition(".")
        assert callable(getattr(importlib.import_module(f"app.commands.{module}"), function))
        assert "--json" in each.format_help()


def test_statuses_are_those_of_jobs() -> None:
    assert get_args(Status) == STATUSES


def told() -> Iterator[tuple[str, str]]:
    """Each command that a page, an alert or a sentence of our own tells people to type."""
    for places in _TOLD_IN:
        for path in sorted(ROOT.glob(places)):
            if path.is_file():
                pattern = _SAID if path.suffix == ".py" else _TYPED
                for typed in pattern.findall(path.read_text(encoding="utf-8")):
                    yield path.relative_to(ROOT).as_posix(), typed.partition(" #")[0].strip()


def test_every_command_that_is_told_of_can_be_typed() -> None:
    parser, seen, wrong = new_parser(), set(), []
    for where, typed in told():
        # What a program or Prometheus fills in there.
        line = re.sub(r"\{\{.*?\}\}|(?<!')\{[^}]*\}", "WORD", typed)
        try:
            seen.add(parser.parse_args(shlex.split(line)).run)
        except (SystemExit, ValueError):
            wrong.append(f"{where}: python -m app {typed}")

    assert wrong == []
    assert len(seen) > 20
