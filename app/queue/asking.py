"""Asking Redis for what is to be shown, with one time-out and one error."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from app.queue.connection import REPLY_SECONDS, Reachability, is_away
from app.queue.errors import QueueUnavailableError


async def ask(asking: Any, reachability: Reachability) -> Any:
    """The answer. Raises QueueUnavailableError when there is none in time."""
    try:
        async with asyncio.timeout(REPLY_SECONDS):
            answer = await asking
    except (RedisError, OSError, TimeoutError) as error:
        if isinstance(error, RedisError) and not is_away(error):
            raise
        reachability.lost(error)
        raise QueueUnavailableError("Redis does not answer") from error
    reachability.found()
    return answer
