"""What goes on for as long as its process does, whatever comes in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("recado")

PAUSE_SECONDS = 1.0


async def keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run it until cancelled; a fault that nobody foresaw is told, and it begins anew."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("%s_broke", name)
        await asyncio.sleep(PAUSE_SECONDS)
