"""Why jobs failed that stock tools have failed: RQ keeps a traceback, and nothing to list by."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from app.queue import scripts
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane
from app.queue.fingerprints import fingerprint
from app.queue.keys import registry
from app.queue.reading import traceback_of, type_of

MESSAGE_CHARACTERS = 2000
# `module.Class: message`, as Python ends a traceback.
_LAST = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?", re.S)
# What RQ 3.0.0 writes of a run that its worker lost.
_DUE_TO = re.compile(r"due to (\w+)")
UNKNOWN_CLASS = "UnknownError"


async def explain(lane: Lane, queues: Sequence[str]) -> int:
    """Give some of those jobs a cause. Returns how many."""
    if not queues or not await lane.call(b"EXISTS", *(registry("failed", q) for q in queues)):
        return 0
    # None is always the first: a call has its end.
    found = await run_script(lane, scripts.UNEXPLAINED, *random.sample(queues, len(queues)))
    told: list[str] = []
    for job_id, name, traceback, data in found:
        job_type = name.decode("utf-8", "replace") or type_of(data)
        told += [job_id.decode(), job_type, error_of(job_type, traceback_of(traceback))]
    if told:
        await run_script(lane, scripts.EXPLAIN, *told)
    return len(found)


def error_of(job_type: str, traceback: str) -> str:
    """The error as a job keeps it, JSON."""
    error_class, message = class_and_message(traceback)
    return to_json(
        {
            "code": "error",
            "class": error_class,
            "message": message[:MESSAGE_CHARACTERS],
            "retryable": False,
            "fingerprint": fingerprint(job_type, error_class, message, ""),
        }
    )


def class_and_message(traceback: str) -> tuple[str, str]:
    """What its end says; the whole of a text that is no traceback."""
    lines = traceback.rstrip().splitlines()
    # The frames are indented; a message may have lines of its own.
    last_frame = max((at for at, line in enumerate(lines) if line.startswith("  ")), default=None)
    if last_frame is not None:
        found = _LAST.fullmatch("\n".join(lines[last_frame + 1 :]))
        if found is not None:
            return found[1].rpartition(".")[2], found[2] or ""
    due = _DUE_TO.search(traceback)
    return due[1] if due else UNKNOWN_CLASS, traceback.strip()
