"""A draft as the scripts take it: a flat list, or a record with a note of what is left to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.queue.calling import to_json
from app.queue.records import JobDraft, encode_call

# A body beyond this is written before the script and read after it, so that neither holds
# up the server; until the script has accepted it, it is about to expire.
LARGE_BODY_BYTES = 256 * 1024
# What a record takes in Redis beside its body, its lists and its trail included.
RECORD_BYTES = 900


@dataclass(frozen=True, slots=True)
class Packed:
    """One draft. `body` is set when it is large and goes ahead by itself."""

    draft: JobDraft
    body: bytes | None
    fields: list[Any]
    size_bytes: int

    @property
    def wire_bytes(self) -> int:
        return RECORD_BYTES if self.body is not None else self.size_bytes

    def arguments(self) -> list[Any]:
        """As `submit` reads a job."""
        todo = self.todo("")
        tags = [part for pair in todo["tags"].items() for part in pair]
        return [
            todo["id"], todo["queue"], todo["place"], todo["at"], todo["expires"],
            todo["type"], todo["size"], todo["slot"], todo["limit"], todo["allow"],
            len(todo["parents"]), *todo["parents"], len(tags), *tags,
            len(self.fields), *self.fields,
        ]  # fmt: skip

    def record(self, batch_id: str) -> list[Any]:
        """As `stage` reads a record of a large batch; `activate` does what `x_todo` says."""
        fields = [*self.fields, "x_todo", to_json(self.todo(batch_id))]
        if self.body is not None:
            fields += ["data", self.body]
        return [self.draft.id, len(fields), *fields]

    def todo(self, batch_id: str) -> dict[str, Any]:
        draft = self.draft
        place, at = _place(draft)
        slot = draft.concurrency
        return {
            "id": draft.id,
            "queue": draft.rq_queue,
            "place": place,
            "at": f"{at:.6f}",
            "expires": "" if draft.expires_at is None else _milliseconds(draft.expires_at),
            "type": draft.type,
            "by": draft.submitted_by or "",
            "size": self.size_bytes,
            # Keys of one API key: another's `reports` is another key.
            "slot": "" if slot is None else f"{draft.submitted_by or ''}:{slot.key}",
            "limit": "" if slot is None else str(slot.limit),
            "allow": "1" if draft.allow_failure else "0",
            "parents": draft.depends_on,
            "tags": draft.tags,
            "batch": batch_id,
        }


def pack(draft: JobDraft) -> Packed:
    data = encode_call(draft.type, draft.params)
    large = len(data) > LARGE_BODY_BYTES
    backoff = draft.backoff
    fields: list[Any] = [] if large else ["data", data]
    fields += [
        "origin", draft.rq_queue,
        "description", draft.type,
        # RQ 3.0 reads whole seconds only (parse_timeout).
        "timeout", math.ceil(draft.timeout_seconds),
        "result_ttl", draft.retention_seconds,
        "failure_ttl", draft.failure_retention_seconds,
        "x_type", draft.type,
        "x_max", draft.max_attempts,
        "x_backoff",
        f"[{backoff.initial:g},{backoff.factor:g},{backoff.maximum:g},{backoff.jitter:g}]",
    ]  # fmt: skip
    fields += _optional_fields(draft)
    return Packed(draft, data if large else None, fields, len(data) + RECORD_BYTES)


def _optional_fields(draft: JobDraft) -> list[Any]:
    fields: list[Any] = []
    if not float(draft.timeout_seconds).is_integer():
        fields += ["x_timeout", f"{draft.timeout_seconds:.3f}"]
    if draft.request_id is not None:
        fields += ["x_req", draft.request_id]
    if draft.submitted_by is not None:
        fields += ["x_by", draft.submitted_by]
    if draft.dry_run:
        fields += ["x_dry", 1]
    if draft.expires_at is not None:
        fields += ["x_expires", _milliseconds(draft.expires_at)]
    if draft.tags:
        fields += ["x_tags", to_json(draft.tags)]
    if draft.concurrency is not None:
        # RQ's own fields and keys (rate_limit.py): a stock worker keeps to them too.
        fields += ["rate_limit_key", f"{draft.submitted_by or ''}:{draft.concurrency.key}"]
        fields += ["rate_limit_concurrency", draft.concurrency.limit]
    return fields


def _place(draft: JobDraft) -> tuple[str, float]:
    if draft.delay_seconds is not None and draft.delay_seconds > 0:
        return "r", draft.delay_seconds
    if draft.scheduled_at is not None:
        return "s", draft.scheduled_at.timestamp()
    return "q", 0.0


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
