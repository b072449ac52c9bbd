"""Looking at a job never fails, whatever stands in its record."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st

from app.http.answers import render
from app.http.showing import show_job
from app.queue.connection import Reachability
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
