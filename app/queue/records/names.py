"""States, and queues by their priorities."""

from __future__ import annotations

from typing import Literal

Status = Literal[
    "queued", "scheduled", "deferred", "started", "finished", "failed", "canceled", "stopped"
]
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
# The jobs that carry operations out have a queue of their own, which every worker listens to.
OPERATIONS_QUEUE = "operations"


def queue_name(queue: str, priority: Priority) -> str:
    """The RQ queue of a priority: `email`, `email.high`, `email.low`."""
    return queue if priority == "default" else f"{queue}.{priority}"


def split_queue_name(name: str) -> tuple[str, Priority]:
    """The inverse of `queue_name`; any other dotted name is a queue of its own."""
    base, dot, suffix = name.rpartition(".")
    if dot and suffix == "high":
        return base, "high"
    if dot and suffix == "low":
        return base, "low"
    return name, "default"
