"""What one client asks to submit, and how several of them are told to a script together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.queue import keys
from app.queue.batching import MOST_BYTES, MOST_ITEMS
from app.queue.packing import Packed
from app.queue.records.drafts import Idempotency, JobDraft


# Not frozen: that would take longer than all else that is done with it.
@dataclass(slots=True)
class Group:
    """One client's request: its jobs stand or fall together."""

    jobs: list[Packed]
    batch_id: str
    idempotency: Idempotency | None
    places: Sequence[int] | None = None
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def first(self) -> JobDraft:
        return self.jobs[0].draft

    @property
    def weight(self) -> int:
        # A job costs the server time beside its bytes.
        per_job = MOST_BYTES // MOST_ITEMS
        return (
            sum(max(job.wire_bytes, per_job) for job in self.jobs)
            if self.batch_id
            else max(self.jobs[0].wire_bytes, 1)
        )

    def heading(self) -> list[Any]:
        """Whose request it is, as `submit` and `commit` read it: by, only by, key, …"""
        by = self.first.submitted_by or ""
        key = self.idempotency
        return [
            by,
            "" if self.first.sees_all else by,
            "" if key is None else keys.idempotency_id(by, key.key),
            "" if key is None else key.fingerprint,
            self.first.request_id or "",
        ]

    def batch_heading(self) -> list[Any]:
        """Its batch and, where some of the request are left out, which of it these jobs are."""
        return [self.batch_id, ",".join(map(str, self.places or ()))]


def plain_arguments(groups: Sequence[Group]) -> list[Any] | None:
    """As `submit_plain` reads them, or None when one of them asks for more."""
    forms: dict[str, int] = {}
    jobs: list[Any] = []
    key_ids: set[str] = set()
    for group in groups:
        job = group.jobs[0]
        if job.form is None:
            return None
        key_id = fingerprint = ""
        if group.idempotency is not None:
            key_id = keys.idempotency_id(job.draft.submitted_by or "", group.idempotency.key)
            fingerprint = group.idempotency.fingerprint
            if key_id in key_ids:
                return None
            key_ids.add(key_id)
        form = forms.setdefault(job.form, len(forms) + 1)
        jobs += (form, job.draft.id, job.draft.request_id, job.data, key_id, fingerprint)
    return [len(forms), *forms, *jobs]


def submit_arguments(groups: Sequence[Group]) -> list[Any]:
    """As `submit` reads them."""
    arguments: list[Any] = [len(groups)]
    for group in groups:
        arguments += [len(group.jobs), *group.heading(), *group.batch_heading()]
        for job in group.jobs:
            arguments += job.arguments()
    return arguments


def chunks(jobs: Sequence[Packed]) -> list[list[Packed]]:
    chunks: list[list[Packed]] = [[]]
    room = MOST_BYTES
    for job in jobs:
        if chunks[-1] and (len(chunks[-1]) >= MOST_ITEMS or job.size_bytes > room):
            chunks.append([])
            room = MOST_BYTES
        chunks[-1].append(job)
        room -= job.size_bytes
    return chunks
