"""What a worker is told arrives, also after its subscription has died without a word."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from app.queue.connection import Reachability, connect, end_tasks
from app.queue.hearing import Hearing
from app.queue.runs import Runs
from tests.heart_scene import LossyNetwork

NAME = "host.1.abc"
DEADLINE_SECONDS = 30.0


class Heard:
    """What a worker would do; `listening` is told whenever it has subscribed, too."""

    def __init__(self) -> None:
        self.listening = asyncio.Event()
        self.due = asyncio.Event()
        self.shut_down = asyncio.Event()


@pytest.fixture
async def network(redis_url: str) -> AsyncIterator[LossyNetwork]:
    port = urlsplit(redis_url).port
    assert port is not None
    network = LossyNetwork(port)
    await network.open()
    yield network
    await network.close()


@asynccontextmanager
async def hearing(network: LossyNetwork) -> AsyncIterator[Heard]:
    heard, client = Heard(), connect(network.url)
    listener = Hearing(
        client, Reachability(), NAME, Runs(1, 1), ["default"],
        look=heard.listening.set, tend=heard.due.set, shut_down=heard.shut_down.set,
        quiet_seconds=0.05, pong_seconds=0.5,
    )  # fmt: skip
    task = asyncio.create_task(listener.run())
    try:
        await _within(heard.listening)
        yield heard
    finally:
        await end_tasks([task])
        await client.aclose()


async def _within(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await event.wait()
    event.clear()


async def _until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_subscription_that_is_silently_dead_is_made_anew(
    redis_url: str, network: LossyNetwork
) -> None:
    async with hearing(network) as heard:
        network.freeze()
        # What was said meanwhile nobody heard: it looks by itself.
        await _within(heard.listening)

        with redis.Redis.from_url(redis_url) as client:
            client.publish(f"rq:pubsub:{NAME}", json.dumps({"command": "shutdown"}))
            client.publish("rq:recado:wake", "@")
        await _within(heard.shut_down)
        await _within(heard.due)


async def test_quiet_subscription_that_answers_is_kept(
    redis_url: str, network: LossyNetwork
) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.config_resetstat()

        def pings() -> int:
            stats: Any = client.info("commandstats")
            return int(stats.get("cmdstat_ping", {}).get("calls", 0))

        async with hearing(network) as heard:
            await _until(lambda: pings() >= 3)
            assert not heard.listening.is_set()

            client.publish("rq:recado:wake", "default")
            await _within(heard.listening)
