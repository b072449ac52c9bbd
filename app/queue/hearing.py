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
# A connection that nothing came on for so long is asked whether it is one; and how long it has
# to answer. One that a firewall has forgotten is quiet for ever otherwise.
QUIET_SECONDS = 5.0
PONG_SECONDS = 5.0


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
        quiet_seconds: float = QUIET_SECONDS,
        pong_seconds: float = PONG_SECONDS,
    ) -> None:
        self._client = client
        self._reachability = reachability
        self._name = name
        self._runs = runs
        self._queues = frozenset(queues)
        self._look = look
        self._tend = tend
        self._shut_down = shut_down
        self._quiet_seconds = quiet_seconds
        self._pong_seconds = pong_seconds

    async def run(self) -> None:
        while True:
            pubsub = self._client.pubsub()
            try:
                await pubsub.subscribe(keys.WAKE, keys.commands(self._name))
                # What was said until now, nobody heard.
                self._look()
                while True:
                    self._obey(await self._next_message(pubsub))
            except (RedisError, OSError) as error:
                self._reachability.lost(error)
                if not is_away(error):
                    event(log, "listening_failed", logging.ERROR, error=str(error))
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(AGAIN_SECONDS)

    async def _next_message(self, pubsub: Any) -> dict[str, Any]:
        """Raises TimeoutError when the connection does not even answer."""
        message: dict[str, Any] | None = await pubsub.get_message(timeout=self._quiet_seconds)
        if message is None:
            await pubsub.ping()
            message = await pubsub.get_message(timeout=self._pong_seconds)
        if message is None:
            raise TimeoutError("the subscription is silent")
        return message

    def _obey(self, message: dict[str, Any]) -> None:
        if message["type"] != "message":  # a subscription, or the answer to a question
            return
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
