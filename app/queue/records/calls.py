"""What RQ has as the data of a job: which function, and its arguments."""

from __future__ import annotations

import zlib
from typing import Any

from pydantic_core import to_json

PERFORM = "app.worker.perform"
# 291 kB of zlib can hold 572 MB: never inflate without a bound.
INFLATED_BYTES = 64 * 1024 * 1024


def encode_call(job_type: str, params: dict[str, Any]) -> bytes:
    """RQ's `data` field: `[func_name, instance, args, kwargs]` as JSON.

    Not compressed: RQ 3.0 reads raw JSON too (`Job.restore`), and zlib would be the
    largest single cost of a submission.
    """
    return to_json([PERFORM, None, [job_type, params], {}])


def inflate(data: bytes) -> bytes:
    """RQ's data: zlib, or plain as our own submissions are. Raises ValueError beyond a bound."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, INFLATED_BYTES)
    except zlib.error:
        return data
    if inflater.unconsumed_tail:
        raise ValueError("the data is too large when inflated")
    return plain
