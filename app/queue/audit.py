"""Reading who did what. It is written by the scripts that do it (scripts/audit.lua)."""

from __future__ import annotations

import contextlib
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as async_redis

from app.queue import keys
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.errors import BadCursorError
from app.queue.records.acts import Act, ActPage

KEPT_SECONDS = 90 * 86400
# As Redis numbers the entries of a stream: milliseconds, and which of them.
_CURSOR = re.compile(r"\d{1,15}-\d{1,15}", re.ASCII)


class AuditTrail:
    """Raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability

    async def page(self, limit: int, cursor: str | None) -> ActPage:
        """The latest first, of the last 90 days. Raises BadCursorError."""
        if cursor is not None and _CURSOR.fullmatch(cursor) is None:
            raise BadCursorError
        newest = "+" if cursor is None else f"({cursor}"
        oldest = int((time.time() - KEPT_SECONDS) * 1000)
        found = await ask(
            self._client.xrevrange(keys.AUDIT, newest, oldest, count=limit + 1), self._reachability
        )
        page = found[:limit]
        more = len(found) > limit
        acts = [_act(entry.decode(), fields) for entry, fields in page]
        return ActPage(acts, page[-1][0].decode() if more else None)


def _act(entry: str, fields: dict[bytes, bytes]) -> Act:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    at = datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC)
    return Act(at, text(b"key"), text(b"action"), text(b"target"), _facts(text(b"detail")))


def _facts(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}
