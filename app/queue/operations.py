"""Selections of failed jobs, and operations on them: begun, watched, paused, stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, cast

import redis.asyncio as async_redis

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
from app.queue.operating import operation_draft
from app.queue.packing import pack
from app.queue.records import (
    FailureFilter,
    OperationPage,
    OperationView,
    Order,
    Selection,
    new_job_id,
)
from app.queue.verdicts import from_us

# How long what a preview has shown can be acted on.
SELECTION_SECONDS = 3600
# Jobs that a call looks at: 500 take the server about 2 ms.
_LOOKS = 500
_SAMPLES = 10
_ENDED = {"finished", "stopped"}
_CURSOR = re.compile(r"[A-Za-z0-9_-]{20,40}", re.ASCII)


class Operations:
    """Every method raises QueueUnavailableError. `by` is the acting key's name."""

    def __init__(self, client: async_redis.Redis, reachability: Reachability) -> None:
        self._client = client
        self._reachability = reachability
        self._lane = Lane(client, reachability)

    async def select(self, wanted: FailureFilter) -> Selection:
        """The failed jobs that fit now, under a name that is good for an hour."""
        frozen = await self._freeze(wanted)
        selection_id = new_job_id()
        key = keys.selection(selection_id)
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(key, to_json(frozen), ex=SELECTION_SECONDS)
            await ask(pipeline.execute(), self._reachability)
        return Selection(selection_id, frozen["count"], frozen["sample"])

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
            frozen = await self._freeze(chosen)
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
            rows = await self._ask(pipeline.execute())
        return [
            _view(each, facts, status)
            for each, facts, status in zip(ids, rows[::2], rows[1::2], strict=True)
            if facts
        ]

    async def _freeze(self, wanted: FailureFilter) -> dict[str, Any]:
        """What fits now, as it is kept: which causes, up to which failure, how many jobs."""
        before = int(await self._ask(self._client.get(keys.FAILED_SEQ)) or 0)
        causes = await self._causes(wanted)
        rest = _rest(wanted)
        frozen: dict[str, Any] = {
            "asked": _asked(wanted), "filter": rest, "before": before, "causes": causes,
        }  # fmt: skip
        if rest:
            count, sample = await self._search(causes, rest, before)
        else:
            count, sample = await self._count(causes, before)
        return frozen | {"count": count, "sample": sample}

    async def _causes(self, wanted: FailureFilter) -> list[str]:
        """Those that have failed jobs, the one that came last first."""
        if wanted.fingerprint is not None:
            causes = [wanted.fingerprint]
        else:
            found = await self._ask(self._client.zrevrange(keys.FAILURES, 0, -1))
            causes = [each.decode() for each in found]
        if wanted.type is None or not causes:
            return causes
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in causes:
                pipeline.hget(keys.failure(each), "type")
            types = await self._ask(pipeline.execute())
        wanted_type = wanted.type.encode()
        return [each for each, found in zip(causes, types, strict=True) if found == wanted_type]

    async def _count(self, causes: list[str], before: int) -> tuple[int, list[str]]:
        if not causes:
            return 0, []
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in causes:
                pipeline.zcount(keys.failure(each, ":jobs"), "-inf", before)
            counts = await self._ask(pipeline.execute())
        sample: list[str] = []
        for each in causes:
            if len(sample) >= _SAMPLES:
                break
            asking = self._client.zrevrangebyscore(
                keys.failure(each, ":jobs"), before, "-inf", start=0, num=_SAMPLES - len(sample)
            )
            sample += [job_id.decode() for job_id in await self._ask(asking)]
        return sum(counts), sample

    async def _search(
        self, causes: list[str], rest: dict[str, Any], before: int
    ) -> tuple[int, list[str]]:
        """Job by job, a few hundred at a time."""
        count, text = 0, to_json(rest)
        sample: list[str] = []
        for cause in causes:
            behind, more = b"0", 1
            while more:
                fitting, behind, more, *ids = await self._ask(
                    run_script(self._lane, scripts.SELECT, cause, text, behind, before, _LOOKS)
                )
                count += fitting
                sample += [each.decode() for each in ids[: _SAMPLES - len(sample)]]
        return count, sample

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


def _rest(wanted: FailureFilter) -> dict[str, Any]:
    """What the cause does not decide, as selection.lua reads it."""
    rest: dict[str, Any] = {
        "queue": wanted.queue,
        "error": wanted.error,
        "tag": None if wanted.tag is None else list(wanted.tag),
        "batch": wanted.batch_id,
        "created_after": _stamp(wanted.created_after),
        "created_before": _stamp(wanted.created_before),
    }
    return {name: value for name, value in rest.items() if value is not None}


def _asked(wanted: FailureFilter) -> dict[str, str]:
    """In the words of the API."""
    asked = {
        "fingerprint": wanted.fingerprint,
        "type": wanted.type,
        "queue": wanted.queue,
        "error": wanted.error,
        "tag": None if wanted.tag is None else ":".join(wanted.tag),
        "batch_id": wanted.batch_id,
        "created_after": _stamp(wanted.created_after),
        "created_before": _stamp(wanted.created_before),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _stamp(at: datetime | None) -> str | None:
    """As RQ writes times: in order as text, too."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _view(operation_id: str, facts: dict[bytes, bytes], status: bytes | None) -> OperationView:
    def text(name: bytes) -> str:
        return facts.get(name, b"").decode("utf-8", "replace")

    def number(name: bytes) -> int:
        return int(facts.get(name, b"0"))

    state = text(b"state")
    if state not in _ENDED and status in {None, b"failed", b"canceled", b"stopped", b"finished"}:
        # Somebody has ended its job, or it could not go on.
        state = "failed" if status == b"failed" else "stopped"
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
    )
