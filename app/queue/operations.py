"""Selections of failed jobs, and operations on them: begun, watched, paused, stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import redis.asyncio as async_redis
from redis.exceptions import OutOfMemoryError

from app.queue import keys, scripts
from app.queue.asking import ask
from app.queue.calling import run_script, to_json
from app.queue.connection import Lane, Reachability
from app.queue.errors import (
    BadCursorError,
    OperationEndedError,
    OperationNotFoundError,
    SelectionNotFoundError,
)
from app.queue.records.failed import FailureFilter, OperationPage, OperationView, Order, Selection
from app.queue.selecting import Selecting
from app.queue.times import from_us

# How long what a preview has shown can be acted on.
SELECTION_SECONDS = 3600
# Taken by a full Redis: to discard what has failed makes room.
_KEEP = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])"
_ENDED = {"finished", "stopped"}
_CURSOR = re.compile(r"[A-Za-z0-9_-]{20,40}", re.ASCII)


class Operations:
    """Every method raises QueueUnavailableError. `by` is the acting key's name."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lane = Lane(client, reachability)
        self._selecting = Selecting(client, self._lane, reachability)

    async def select(self, wanted: FailureFilter) -> Selection:
        """The failed jobs that fit now, under a name that is good for an hour."""
        from app.queue.records.drafts import new_job_id  # noqa: PLC0415 - as for `start`

        frozen = await self._selecting.freeze(wanted)
        selection_id = new_job_id()
        key = keys.selection(selection_id)
        await self._ask(self._keep(key, to_json(frozen)))
        return Selection(selection_id, frozen["count"], frozen["sample"])

    async def count(self, wanted: FailureFilter) -> int:
        """How many failed jobs fit now."""
        return await self._selecting.count(wanted)

    async def start(
        self, chosen: str | FailureFilter, order: Order, by: str, request_id: str
    ) -> OperationView:
        """Begin with a selection, or with what fits a filter now. Raises SelectionNotFoundError."""
        if isinstance(chosen, str):
            text = await self._ask(self._client.get(keys.selection(chosen)))
            if text is None:
                raise SelectionNotFoundError(chosen)
            frozen = json.loads(text)
        else:
            frozen = await self._selecting.freeze(chosen)
        # Who only looks loads nothing of it.
        from app.queue.operating import operation_draft  # noqa: PLC0415
        from app.queue.packing import pack  # noqa: PLC0415
        from app.queue.records.drafts import new_job_id  # noqa: PLC0415

        operation_id = new_job_id()
        await self._run(
            "start", operation_id, by,
            order.action, frozen["count"], frozen["before"],
            "" if order.pace is None else f"{order.pace:.6f}",
            int(order.canary), to_json(frozen["filter"]),
            *pack(operation_draft(operation_id, by, request_id)).accepted_elsewhere(),
            to_json(frozen["asked"]),
            *frozen["causes"],
        )  # fmt: skip
        return await self.view(operation_id)

    async def view(self, operation_id: str) -> OperationView:
        """Raises OperationNotFoundError."""
        views = await self._views([operation_id])
        if not views:
            raise OperationNotFoundError(operation_id)
        return views[0]

    async def page(self, limit: int, cursor: str | None) -> OperationPage:
        """The newest first; each as long as it is kept. Raises BadCursorError."""
        if cursor is not None and _CURSOR.fullmatch(cursor) is None:
            raise BadCursorError
        found: list[OperationView] = []
        behind = cursor
        while len(found) <= limit:
            ids = await self._ids(behind, limit + 1)
            found += await self._views(ids)
            if len(ids) <= limit:
                break
            behind = ids[-1]
        page = found[:limit]
        return OperationPage(page, page[-1].id if len(found) > limit else None)

    async def act(
        self, operation_id: str, act: Literal["pause", "resume", "stop"], by: str
    ) -> OperationView:
        """Raises OperationNotFoundError, OperationEndedError."""
        view = await self.view(operation_id)
        if view.finished_at is not None or view.state in {*_ENDED, "failed"}:
            raise OperationEndedError(view.state)
        await self._run(act, operation_id, by)
        return await self.view(operation_id)

    async def _keep(self, key: str, text: str) -> None:
        try:
            await self._client.set(key, text, ex=SELECTION_SECONDS)
        except OutOfMemoryError:
            await cast("Any", self._client.eval(_KEEP, 1, key, text, str(SELECTION_SECONDS)))

    async def aclose(self) -> None:
        await self._lane.close()

    async def _ids(self, behind: str | None, count: int) -> list[str]:
        top = "+" if behind is None else f"({behind}"
        asking = self._client.zrevrangebylex(keys.OPERATIONS, top, "-", start=0, num=count)
        return [each.decode() for each in await self._ask(asking)]

    async def _views(self, ids: Sequence[str]) -> list[OperationView]:
        """Those of them that are kept."""
        if not ids:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in ids:
                pipeline.hgetall(keys.operation(each))
                pipeline.hget(keys.job(each), "status")
                pipeline.smembers(f"{keys.operation(each)}:canary")
            rows = await self._ask(pipeline.execute())
        return [
            _view(each, facts, status, canaries)
            for each, facts, status, canaries in zip(
                ids, rows[::3], rows[1::3], rows[2::3], strict=True
            )
            if facts
        ]

    async def _run(self, act: str, operation_id: str, by: str, *arguments: Any) -> None:
        match await self._ask(
            run_script(self._lane, scripts.OPERATION, act, operation_id, by, *arguments)
        ):
            case [b"none"]:
                raise OperationNotFoundError(operation_id)
            case [b"ended", state]:
                raise OperationEndedError(state.decode())

    async def _ask(self, asking: Any) -> Any:
        return await ask(asking, self._reachability)


def _view(
    operation_id: str,
    facts: dict[bytes, bytes],
    status: bytes | None,
    canaries: Iterable[bytes],
) -> OperationView:
    def text(name: bytes) -> str:
        return facts.get(name, b"").decode("utf-8", "replace")

    def number(name: bytes) -> int:
        return int(facts.get(name, b"0"))

    state = text(b"state")
    if state not in _ENDED and status in {None, b"failed", b"canceled", b"stopped", b"finished"}:
        # Somebody has ended its job, or it could not go on.
        state = "failed" if status == b"failed" else "stopped"
    waits_for = [] if state in {*_ENDED, "failed"} else sorted(each.decode() for each in canaries)
    total, done, failed = number(b"total"), number(b"done"), number(b"failed")
    return OperationView(
        id=operation_id,
        action=text(b"action"),
        state=cast("Any", state),
        total=total,
        done=done,
        failed=failed,
        skipped=max(0, total - done - failed) if state == "finished" else 0,
        stopped_by=text(b"stopped_by") or None,
        pace=float(facts[b"pace"]) if facts.get(b"pace") else None,
        canary=text(b"canary") == "1",
        created_by=text(b"by"),
        created_at=from_us(number(b"created")),
        finished_at=from_us(number(b"finished")) if b"finished" in facts else None,
        filter=json.loads(facts.get(b"asked", b"{}")),
        queue=text(b"queue") or None,
        waits_for=waits_for,
    )
