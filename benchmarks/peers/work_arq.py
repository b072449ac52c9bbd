"""An ARQ worker with 64 jobs at once, and its client."""

import asyncio

from arq import create_pool
from arq.connections import RedisSettings
from marks import REDIS_URL, async_client, email, mark


async def noop(_: dict, number: int) -> None:
    mark(number)


async def send(_: dict, mail: dict) -> None:
    """Only queued, to see what it takes in memory."""


class WorkerSettings:
    functions = (noop, send)
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    max_jobs = 64


async def hand_over() -> None:
    pool = await create_pool(WorkerSettings.redis_settings)

    async def submit(kind: str, number: int) -> None:
        if kind == "noop":
            await pool.enqueue_job("noop", number)
        else:
            await pool.enqueue_job("send", email(number))

    await async_client(submit)
    await pool.aclose()


def main() -> None:
    asyncio.run(hand_over())
