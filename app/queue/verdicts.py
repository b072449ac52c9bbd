"""What the scripts `submit` and `commit` answer, as errors and as what a draft has become."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from app.queue.errors import (
    ExpiredError,
    IdempotencyMismatchError,
    IdempotencyPendingError,
    JobIdTakenError,
    QueueFullError,
    QueueUnavailableError,
    UnknownParentError,
)
from app.queue.packing import Packed
from app.queue.records.drafts import JobDraft, KeptAnswer
from app.queue.times import from_us

FULL_RETRY_SECONDS = 30


def check(answer: list[Any], jobs: Sequence[Packed]) -> None:
    """Raise what a refusal means; see submit.lua for the codes."""
    code = answer[0]
    if code == 0:
        raise JobIdTakenError
    if code == 3:
        raise IdempotencyMismatchError
    if code == 4:
        raise UnknownParentError(answer[1], answer[2])
    if code in {5, 6}:
        what = "too many jobs wait" if code == 5 else "too many bytes wait"
        name, room = answer[1].decode(), int(answer[2])
        beyond = _beyond(jobs, name, room, is_bytes=code == 6)
        raise QueueFullError(f"{what} in queue {name}", FULL_RETRY_SECONDS, beyond)
    if code == 7:
        raise IdempotencyPendingError
    if code == 9:
        raise ExpiredError(answer[1])
    if code == 8:
        raise QueueUnavailableError("Redis was too slow for a batch of this size")
    if code != 1:
        raise QueueUnavailableError("a key of this queue holds something else")


def become(draft: JobDraft, answer: list[Any]) -> None:
    """The draft of a repeated request becomes the job that the first one made."""
    draft.id, request_id, status = (answer[index].decode() for index in (1, 3, 4))
    draft.request_id = request_id or None
    draft.recorded(from_us(int(answer[2])), status)


def pack_answer(answer: KeptAnswer) -> bytes:
    return b"%d %d " % (answer.status, answer.is_final) + zlib.compress(answer.body)


def unpack_answer(packed: bytes) -> KeptAnswer:
    status, is_final, body = packed.split(b" ", 2)
    return KeptAnswer(int(status), is_final == b"1", zlib.decompress(body))


def _beyond(jobs: Sequence[Packed], queue: str, room: int, *, is_bytes: bool) -> list[int]:
    """The places of those jobs of the queue that do not fit any more, in order; one at least."""
    beyond = []
    places = [place for place, job in enumerate(jobs) if job.draft.rq_queue == queue]
    for place in places:
        need = jobs[place].size_bytes if is_bytes else 1
        if need <= room:
            room -= need
        else:
            beyond.append(place)
    return beyond or places[-1:]
