"""Clients, lanes and time-outs: how this process talks to Redis, and notices that it cannot."""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
import redis as sync_redis
import redis.asyncio as async_redis
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's own
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel as SyncSentinel

from app.logs import event
from app.queue.server import FULL, lacks_right, refusal, words
from app.queue.wire import ENDED, Replied, Wire

log = logging.getLogger("recado.redis")

CONNECT_SECONDS = 3.0
# Clients are promised an answer within 5 s, also when Redis gives none.
REPLY_SECONDS = 4.0
FULL_LOG_SECONDS = 60.0
CANCEL_AGAIN_SECONDS = 0.2
_SCRIPT_COMMANDS = (b"EVALSHA", b"EVAL")
# Beside the lanes. redis-py refuses the 101st caller of a moment; a small hosted Redis takes
# 20 connections in all. Ours wait: one answer takes less than a millisecond.
SHARED_CONNECTIONS = 8
# Errors after which the same call may be sent again, on a new connection.
AWAY = (
    ConnectionError,
    TimeoutError,
    OSError,
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    # What answers is no Redis: a load balancer that has none behind it.
    InvalidResponse,
)
# What is left when nobody has made sense of an answer: a script failed, a name that somebody else
# wrote is no text.
UNEXPECTED = (RedisError, UnicodeDecodeError)
# Answers of a server that is up and cannot serve: disk full, replica alone, a script that
# takes long. redis-py 8.1 takes the word off those that it has a class for (above).
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "BUSY ", "UNBLOCKED")


def is_away(error: BaseException) -> bool:
    """True when the call may succeed later, unchanged; false for a fault of the call itself."""
    if isinstance(error, AWAY) or lacks_right(error):
        return True
    return isinstance(error, ResponseError) and words(error).startswith(_AWAY_WORDS)


Client = async_redis.Redis


def connect(url: str) -> async_redis.Redis:
    """A client that connects on first use and never retries by itself.

    Retrying is decided by the caller: redis-py's own would send a script again without
    its being told apart from a new one. `redis+sentinel://host:port,host:port/service/db`
    names a Sentinel.
    """
    # No retries, and no socket_timeout: a lane bounds each call as a whole, once.
    retry: Any = Retry(NoBackoff(), 0)
    options = _options(url) | {"retry": retry}
    if "sentinel" not in urlsplit(url).scheme:
        client = async_redis.Redis.from_pool(
            async_redis.BlockingConnectionPool.from_url(
                url,
                max_connections=SHARED_CONNECTIONS,
                timeout=REPLY_SECONDS,
                socket_timeout=REPLY_SECONDS,
                **options,
            )
        )
    else:
        hosts, service, database, more = _sentinel_parts(url)
        asking = options | {"socket_timeout": REPLY_SECONDS}
        sentinel: Any = Sentinel(hosts, sentinel_kwargs=asking, **options, **more)  # type: ignore[no-untyped-call]
        for each in sentinel.sentinels:
            _mend(each.connection_pool)
        client = sentinel.master_for(service, db=database, socket_timeout=REPLY_SECONDS)
    _mend(client.connection_pool)
    return client


def _mend(pool: Any) -> None:
    """Its connections raise what they should.

    redis-py's ConnectionError when they have ended: what went as it was opened is written to all
    the same (redis-py 8.1: HELLO), and uvloop raises RuntimeError then, which nobody takes for an
    outage. CancelledError when their task is cancelled: they write within `wait_for`, which (3.11)
    keeps it to itself where the command has just been sent, or could not be, and the task would go
    on for ever.
    """
    kind: Any = pool.connection_class

    class Connection(kind):  # type: ignore[misc]
        # Looked at here, and not one level above: `wait_for` makes a task of this, and lets others
        # go first.
        async def _send_packed_command(self, command: Any) -> None:
            if self._writer is None or self._writer.is_closing():
                raise ConnectionError(ENDED)
            await super()._send_packed_command(command)

        async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            canceled = task.cancelling()
            fault: Exception | None = None
            try:
                await super().send_packed_command(*arguments, **options)
            except Exception as error:  # noqa: BLE001 - raised below
                fault = error
            if task.cancelling() > canceled:
                # The reply would be taken for that of the next command.
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError from fault
            if fault is not None:
                raise fault

    pool.connection_class = Connection


def connect_blocking(url: str) -> sync_redis.Redis:
    """The same for a thread of its own, or a short command."""
    retry = sync_redis.retry.Retry(NoBackoff(), 0)
    options = _options(url) | {"socket_timeout": REPLY_SECONDS, "retry": retry}
    if "sentinel" not in urlsplit(url).scheme:
        return sync_redis.Redis.from_url(url, **options)
    hosts, service, database, more = _sentinel_parts(url)
    sentinel: Any = SyncSentinel(hosts, sentinel_kwargs=options, **options, **more)  # type: ignore[no-untyped-call]
    return cast("sync_redis.Redis", sentinel.master_for(service, db=database))


