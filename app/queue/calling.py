"""Calling a script, and the shapes in which RQ keeps results."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from app.queue.connection import REPLY_SECONDS, Lane
from app.queue.keys import PREFIX
from app.queue.scripts import Script
from app.queue.wire import Replied


async def run_script(lane: Lane, script: Script, *arguments: Any) -> Any:
    """Call a script by digest; a server that does not know it yet is given the source."""
    try:
        return await lane.call(
            b"EVALSHA", script.digest, b"0", PREFIX, *arguments, seconds=REPLY_SECONDS
        )
    except NoScriptError:
        return await lane.call(b"EVAL", script.source, b"0", PREFIX, *arguments)


def begin_script(
    lane: Lane, script: Script, arguments: Sequence[Any], seconds: float, done: Replied
) -> bool:
    """The same without a coroutine, and without the source; see `Lane.begin`."""
    return lane.begin((b"EVALSHA", script.digest, b"0", PREFIX, *arguments), seconds, done)


def pack_traceback(text: str) -> bytes:
    """A traceback as RQ keeps it in a result: base64 of zlib."""
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace")))


def encode_result(value: Any) -> bytes:
    """A return value as RQ keeps it with the JSON serializer: base64 of JSON."""
    return base64.b64encode(to_json(value).encode("utf-8"))


# `json.dumps` makes a new one for each call that asks for more than the defaults.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def to_json(value: Any) -> str:
    """JSON as it goes into Redis. Raises ValueError or TypeError for what JSON has not."""
    return _encode(value)


# What the failed registry tells of a record that no transition could move.
BROKEN_EXC = pack_traceback("The record of this job cannot be read.")
