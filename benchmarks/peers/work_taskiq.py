"""A taskiq worker on a Redis list, the fastest of its brokers, and its client."""

import asyncio

from marks import REDIS_URL, async_client, mark
from taskiq_redis import ListQueueBroker

# redis-py 8.1 would give up waiting for a job after 5 s, and taskiq-redis 1.2.4 its loop.
broker = ListQueueBroker(REDIS_URL, socket_timeout=None)


@broker.task
async def noop(number: int) -> None:
    mark(number)


async def hand_over() -> None:
    await broker.startup()
    await async_client(lambda _, number: noop.kiq(number))
    await broker.shutdown()


def main() -> None:
    asyncio.run(hand_over())
