"""Many callers at once: none is turned away while Redis is up, none waits beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio as async_redis

from app.queue.connection import Reachability, connect
from app.queue.errors import QueueUnavailableError
from app.queue.submitting import Submitter
from app.queue.views import Views
from tests.conftest import ValkeyServer
from tests.harness import draft

CALLERS = 400


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[async_redis.Redis]:
    async with connect(valkey.url) as client:
        yield client


async def test_everybody_who_looks_at_a_job_at_once_is_answered_over_few_connections(
    client: async_redis.Redis, valkey: ValkeyServer
) -> None:
    reachability = Reachability()
    submitter = Submitter(client, reachability, give_up_seconds=30.0)
    views = Views(client, reachability)
    made = draft("log.write", message="hello")
    await submitter.submit(made)
    await submitter.aclose()

    seen = await asyncio.gather(*(views.job(made.id) for _ in range(CALLERS)))

    assert [view.id for view in seen if view is not None] == [made.id] * CALLERS
    with redis.Redis.from_url(valkey.url) as own:
        assert own.info("clients")["connected_clients"] < 20


async def test_nobody_waits_for_those_before_when_redis_is_away() -> None:
    async with connect("redis://127.0.0.1:1/0") as client:
        submitter = Submitter(client, Reachability(), give_up_seconds=2.0)
        drafts = [draft("log.write", message="hello") for _ in range(CALLERS)]

        # Seven batches one after the other, which took seven times the limit.
        async with asyncio.timeout(12):
            ends = await asyncio.gather(
                *(submitter.submit(each) for each in drafts), return_exceptions=True
            )

        assert {type(end) for end in ends} == {QueueUnavailableError}
        await submitter.aclose()
