"""What the model keeps of jobs, runs, workers and batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DAY = 86400
HORIZON = 3600
ENDED = {"finished", "failed", "canceled", "stopped"}
FAILED = {"failed", "canceled", "stopped"}
INDEXED = FAILED | {"scheduled", "deferred"}


def base_queue(queue: str) -> str:
    """Without a priority."""
    return queue.removesuffix(".high").removesuffix(".low")


@dataclass
class Job:
    """A record. `status` None: staged, so no job yet. `type` empty: a stock producer's."""

    id: str
    queue: str
    type: str = ""
    by: str = ""
    size: int = 0
    slot: str = ""
    limit: int = 0
    allow: bool = False
    parents: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    place: str = "q"
    at: float = 0.0
    expires_ms: int | None = None
    ttl: int | None = None
    failure_ttl: int | None = None
    timeout: int = 180
    batch: str = ""
    has_todo: bool = False
    status: str | None = None
    due_us: int | None = None
    is_counted: bool = False
    attempt: int = 0
    failures: int = 0
    abandoned: int = 0
    is_interrupted: bool = False
    stopped_by: str | None = None
    reason: str | None = None
    error: str | None = None
    worker: str | None = None
    progress: str | None = None
    # What its runs have saved so far.
    saved: str | None = None
    trail: list[str] = field(default_factory=list)
    # Of a stock producer's: when it was made, what stands for it in lists, its type once known.
    made_us: int = 0
    entry: str = ""
    stock_type: str = ""

    def facts(self) -> dict[str, Any]:
        """What its hash should say."""
        return {
            "status": self.status,
            "origin": self.queue,
            "todo": self.has_todo,
            "batch": self.batch,
            "counted": self.size if self.is_counted else None,
            "attempt": self.attempt,
            "failures": self.failures,
            "abandoned": self.abandoned,
            "interrupted": self.is_interrupted,
            "stopped_by": self.stopped_by,
            "reason": self.reason,
            "error": self.error,
            "worker": self.worker,
            "progress": self.progress,
            "saved": self.saved,
            "entry": self.entry,
            "stock_type": self.stock_type,
            "trail": self.trail,
        }


@dataclass
class Execution:
    """One run. `stopped_by`: who wants it to stop."""

    worker: str
    stopped_by: str | None = None


@dataclass
class WorkerRecord:
    """What Redis knows of a worker."""

    queues: list[str]
    claim_seq: int = 0
    end_seq: int = 0
    end_answer: list[str] = field(default_factory=list)
    is_dead: bool = False


@dataclass
class BatchRecord:
    size: int
    gone: dict[str, str] = field(default_factory=dict)


@dataclass
class UsedKey:
    """An idempotency key. `pending`: of a large batch, whose jobs may not all be in yet."""

    fingerprint: str
    first: str
    us: str
    request: str
    status: str
    pending: bool = False
    answer: str | None = None
