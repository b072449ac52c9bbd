"""Looking at a job never fails, whatever stands in its record."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.http.answers import render
from app.http.showing import show_job
from app.queue.connection import Reachability
from app.queue.times import rq_time
from app.queue.views import Views

FIELDS = [
    "status", "origin", "data", "created_at", "enqueued_at", "started_at", "ended_at", "timeout",
    "result_ttl", "x_type", "x_attempt", "x_max", "x_backoff", "x_timeout", "x_trail", "x_error",
    "x_result", "x_reason", "x_at", "x_next", "x_expires", "x_tags", "x_progress", "x_req", "x_by",
    "x_batch", "x_dry", "x_artifacts", "dependency_ids", "allow_dependency_failures",
    "rate_limit_key", "rate_limit_concurrency",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
statuses = st.sampled_from([b"queued", b"started", b"finished", b"failed", b"scheduled", b"odd"])
values = st.binary(max_size=20) | json_values.map(lambda value: json.dumps(value).encode())
records = st.dictionaries(st.sampled_from(FIELDS), values, min_size=1).flatmap(
    lambda record: statuses.map(lambda status: {"status": status, **record})
)
results = st.dictionaries(
    st.sampled_from(["type", "return_value", "exc_string"]), values, min_size=1
)


@settings(max_examples=300, deadline=None)
@given(record=records, result=results)
def test_any_record_can_be_shown(record: dict[Any, Any], result: dict[Any, Any]) -> None:
    async def look() -> None:
        client = fakeredis.FakeAsyncRedis()
        await client.hset("rq:job:x", mapping=record)
        await client.xadd("rq:results:x", result)
        views = Views(client, Reachability())
        found = await views.job("x")
        await views.trail("x")
        await views.aclose()
        await client.aclose()
        assert found is not None
        shown = json.loads(render(show_job(found, [], ("params", "options", "traceback"))))
        assert shown["id"] == "x"

    asyncio.run(look())


TIMES = (
    b"2026-01-31T12:00:00.000000Z", b"2026-01-31T12:00:00.120000Z", b"2026-01-31T12:00:00.12Z",
    b"2024-02-29T23:59:59.999999Z", b"2025-02-29T00:00:00.000000Z", b"2026-13-01T00:00:00.000000Z",
    b"2026-01-31T24:00:00.000000Z", b"2026-01-31T12:00:60.000000Z", b"0000-01-01T00:00:00.000000Z",
    b"2026-01-31 12:00:00.000000Z", b"2026-01-31T12:00:00.000000+", b"2026-01-31T12:00:00,000000Z",
    b"2026-W05-6T12:00:00.000000Z", b"20260131T12:00:00.00000000Z", b"2026-01-31T12:00:00.00000 Z",
    b"+026-01-31T12:00:00.000000Z", b"2026-01-31T12:00:00.0000\xff\xffZ", b"", b"soon",
)  # fmt: skip


@pytest.mark.parametrize("text", TIMES, ids=repr)
def test_times_are_read_as_strptime_reads_them(text: bytes) -> None:
    try:
        expected = datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        expected = None

    assert rq_time(text) == expected
