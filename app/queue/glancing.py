"""What a few fields of a record tell of a job that a list may want; see glance.lua."""

from __future__ import annotations

import re
from typing import Any

from app.queue.calling import to_json
from app.queue.reading import raw_statuses
from app.queue.records.names import PRIORITIES, queue_name
from app.queue.records.views import JobFilter

# As JSON writes them without escapes.
_PLAIN_CODE = re.compile(r"[\w.-]+", re.ASCII)


def glance_filter(kind: str, value: str, wanted: JobFilter) -> str | None:
    """What to look for in jobs of the index of that kind and value; None: nothing, as all of them
    are wanted, but for their time."""
    found: dict[str, Any] = {}
    if wanted.status is not None and (kind, value) != ("status", wanted.status):
        found["statuses"] = raw_statuses(wanted.status)
    if wanted.type is not None and kind != "type":
        found["type"] = wanted.type
    if wanted.queue is not None:
        found["origins"] = [queue_name(wanted.queue, each) for each in PRIORITIES]
    if wanted.tag is not None and kind != "tag":
        found["tag"] = wanted.tag
    if wanted.submitted_by is not None and kind != "by":
        found["by"] = wanted.submitted_by
    if wanted.fingerprint is not None and kind != "fingerprint":
        found["fingerprint"] = wanted.fingerprint
    if wanted.error is not None and kind != "error" and _PLAIN_CODE.fullmatch(wanted.error):
        found["error"] = wanted.error
    if not found:
        return None
    return to_json(found | ({"entered": value} if kind == "status" else {}))
