"""Another time of day for a whole process tree, as on a machine whose clock is wrong."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

# Nothing of the project is imported here: it would be loaded with the right time.
ROOT = Path(__file__).parent.parent.parent


def shift(seconds: float) -> None:
    """Move the wall clock of this interpreter; to be called before anything else is imported."""
    real_time, real_time_ns, real = time.time, time.time_ns, datetime.datetime

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

    class Shifted(real, metaclass=Meta):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + int(seconds * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]


def shifted_by() -> int:
    """How many seconds this process' clock is ahead of the machine's."""
    return round(time.time() - time.clock_gettime(time.CLOCK_REALTIME))


def environment(folder: Path, seconds: float) -> dict[str, str]:
    """Variables with which Python starts with that clock, and its Python children do."""
    folder.mkdir(exist_ok=True)
    # Python imports it at start; a process that gets the parent's sys.path does so too.
    (folder / "sitecustomize.py").write_text(_SITE.format(seconds=seconds))
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


_SITE = """\
from tests.chaos.clock import shift
shift({seconds})
"""
