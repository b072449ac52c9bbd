"""Processes and what they have started, by their sessions: whether they live, and their end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.harness import is_running


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def have_ended(*sessions: int) -> bool:
    """Asked often: it looks at all processes only once the leaders have gone."""
    return not any(map(is_running, sessions)) and not alive_in(*sessions)


def alive_in(*sessions: int) -> list[int]:
    """The processes of these sessions: their leaders, and whatever those started in them."""
    alive = []
    for each in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            fields = (each / "stat").read_text().rpartition(")")[2].split()
            # Itself by its pid: a session is made only after the fork.
            if {int(fields[3]), int(each.name)}.intersection(sessions) and fields[0] != "Z":
                alive.append(int(each.name))
    return alive
