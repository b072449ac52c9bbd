"""What an operator types to look: each command as a process of its own, for people and as JSON."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.operating_requests import Known, ago
from benchmarks.processes import StartError


@dataclass(frozen=True, slots=True)
class Typed:
    """A command from its start to its end, in seconds, and what it used of the processor."""

    name: str
    seconds: Figure
    cpu: Figure
    blocked_ms: float


def commands(known: Known) -> list[list[str]]:
    """Everything that looks, each twice."""
    fingerprint, job = known.fingerprint, known.job
    lines = [
        ["status", "--once"], ["queues"], ["workers"], ["audit"],
        ["failed", "list"], ["failed", "list", "--limit", "200"], ["failed", "show", fingerprint],
        ["failed", "operations"], ["schedules"], ["schedules", "show", known.schedule],
        ["jobs", "list"], ["jobs", "list", "--status", "failed", "--limit", "200"],
        ["jobs", "list", "--type", "email.send"], ["jobs", "list", "--queue", "http"],
        ["jobs", "list", "--error", "timeout"], ["jobs", "list", "--fingerprint", fingerprint],
        ["jobs", "list", "--tag", "part:rare"], ["jobs", "list", "--created-before", ago(3)],
        ["jobs", "list", "--queue", "nothing"], ["jobs", "show", job],
    ]  # fmt: skip
    return [[*line, *form] for line in lines for form in ([], ["--json"])]


def typed(line: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds until it has ended, and those of the processor; the compiled files are kept."""
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    before = _used()
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "app", *line], cwd=folder,
        env={**os.environ, **environment, **kept}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise StartError(f"{' '.join(line)}: {done.returncode} {done.stderr[-500:]}")
    return seconds, _used() - before


def _used() -> float:
    """Seconds of the processor, of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
