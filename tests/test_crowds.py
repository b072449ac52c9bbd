"""Many callers at once: none is turned away while Redis is up, none waits beyond the limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio as async_redis

from app.queue.batching import Batcher
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


@asynccontextmanager
async def pretending(reply: Callable[[list[bytes]], bytes]) -> AsyncIterator[str]:
    """The location of a server that answers commands by `reply`; b"" is no answer."""
    serving = set[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        commands = hiredis.Reader(notEnoughData=Ellipsis)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not Ellipsis:
                    writer.write(reply(command))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2"
        await asyncio.gather(*serving)


async def test_line_that_has_waited_long_enough_is_not_tried_batch_by_batch() -> None:
    asked: list[bytes] = []

    def reply(command: list[bytes]) -> bytes:
        asked.append(command[0])
        return b"" if command[0] == b"INFO" else b"+OK\r\n"

    async with (
        pretending(reply) as location,
        connect(location) as client,
        aclosing(Submitter(client, Reachability(), 0.5)) as submitter,
    ):
        drafts = [draft("log.write", message="hello") for _ in range(CALLERS)]

        ends = await asyncio.gather(
            *(submitter.submit(each) for each in drafts), return_exceptions=True
        )

    assert {str(end) for end in ends} == {"Redis does not answer"}
    # Of seven batches.
    assert asked.count(b"INFO") <= 2


async def test_answer_that_is_none_of_ours_leaves_nobody_waiting() -> None:
    def reply(command: list[bytes]) -> bytes:
        return {b"INFO": b"$0\r\n\r\n", b"EVALSHA": b":1\r\n"}.get(command[0], b"+OK\r\n")

    async with (
        pretending(reply) as location,
        connect(location) as client,
        aclosing(Submitter(client, Reachability())) as submitter,
    ):
        for _ in range(3):
            async with asyncio.timeout(15):
                with pytest.raises(TypeError, match="unpack"):
                    await submitter.submit(draft("log.write", message="hello"))


async def test_batch_that_cannot_be_begun_with_is_sent_otherwise() -> None:
    def begin(items: Sequence[str], done: Callable[[Sequence[str] | None], None]) -> bool:
        raise ValueError(items, done)

    async def send(items: Sequence[str]) -> list[str]:
        return [each.upper() for each in items]

    batcher: Batcher[str, str] = Batcher(send, len, begin)

    async with asyncio.timeout(15):
        for _ in range(2):
            answers = await asyncio.gather(batcher.put("a"), batcher.put("b"))
            assert [*answers] == ["A", "B"]
        await batcher.aclose()
