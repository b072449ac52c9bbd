"""Asking Redis for what is to be shown, with one time-out and one error."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from app.queue import server
from app.queue.connection import REPLY_SECONDS, Reachability, is_away
from app.queue.errors import QueueUnavailableError

RETRY_SECONDS = 2
REFUSED_RETRY_SECONDS = 30


async def ask(asking: Any, reachability: Reachability) -> Any:
    """The answer. Raises QueueUnavailableError when there is none in time, or a refusal."""
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            return await asking
    except (RedisError, OSError, TimeoutError) as error:
        refusal = server.refusal(error)
        if isinstance(error, RedisError) and refusal is None and not is_away(error):
            raise
        reachability.lost(error)
        wait = RETRY_SECONDS if refusal is None else REFUSED_RETRY_SECONDS
        raise QueueUnavailableError(server.explain(error), wait) from error
