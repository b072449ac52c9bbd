"""Addresses that were refused for good, remembered for a while in Redis."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.logs import event
from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.batching import Batcher
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, Reachability, until_answered
from app.queue.errors import BadCursorError
from app.queue.records.suppressed import Suppression, SuppressionPage

log = logging.getLogger("recado.worker")

MOST_ADDRESSES = 500_000
# While there were none at all, so long nobody looks again.
NONE_SECONDS = 1.0
_PAGE = 200


class RunSuppressions:
    """The worker's `context.suppressions`. `seconds` 0: nothing is remembered."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability, seconds: int) -> None:
        self._lane = Lane(client, reachability)
        self._seconds = seconds
        self._none_until = 0.0
        self._looks: Batcher[Sequence[str], set[str]] = Batcher(
            self._look, lambda addresses: sum(map(len, addresses))
        )

    async def among(self, addresses: Sequence[str]) -> set[str]:
        """Which of these are remembered; waits for Redis."""
        if self._seconds == 0 or time.monotonic() < self._none_until:
            return set()
        return await self._looks.put(addresses)

    async def add(self, address: str, code: int, reply: str) -> None:
        """Remember one; a Redis that is away now does not hold the job up."""
        if self._seconds == 0:
            return
        self._none_until = 0.0
        known = to_json({"at": time.time(), "code": code, "reply": reply})
        try:
            await run_script(
                self._lane, scripts.SUPPRESS, mailbox(address), self._seconds, MOST_ADDRESSES, known
            )
        except (RedisError, OSError, TimeoutError) as error:
            event(log, "suppression_lost", logging.WARNING, error=type(error).__name__)

    async def aclose(self) -> None:
        await self._lane.close()

    async def _look(self, asked: Sequence[Sequence[str]]) -> list[set[str]]:
        names = [mailbox(address) for addresses in asked for address in addresses]
        scores = await until_answered(lambda: self._lane.call(b"ZMSCORE", keys.SUPPRESSED, *names))
        now_ms = time.time() * 1000
        found = {
            name
            for name, score in zip(names, scores, strict=True)
            if score is not None and float(score) > now_ms
        }
        if not found and not await until_answered(
            lambda: self._lane.call(b"EXISTS", keys.SUPPRESSED)
        ):
            self._none_until = time.monotonic() + NONE_SECONDS
        return [
            {address for address in addresses if mailbox(address) in found} for addresses in asked
        ]


class SuppressionList:
    """For the web process. Every method raises QueueUnavailableError."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lane = Lane(client, reachability)

    async def page(self, limit: int, cursor: str | None) -> SuppressionPage:
        """The latest first. Raises BadCursorError."""
        after = _read_cursor(cursor)
        entries: list[tuple[str, int]] = []
        offset, highest = 0, "+inf" if after is None else str(after[0])
        while len(entries) <= limit:
            found = await ask(
                self._client.zrevrangebyscore(
                    keys.SUPPRESSED, highest, f"({int(time.time() * 1000)}",
                    start=offset, num=_PAGE, withscores=True,
                ),
                self._reachability,
            )  # fmt: skip
            offset += len(found)
            for member, score in found:
                entry = (member.decode("utf-8", "replace"), int(score))
                if after is None or (entry[1], entry[0]) < after:
                    entries.append(entry)
            if len(found) < _PAGE:
                break
        page, more = entries[:limit], len(entries) > limit
        return SuppressionPage(
            await self._known(page), _cursor(*page[-1]) if more and page else None
        )

    async def find(self, address: str) -> Suppression | None:
        score = await ask(
            self._client.zscore(keys.SUPPRESSED, mailbox(address)), self._reachability
        )
        if score is None or score <= time.time() * 1000:
            return None
        return (await self._known([(mailbox(address), int(score))]))[0]

    async def remove(self, address: str, by: str) -> bool:
        """False: it was not there. `by` is the acting key's name."""
        asking = run_script(self._lane, scripts.UNSUPPRESS, by, mailbox(address))
        return bool(await ask(asking, self._reachability))

    async def aclose(self) -> None:
        await self._lane.close()

    async def _known(self, entries: Sequence[tuple[str, int]]) -> list[Suppression]:
        if not entries:
            return []
        names = [name for name, _ in entries]
        texts = await ask(self._client.hmget(keys.SUPPRESSIONS, names), self._reachability)
        return [
            _suppression(name, until_ms, text)
            for (name, until_ms), text in zip(entries, texts, strict=True)
        ]


def mailbox(address: str) -> str:
    """The address with its domain, which compares without case, in small letters."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def _suppression(name: str, until_ms: int, text: bytes | None) -> Suppression:
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    try:
        known: Any = json.loads(text or b"{}")
        since = datetime.fromtimestamp(known["at"], UTC)
        return Suppression(name, since, until, int(known["code"]), str(known["reply"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return Suppression(name, None, until, None, None)


def _cursor(name: str, score: int) -> str:
    return base64.urlsafe_b64encode(f"{score} {name}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        score, _, name = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return int(score), name
    except (binascii.Error, ValueError):
        raise BadCursorError from None
