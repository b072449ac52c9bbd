"""The lives of jobs that are interrupted at every point, and how each must end all the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from jobs.catalog import Backoff
from tests.harness import quick

# In the place of a status: nothing of the job is kept.
GONE = "gone"


@dataclass(frozen=True)
class Member:
    """One job of a life: how it ends, and the outcomes of its own runs, the abandoned left out.

    `after` is the place of the member that it depends on.
    """

    job_type: str
    status: str = "finished"
    outcomes: tuple[str, ...] = ("finished",)
    params: dict[str, Any] = field(default_factory=dict)
    after: int | None = None
    backoff: Backoff | None = None


@dataclass(frozen=True)
class Life:
    """Jobs that belong together, in a queue of their own.

    `asked` happens once the function has begun: a client's cancel, or SIGTERM for the worker.
    `begins` is the word that a function writes first.
    """

    members: tuple[Member, ...]
    begins: Literal["ran", "began"] = "ran"
    asked: Literal["cancel", "leave"] | None = None
    together: Literal["batch", "slot", "large batch"] | None = None
    expired: bool = False
    # Until it has ended: no worker claims from its queue.
    paused: bool = False
    # Each job's outcome is told by another one.
    notify: bool = False

    @property
    def needs_processes(self) -> bool:
        return any("process" in member.job_type for member in self.members)


def _one(job_type: str, **changes: Any) -> Life:
    return Life((Member(job_type, **changes),))


def _stopped(job_type: str) -> Life:
    member = Member(job_type, "stopped", ("stopped",), {"seconds": 60})
    return Life((member,), begins="began", asked="cancel")


# Long enough for a heartbeat, a promote and a recover while it runs.
_LONG: dict[str, Any] = {"seconds": 2.2}
_FAILED = Member("test.permanent", "failed", ("failed",))
_RETRIED = Member("test.fail_once", outcomes=("retry", "finished"))

LIVES = {
    "finished": _one("test.note"),
    "process": _one("test.note_process"),
    "not kept": _one("test.note", status=GONE),
    "retry": Life((_RETRIED,)),
    "retry at once": _one("test.fail_once", outcomes=("retry", "finished"), backoff=quick(0.0)),
    "retry process": _one("test.fail_once_process", outcomes=("retry", "finished")),
    "failed": Life((_FAILED,)),
    "stopped": _stopped("test.nap"),
    "stopped process": _stopped("test.nap_process"),
    "expired": Life((Member("test.note", "canceled", ()),), expired=True),
    "expired in a pause": Life((Member("test.note", "canceled", ()),), expired=True, paused=True),
    "dependent": Life((Member("test.note"), Member("test.note", after=0))),
    "failed parent": Life((_FAILED, Member("test.note", "canceled", (), after=0))),
    "batch": Life((Member("test.note"), _FAILED, _RETRIED), together="batch"),
    "slot": Life((Member("test.note"), Member("test.note")), together="slot"),
    "notify": Life((Member("test.note"),), notify=True),
    "notify failed": Life((_FAILED,), notify=True),
    "leaving": Life((Member("test.nap", params={"seconds": 0.5}),), begins="began", asked="leave"),
    "long": Life((Member("test.nap", params=_LONG),), begins="began"),
    "long process": Life((Member("test.nap_process", params=_LONG),), begins="began"),
}