def _options(url: str) -> dict[str, Any]:
    # Enterprise servers only; elsewhere it costs each connection a refused command.
    options: dict[str, Any] = {
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        # Else each connection looks through all packages that are installed for its version.
        "driver_info": DriverInfo(lib_version=sync_redis.__version__),
    }
    if urlsplit(url).scheme != "unix":
        # redis-py 8.1 refuses both for a socket of this machine.
        options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
    return options


def _sentinel_parts(url: str) -> tuple[list[tuple[str, int]], str, int, dict[str, Any]]:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    more: dict[str, Any] = {}
    if credentials:
        user, _, password = credentials.partition(":")
        more = {"username": user or None, "password": password}
    if parts.scheme.startswith("rediss"):
        more["ssl"] = True
    addresses = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        addresses.append((name, int(port or 26379)))
    return addresses, service or "mymaster", int(database or 0), more


class Reachability:
    """Says once that Redis went away and once that it is back, however many calls notice.

    A replica answers whoever reads: only what may write tells that Redis is back.
    """

    def __init__(self) -> None:
        self.is_away = False
        self._refused_at = -FULL_LOG_SECONDS

    def lost(self, error: BaseException) -> None:
        why = refusal(error)
        if why == FULL or lacks_right(error):
            # Other calls go on, which must not be taken for a return.
            self._refused(str(why))
        elif not self.is_away:
            self.is_away = True
            if why is None:
                event(log, "redis_unreachable", logging.WARNING, error=type(error).__name__)
            else:
                event(log, "redis_refuses", logging.WARNING, reason=why)

    def _refused(self, why: str) -> None:
        """Some calls are refused and others go on: said once in a while."""
        now = time.monotonic()
        if now - self._refused_at >= FULL_LOG_SECONDS:
            self._refused_at = now
            event(log, "redis_refuses", logging.WARNING, reason=why)

    def found(self) -> None:
        """A script was run, and each of ours may write."""
        if self.is_away:
            self.is_away = False
            event(log, "redis_back")


class Lane:
    """One connection on which one call is made at a time.

    A call that fails, is cancelled or times out closes the connection: its reply may still
    arrive, and must never be taken for the next call's.
    """

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._pool: Any = client.connection_pool
        self._wire: Wire | None = None
        self._reachability = reachability
        self._turn = asyncio.Lock()
        self._connecting: asyncio.Timeout | None = None

    async def call(self, *arguments: Any, seconds: float = REPLY_SECONDS) -> Any:
        """Send one command and return its reply as bytes, ints and lists.

        Raises what redis-py raises; `is_away` tells whether sending it again may help.
        """
        packed = hiredis.pack_command(arguments)
        async with self._turn:
            if self._wire is not None and self._wire.has_ended:
                # While it was idle: servers close what is silent for some minutes.
                self._drop()
            was_open = self._wire is not None
            try:
                if self._wire is None:
                    async with asyncio.timeout(seconds) as self._connecting:
                        self._wire = await _take_over(self._pool.make_connection())
                reply = await self._wire.ask(packed, seconds)
            except BaseException as error:
                self._note(error, was_open=was_open)
                raise
            if arguments[0] in _SCRIPT_COMMANDS:
                self._reachability.found()
            return reply

    def begin(self, arguments: tuple[Any, ...], seconds: float, done: Replied) -> bool:
        """Call a script without a coroutine; False, with nothing sent: that cannot be now.

        `done` hears later what `call` would have returned or raised. Until then nobody may `call`.
        """
        wire = self._wire
        if wire is None or not wire.is_free or self._turn.locked():
            return False

        def replied(reply: Any, error: Exception | None) -> None:
            if error is None:
                self._reachability.found()
            else:
                self._note(error, was_open=True)
            done(reply, error)

        wire.begin(hiredis.pack_command(arguments), seconds, replied)
        return True

    def _note(self, error: BaseException, *, was_open: bool) -> None:
        if not isinstance(error, ResponseError) or is_away(error):
            self._drop()
        # A connection that has been idle may have ended long ago: the next call, on a new one,
        # tells whether Redis is away now.
        ended = was_open and isinstance(error, (ConnectionError, builtins.ConnectionError))
        if isinstance(error, Exception) and is_away(error) and not ended:
            self._reachability.lost(error)

    def interrupt(self) -> None:
        """The call that is under way fails now; the next one begins on a new connection."""
        if self._wire is not None:
            self._wire.close()
        elif self._turn.locked() and self._connecting and not self._connecting.expired():
            self._connecting.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


async def _take_over(connection: Any) -> Wire:
    try:
        await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    wire = Wire(connection._writer)
    connection._reader = connection._writer = None
    return wire


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel, and return when all have ended.

    Again and again: what a task awaits may keep the first to itself, as `wait_for` does (3.11).
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def until_answered(
    send: Callable[[], Awaitable[Any]], *, stop: Callable[[], bool] = lambda: False
) -> Any:
    """Repeat a call that is safe to repeat until Redis answers, with short pauses.

    Raises the last error when `stop()` says that waiting is over.
    """
    pause = 0.05
    while True:
        try:
            return await send()
        except (RedisError, OSError) as error:
            if not is_away(error) or stop():
                raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
