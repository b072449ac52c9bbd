"""Whether a Redis keeps the promises that are made of it, and what to change where it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio as async_redis
from redis.exceptions import ResponseError

from app.queue import server
from app.queue.asking import ask
from app.queue.connection import Reachability
from app.queue.keys import PREFIX

# Scripts say in their first line whether they may run while memory is full: new in 7.0.
LEAST_VERSION = (7, 0)
_SECTIONS = ("server", "cluster", *server.SECTIONS)


@dataclass(frozen=True, slots=True)
class Finding:
    """`fault`: a promise would not hold. `warning`: it deserves a look."""

    level: Literal["ok", "warning", "fault"]
    text: str


async def examine(client: async_redis.Redis, reachability: Reachability) -> list[Finding]:
    """Ask Redis. Raises QueueUnavailableError when it does not answer."""
    facts: dict[str, str] = {}
    async with client.pipeline(transaction=False) as pipeline:
        for section in _SECTIONS:
            pipeline.info(section)
        for found in await ask(pipeline.execute(), reachability):
            facts |= {name: str(value) for name, value in found.items()}
    return judge(facts, await _fsync(client, reachability))


def judge(facts: Mapping[str, str], fsync: str | None) -> list[Finding]:
    """`facts` are of `INFO`; `fsync` is None where the host does not let it be asked."""
    return [
        _version(facts),
        _cluster(facts),
        _appending(facts, fsync),
        _eviction(facts),
        *(Finding("fault", f"{text}.") for text in server.faults(facts)),
    ]


async def _fsync(client: async_redis.Redis, reachability: Reachability) -> str | None:
    try:
        found: Any = await ask(client.config_get("appendfsync"), reachability)
    except ResponseError:
        return None  # hosts that manage Redis keep CONFIG to themselves
    return str(found.get("appendfsync")) if found else None


def _version(facts: Mapping[str, str]) -> Finding:
    text = facts.get("redis_version", "")
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {text}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < LEAST_VERSION:
        return Finding("fault", f"{name} is too old: version 7 or newer is needed.")
    return Finding("ok", f"{name} answers.")


def _cluster(facts: Mapping[str, str]) -> Finding:
    if facts.get("cluster_enabled") == "1" and not PREFIX.startswith("{"):
        return Finding(
            "fault", "Redis is a cluster: scripts move jobs between keys of several slots, which"
            " it refuses. Use a single server, with replicas if you like.",
        )  # fmt: skip
    return Finding("ok", "It is a single server, not a cluster.")


def _appending(facts: Mapping[str, str], fsync: str | None) -> Finding:
    if facts.get("aof_enabled") != "1":
        return Finding(
            "fault", "appendonly is off: a restart of Redis loses jobs that were acknowledged."
            " Set `appendonly yes`.",
        )  # fmt: skip
    if fsync is None:
        return Finding(
            "warning", "appendonly is on; appendfsync cannot be asked here (CONFIG is refused):"
            " it should be everysec or always.",
        )  # fmt: skip
    if fsync == "always":
        return Finding("ok", "appendonly is on, with appendfsync always: no job is lost.")
    if fsync == "everysec":
        return Finding(
            "ok", "appendonly is on, with appendfsync everysec: should Redis' machine die, the"
            " last second may be lost.",
        )  # fmt: skip
    return Finding(
        "fault", f"appendfsync is {fsync}: should Redis' machine die, half a minute of jobs is"
        " lost. Set it to everysec or always.",
    )  # fmt: skip


def _eviction(facts: Mapping[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy")
    if policy not in {None, "noeviction"} and facts.get("maxmemory", "0") != "0":
        return Finding(
            "fault", f"maxmemory-policy is {policy}: a full Redis would throw jobs away. Set it"
            " to noeviction.",
        )  # fmt: skip
    if policy not in {None, "noeviction"}:
        return Finding(
            "warning", f"maxmemory-policy is {policy}; there is no maxmemory, so it does nothing"
            " yet. Set it to noeviction.",
        )  # fmt: skip
    if facts.get("maxmemory", "0") == "0":
        return Finding(
            "warning", "maxmemory is not set: Redis grows until its machine is full, instead of"
            " refusing new jobs before.",
        )  # fmt: skip
    return Finding("ok", "maxmemory-policy is noeviction: what was accepted stays.")
