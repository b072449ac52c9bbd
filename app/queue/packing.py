"""A draft as the scripts take it: a flat list, or a record with a note of what is left to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from app.queue.calling import to_json
from app.queue.records.calls import encode_call
from app.queue.records.drafts import JobDraft
from app.queue.records.options import Notify
from jobs.catalog import CATALOG, Backoff

# A body beyond this is written before the script and read after it, so that neither holds
# up the server; until the script has accepted it, it is about to expire.
LARGE_BODY_BYTES = 256 * 1024
# What a record takes in Redis beside its body, its lists and its trail included.
RECORD_BYTES = 900
# Of `[function, null, [type, {params}], {}]`.
_END_OF_CALL = "}],{}]"


@dataclass(slots=True)
class Packed:
    """One draft and its call as RQ keeps it. `form` is None unless it can run at once."""

    draft: JobDraft
    data: bytes
    form: str | None

    @property
    def body(self) -> bytes | None:
        """The call, when it is large and goes ahead by itself."""
        return self.data if len(self.data) > LARGE_BODY_BYTES else None

    @property
    def size_bytes(self) -> int:
        return len(self.data) + RECORD_BYTES

    @property
    def wire_bytes(self) -> int:
        return RECORD_BYTES if len(self.data) > LARGE_BODY_BYTES else len(self.data) + RECORD_BYTES

    def arguments(self) -> list[Any]:
        """As `submit` reads a job."""
        todo = self.todo("")
        tags = [part for pair in todo["tags"].items() for part in pair]
        fields = self._fields()
        return [
            todo["id"], todo["queue"], todo["place"], todo["at"], todo["expires"],
            todo["type"], todo["size"], todo["slot"], todo["limit"], todo["allow"],
            len(todo["parents"]), *todo["parents"], len(tags), *tags,
            len(fields), *fields,
        ]  # fmt: skip

    def record(self, batch_id: str) -> list[Any]:
        """As `stage` reads a record of a large batch; `activate` does what `x_todo` says."""
        fields = [*self._fields(), "x_todo", to_json(self.todo(batch_id))]
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

    def edit(self, *, has_params: bool, has_options: bool) -> list[Any]:
        """As `retry` reads it: what is edited, and the fields of the record that this changes."""
        todo = self.todo("")
        todo["replaces_options"] = has_options
        todo["edited"] = ["params"] * has_params + ["options"] * has_options
        fields = ["data", self.data] if has_params else []
        if has_options:
            fields += _Common.of(self.draft).fields() + _own_fields(self.draft)
        return [to_json(todo), *fields]

    def accepted_elsewhere(self) -> list[str]:
        """As a script of another purpose reads a job that it makes: what to do, and fields."""
        fields = [
            each.decode() if isinstance(each, bytes) else str(each) for each in self._fields()
        ]
        return [to_json(self.todo("")), to_json(fields)]

    def _fields(self) -> list[Any]:
        draft = self.draft
        fields = [] if self.body is not None else ["data", self.data]
        return fields + _Common.of(draft).fields() + _own_fields(draft)


def pack(draft: JobDraft) -> Packed:
    data = encode_call(draft.type, draft.params)
    has_form = (
        draft.is_plain
        and draft.request_id is not None
        and draft.submitted_by is not None
        and float(draft.timeout_seconds).is_integer()
        and len(data) <= LARGE_BODY_BYTES
    )
    form = _form(draft.submitted_by or "", draft.queue, _Common.of(draft)) if has_form else None
    return Packed(draft, data, form)


class _Common(NamedTuple):
    """What the jobs of one type have in common, unless an option says otherwise."""

    rq_queue: str
    job_type: str
    timeout_seconds: float
    retention_seconds: int
    failure_retention_seconds: int
    max_attempts: int
    backoff: Backoff

    @classmethod
    def of(cls, draft: JobDraft) -> _Common:
        return cls(
            draft.rq_queue, draft.type, draft.timeout_seconds, draft.retention_seconds,
            draft.failure_retention_seconds, draft.max_attempts, draft.backoff,
        )  # fmt: skip

    def fields(self) -> list[Any]:
        fields = [
            "origin", self.rq_queue,
            "description", self.job_type,
            # RQ 3.0 reads whole seconds only (parse_timeout).
            "timeout", math.ceil(self.timeout_seconds),
            "result_ttl", self.retention_seconds,
            "failure_ttl", self.failure_retention_seconds,
            "x_type", self.job_type,
        ]  # fmt: skip
        # Nearly all have their type's. A field takes about 40 bytes of each waiting job, and the
        # fifteenth 250 besides (Valkey 9.1: a hash of so many has twice the buckets).
        known = CATALOG.get(self.job_type) if self.job_type in CATALOG else None
        if known is None or self.max_attempts != known.max_attempts:
            fields += ["x_max", self.max_attempts]
        wait = self.backoff
        if known is None or wait != known.backoff:
            values = f"[{wait.initial:g},{wait.factor:g},{wait.maximum:g},{wait.jitter:g}]"
            fields += ["x_backoff", values]
        return fields


@lru_cache(maxsize=256)
def _form(by: str, base_queue: str, common: _Common) -> str:
    """As `submit_plain` reads it: all of a record that is not the job's own."""
    fields = [*common.fields(), "x_by", by]
    return to_json(
        {
            "queue": common.rq_queue,
            "base": base_queue,
            "type": common.job_type,
            "by": by,
            "overhead": RECORD_BYTES,
            # Lua would write a number in its own way.
            "fields": [str(each) for each in fields],
        }
    )


def _own_fields(draft: JobDraft) -> list[Any]:
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
    if draft.notify is not None and draft.notifying is not None:
        fields += ["x_notify", to_json(_notify(draft.notify, draft.notifying))]
    if draft.concurrency is not None:
        # RQ's own fields and keys (rate_limit.py): a stock worker keeps to them too.
        fields += ["rate_limit_key", f"{draft.submitted_by or ''}:{draft.concurrency.key}"]
        fields += ["rate_limit_concurrency", draft.concurrency.limit]
    return fields


def _notify(notify: Notify, draft: JobDraft) -> dict[str, Any]:
    """As notify.lua reads it, and what is shown of it again."""
    call = encode_call(draft.type, draft.params).decode()
    assert draft.params, "what is added begins with a comma"
    return {
        "on": notify.on,
        "email": notify.emails,
        "locale": notify.locale,
        "link": notify.has_link,
        "queue": draft.rq_queue,
        "type": draft.type,
        "by": draft.submitted_by or "",
        "fields": [str(each) for each in _Common.of(draft).fields() + _own_fields(draft)],
        "call": call.removesuffix(_END_OF_CALL),
        "end": _END_OF_CALL,
        "overhead": RECORD_BYTES,
    }


def _place(draft: JobDraft) -> tuple[str, float]:
    if draft.delay_seconds is not None and draft.delay_seconds > 0:
        return "r", draft.delay_seconds
    if draft.scheduled_at is not None:
        return "s", draft.scheduled_at.timestamp()
    return "q", 0.0


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
