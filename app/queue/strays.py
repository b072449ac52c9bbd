"""Programs that a job has started and left behind: they fall to us, and are ended.

A process whose parent ends falls to its nearest ancestor that adopts orphans. Linux only:
elsewhere nothing is adopted, and nothing found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Of whose nursery a process is, and of which of its jobs. Programs inherit both.
NURSERY, RUN = "RECADO_NURSERY", "RECADO_RUN"
PAUSE_SECONDS = 0.01


def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended just before
        os._exit(1)


def outlive_parent() -> None:
    """The opposite, for who has to tidy up after it."""
    _prctl(PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """What descendants leave behind falls to this process, which has to wait for it."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children_of_this() -> list[int]:
    """Also those that have ended and were not waited for."""
    try:
        path = Path(f"/proc/self/task/{os.getpid()}/children")
        return [int(pid) for pid in path.read_text().split()]
    except OSError:
        return []


def mark_run(token: int) -> None:
    """For the programs that this process starts: written, and read by nobody but us."""
    os.environb[RUN.encode()] = b"%d" % token


def mark_of(pid: int, name: str) -> str | None:
    """The variable as the process was started with it; None where it has none, or has ended."""
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if each.startswith(f"{name}=".encode()):
                return each.partition(b"=")[2].decode("utf-8", "replace")
    return None


def end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def end_group(leader: int) -> None:
    """The process and all that it started and that did not leave its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    end(leader)


def end_family(nursery: int, mark: str, seconds: float) -> None:
    """End what a dead nursery has left to this process, in whatever generation.

    Its children are known by their session, as one that has ended has no environment left.
    """
    deadline = time.monotonic() + seconds
    clean = 0
    # Twice, as a process may be on its way to us while its parent ends.
    while clean < 2 and time.monotonic() < deadline:
        found = [pid for pid in children_of_this() if _is_of(pid, nursery, mark)]
        for pid in found:
            end(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        clean = 0 if found else clean + 1
        time.sleep(PAUSE_SECONDS)


def _is_of(pid: int, nursery: int, mark: str) -> bool:
    if pid == nursery:
        return False
    with contextlib.suppress(OSError):
        if os.getsid(pid) == nursery:
            return True
    return mark_of(pid, NURSERY) == mark


def end_all(seconds: float) -> None:
    """End every child of this process, and what falls to it then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in children_of_this():
            end(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE_SECONDS)
