"""Whom the kernel has killed for want of memory: of a SIGKILL from nobody, this tells the cause."""

from __future__ import annotations

from pathlib import Path

OWN_CGROUPS = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


class KernelKills:
    """Counts with the kernel: each of its kills explains the end of one process.

    `counter` None, or a file that cannot be read: nothing is known, and no end explained.
    """

    def __init__(self, counter: Path | None) -> None:
        self._counter = counter
        self._explained: int | None = None

    def begin(self) -> None:
        """None of ours is running: whatever was killed before was somebody else's."""
        self._explained = _kills(self._counter)

    def explain_one(self) -> bool:
        """Whether a process that has just been killed was so for want of memory."""
        kills = _kills(self._counter)
        if kills is None or self._explained is None or kills <= self._explained:
            return False
        self._explained += 1
        return True


def kill_counter(own: Path = OWN_CGROUPS, cgroups: Path = CGROUPS) -> Path | None:
    """The file that counts this memory cgroup's processes that the kernel has killed, if any.

    `memory.events` of cgroup v2, `memory.oom_control` of v1 (Linux 4.13 on), the line `oom_kill`
    in either. In a container the path may be the host's, and the cgroup itself is the root.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        is_v1 = "memory" in controllers.split(",")
        if controllers and not is_v1:
            continue
        root = cgroups / "memory" if is_v1 else cgroups
        name = "memory.oom_control" if is_v1 else "memory.events"
        for folder in (root / path.lstrip("/"), root):
            if _kills(folder / name) is not None:
                return folder / name
    return None


def _kills(counter: Path | None) -> int | None:
    if counter is None:
        return None
    try:
        facts = dict(line.split() for line in counter.read_text().splitlines())
        return int(facts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
