"""Connections to Redis that end at any moment: an outage, and never a fault that nobody foresaw."""

from __future__ import annotations

import asyncio
from asyncio import StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.queue.asking import ask
from app.queue.batching import MOST_ITEMS, Batcher
from app.queue.connection import Client, Lane, Reachability, connect, is_away, until_answered
from app.queue.errors import QueueUnavailableError
from app.queue.wire import Wire

Opening = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The next so many connections end as soon as they are open, as beside a Redis that dies."""
    open_connection: Opening = asyncio.open_connection

    def cut(times: int) -> None:
        left = times

        async def open_and_cut(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            reader, writer = await open_connection(*arguments, **options)
            if left:
                left -= 1
                await abort(writer.transport)
            return reader, writer

        monkeypatch.setattr(asyncio, "open_connection", open_and_cut)

    return cut


async def abort(transport: asyncio.WriteTransport) -> None:
    """And let the loop close it for good."""
    transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_call_is_repeated_when_its_connection_ends_as_it_is_opened(
    client: Client, cut: Callable[[int], None]
) -> None:
    lane = Lane(client, Reachability())
    cut(2)

    assert await until_answered(lambda: lane.call(b"PING")) == b"PONG"

    await lane.close()


async def test_shared_connection_that_ends_as_it_is_opened_is_an_outage(
    client: Client, cut: Callable[[int], None]
) -> None:
    cut(1)

    with pytest.raises(QueueUnavailableError):
        await ask(client.ping(), Reachability())

    assert await ask(client.ping(), Reachability())


async def test_task_that_is_cancelled_ends_wherever_its_command_is(client: Client) -> None:
    await client.ping()
    for steps in range(40):
        task = asyncio.ensure_future(client.ping())
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    assert await client.echo("its own reply") == b"its own reply"


async def test_nor_does_it_go_on_where_its_command_could_not_be_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.ping()
    write = StreamWriter.writelines
    for steps in range(12):
        faults = iter([ConnectionResetError("reset")])

        def fail_first(
            writer: StreamWriter, data: Any, faults: Iterator[Exception] = faults
        ) -> None:
            for fault in faults:
                raise fault
            write(writer, data)

        monkeypatch.setattr(StreamWriter, "writelines", fail_first)
        task = asyncio.ensure_future(until_answered(client.ping))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_lane_notices_that_its_connection_has_ended_before_it_was_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between redis-py's last reply and ours it is nobody's: who takes it over hears nothing.
    monkeypatch.setattr(Wire, "connection_lost", lambda *_: None)
    lane = Lane(client, Reachability())
    await lane.call(b"PING")
    assert lane._wire is not None
    await abort(lane._wire._transport)

    assert not lane.begin((b"PING",), 1.0, lambda *_: None)
    assert await lane.call(b"PING") == b"PONG"

    await lane.close()


async def test_wire_over_a_closed_connection_says_so(client: Client) -> None:
    pool: Any = client.connection_pool
    connection = pool.make_connection()
    await connection.connect()
    await abort(connection._writer.transport)

    wire = Wire(connection._writer)
    connection._reader = connection._writer = None

    assert wire.has_ended
    assert not wire.is_free
    with pytest.raises(RedisConnectionError):
        await wire.ask(b"*1\r\n$4\r\nPING\r\n", 1.0)


async def test_what_is_no_redis_is_an_outage() -> None:
    """A load balancer that has none behind it, say."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    lane = Lane(client, Reachability())

    with pytest.raises(QueueUnavailableError):
        await ask(client.ping(), Reachability())
    with pytest.raises(RedisError) as caught:
        await lane.call(b"PING")
    assert is_away(caught.value)

    await lane.close()
    await client.aclose()
    server.close()
    await server.wait_closed()


async def test_nobody_waits_for_ever_for_an_answer_that_is_missing() -> None:
    async def answer_fewer(items: Sequence[int]) -> list[int]:
        return list(items)[:-1]

    batcher: Batcher[int, int] = Batcher(answer_fewer, lambda _: 1)

    found = await asyncio.gather(*map(batcher.put, range(3)), return_exceptions=True)

    assert {type(each) for each in found} == {RuntimeError}
    await batcher.aclose()


async def test_nor_behind_one_that_was_cut_short() -> None:
    begun = asyncio.Event()

    async def hang(_: Sequence[int]) -> list[int]:
        begun.set()
        raise asyncio.CancelledError

    batcher: Batcher[int, int] = Batcher(hang, lambda _: 1)
    waiting = [asyncio.create_task(batcher.put(each)) for each in range(MOST_ITEMS + 1)]

    done, left = await asyncio.wait(waiting, timeout=5)

    assert begun.is_set()
    assert not left
    assert all(task.cancelled() for task in done)
