"""What a worker is told while it works: wake-ups, and the commands of RQ's tools."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.logs import event
from app.queue import keys
from app.queue.connection import Reachability, is_away
from app.queue.runs import Run, Runs

log = logging.getLogger("recado.worker")

AGAIN_SECONDS = 0.5


class Hearing:
    """Listens until cancelled. `look`: there may be work; `tend`: something is scheduled."""

    def __init__(
        self,
        client: async_redis.Redis,
        reachability: Reachability,
        name: str,
        runs: Runs,
        queues: Iterable[str],
        *,
        look: Callable[[], None],
        tend: Callable[[], None],
        shut_down: Callable[[], None],
    ) -> None:
        self._client = client
        self._reachability = reachability
        self._name = name
        self._runs = runs
        self._queues = frozenset(queues)
        self._look = look
        self._tend = tend
        self._shut_down = shut_down

    async def run(self) -> None:
        while True:
            pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(keys.WAKE, keys.commands(self._name))
                # What was said until now, nobody heard.
                self._look()
                while True:
                    message = await pubsub.get_message(timeout=5.0)
                    if message is not None:
                        self._obey(message)
            except (RedisError, OSError) as error:
                self._reachability.lost(error)
                if not is_away(error):
                    event(log, "listening_failed", logging.ERROR, error=str(error))
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(AGAIN_SECONDS)

    def _obey(self, message: dict[str, Any]) -> None:
        data = message["data"]
        if message["channel"] == keys.WAKE.encode():
            names = set(data.decode("utf-8", "replace").split(","))
            if "@" in names:
                self._tend()
            if not names.isdisjoint(self._queues):
                self._look()
            return
        try:
            command = json.loads(data)
            self._obey_command(command["command"], command)
        except (ValueError, KeyError, TypeError, RecursionError):
            event(log, "command_unreadable", logging.WARNING)

    def _obey_command(self, name: str, command: dict[str, Any]) -> None:
        """What `rq.command` sends: stop a job or an execution, shut down, kill the horse."""
        if name == "shutdown":
            self._shut_down()
        elif name == "stop-job":
            job_id = command["job_id"]
            self._runs.end_early("requested", lambda run: run.claimed.id == job_id)
        elif name == "stop-execution":
            execution = command["execution_id"]
            self._runs.end_early("requested", lambda run: run.claimed.execution == execution)
        elif name == "kill-horse":
            self._runs.end_early("killed", _is_in_process)


def _is_in_process(run: Run) -> bool:
    return run.in_process
