"""The dashboard's own connection to Redis: short time-outs, and the one write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis

from app.queue import keys, scripts
from app.queue.calling import BROKEN_EXC
from app.queue.connection import connect_blocking
from app.queue.dashboard.reading import registry_key

REQUEUE_AT_ONCE = 32
MOST_REQUEUED = 100_000


class Connection:
    """Connects when first used. `location` is for the page: host, port, database, no more."""

    def __init__(self, redis_url: str) -> None:
        self.client = connect_blocking(redis_url)
        self.location = _location(self.client)
        self._requeue = self.client.register_script(scripts.REQUEUE.source.decode())

    def failed_ids(self, queue: str) -> list[str]:
        """The jobs of a queue that have failed by now, oldest first, 100,000 at most."""
        found: Any = self.client.zrange(registry_key("failed", queue), 0, MOST_REQUEUED - 1)
        return [job_id.decode(errors="replace") for job_id in found]

    def requeue(self, ids: Sequence[str], by: str, target: str) -> int:
        """Move failed jobs to their queues; answers how many were in a failed registry.

        `by` is the acting key's name and `target` what it acts on, for the audit trail.
        """
        moved = 0
        for start in range(0, len(ids), REQUEUE_AT_ONCE):
            chunk = ids[start : start + REQUEUE_AT_ONCE]
            moved += int(self._requeue(args=[keys.PREFIX, by, target, BROKEN_EXC, *chunk]))
        return moved


def _location(client: Redis) -> str:
    where = client.connection_pool.connection_kwargs
    service = getattr(client.connection_pool, "service_name", None)
    if service is not None:
        return f"sentinel {service}/{where.get('db', 0)}"
    host = where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
    return f"{host}/{where.get('db', 0)}"
