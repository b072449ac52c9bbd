"""Which workers Redis knows of, for telling when the one of bin/dev has arrived."""

from __future__ import annotations

from redis.exceptions import RedisError

from app.queue import connection, keys


async def registered_pids(redis_url: str, host: str) -> set[int]:
    """Process ids of the host's registered workers; empty while Redis cannot be asked."""
    client = connection.connect(redis_url)
    try:
        found = set()
        for key in await client.smembers(keys.WORKERS):
            worker_host, pid = await client.hmget(key, ["hostname", "pid"])
            if worker_host == host.encode() and pid is not None:
                found.add(int(pid))
        return found
    except (RedisError, OSError):
        return set()
    finally:
        await client.aclose()
