"""What has to go on for as long as its process does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from app.queue import lasting
from app.queue.lasting import keep_up
from tests.harness import draft, submit, wait_until_ended, worker


async def test_fault_that_nobody_foresaw_is_told_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "PAUSE_SECONDS", 0.0)
    begun = []
    again = asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) == 1:
            raise UnicodeError("of no kind that anybody thought of")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(keep_up("upkeep", work))
    async with asyncio.timeout(30):
        await again.wait()

    assert [each.getMessage() for each in caplog.records] == ["upkeep_broke"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_word_that_cannot_be_read_deafens_no_worker(redis_url: str, tmp_path: Path) -> None:
    with worker(redis_url, tmp_path) as process, redis.Redis.from_url(redis_url) as client:
        client.publish("rq:recado:wake", b"\xff\xfe")
        (channel,) = client.pubsub_channels("rq:pubsub:*")
        client.publish(channel, b"[" * 100_000)

        (job_id,) = submit(redis_url, draft("test.note"))

        assert wait_until_ended(redis_url, job_id)[0].status == "finished"
        client.publish(channel, b'{"command": "shutdown"}')
        assert process.process.wait(timeout=30) == 0
