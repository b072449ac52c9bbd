"""The real scripts on a real server, one call at a time, and what the server then holds.

Time stands still but when a test moves it: of each script exactly one line is replaced, that
which asks for the time. What expires by the server's own clock is moved with it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import OutOfMemoryError

from app.queue import scripts
from app.queue.asked import Group, plain_arguments, submit_arguments
from app.queue.calling import BROKEN_EXC
from app.queue.keys import PREFIX
from app.queue.packing import pack
from app.queue.records.drafts import Idempotency
from app.queue.transitions import UPKEEP_MS, Outcome, beat_arguments, claim_arguments
from tests.model_new import Request
from tests.model_stock import StockTools
from tests.model_taking import DEF_TYPE
from tests.model_upkeep import ABANDONED_LIMIT, FAILURE_TTL, SILENCE_MS

_ASKED = b"redis.call('TIME')"
_TOLD = b"redis.call('LRANGE', 'model:clock', 0, 1)"
# Every key with its kind, what it holds, and when it expires.
_DUMP = """
local out = {}
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  string = function(key) return { redis.call('GET', key) } end,
  stream = function(key) return { tostring(redis.call('XLEN', key)) } end,
}
for _, key in ipairs(redis.call('KEYS', 'rq:*')) do
  local kind = redis.call('TYPE', key).ok
  out[#out + 1] = { key, kind, redis.call('PEXPIRETIME', key), read[kind](key) }
end
return out
"""
# Seconds, microseconds, then key and new time of expiry, pairs; in the past: the key goes.
_MOVE_TIME = """
redis.call('DEL', 'model:clock')
redis.call('RPUSH', 'model:clock', ARGV[1], ARGV[2])
for i = 3, #ARGV, 2 do redis.call('PEXPIREAT', ARGV[i], ARGV[i + 1]) end
"""
# The real time that one example may take before the server forgets by itself.
_PAD_MS = 3_600_000


@dataclass(frozen=True)
class Call:
    """One call of a script, or one act of a stock tool, with what the model calls it by."""

    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A key as the server holds it. `expires_ms`: a span, as the server's clock did not stop."""

    kind: str
    value: Any
    expires_ms: tuple[int, int] | None


class World:
    """One server, emptied for each example."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(
            url, decode_responses=True, encoding_errors="replace"
        )
        self._digests = {
            name.lower(): self.redis.script_load(_with_told_time(script))
            for name, script in vars(scripts).items()
            if isinstance(script, scripts.Script)
        }
        self.stock = StockTools(url)
        self._dump = self.redis.script_load(_DUMP)
        self._move_time = self.redis.script_load(_MOVE_TIME)

    def begin(self, now_us: int) -> None:
        self.redis.config_set("maxmemory", 0)
        self.redis.flushall()
        self._expiries: dict[str, tuple[int, tuple[int, int]]] = {}
        self._now_us = now_us
        self.pass_time(0)

    def pass_time(self, microseconds: int) -> None:
        """Also backwards. What is due to be forgotten by then is."""
        self._now_us += microseconds
        real_ms = time.time_ns() // 1_000_000
        shifted: list[Any] = []
        for key, (_, span) in self._expiries.items():
            left = span[1] - self._now_us // 1000
            at = real_ms + left + _PAD_MS if left > 0 else 1
            shifted += [key, at]
            self._expiries[key] = (at, span)
        told = divmod(self._now_us, 10**6)
        self.redis.evalsha(self._move_time, 0, *told, *shifted)

    def fill(self, is_full: bool) -> None:
        self.redis.config_set("maxmemory", 1 if is_full else 0)

    def do(self, call: Call) -> Any:
        """What the script answers, in the model's words."""
        self._began_ms = time.time_ns() // 1_000_000
        if call.name.startswith("stock_"):
            self.stock.do(call.name, self._now_us, *call.arguments)
            return None
        if call.name == "submit":
            return self._submit(*call.arguments)
        arguments = getattr(self, f"_{call.name}_arguments")(*call.arguments)
        answer = self._run(call.name, *arguments)
        read = getattr(self, f"_read_{call.name}", None)
        return answer if read is None or answer == "OOM" else read(answer)

    def _run(self, name: str, *arguments: Any) -> Any:
        try:
            return self.redis.evalsha(self._digests[name], 0, PREFIX, *arguments)
        except OutOfMemoryError:
            return "OOM"

    def stored(self) -> dict[str, Stored]:
        ended_ms = time.time_ns() // 1_000_000 + 1
        found = {}
        expiries = {}
        for key, kind, at, value in self.redis.evalsha(self._dump, 0):
            span = None
            if at >= 0:
                span = self._span(key, at, ended_ms)
                expiries[key] = (at, span)
            found[key] = Stored(kind, _paired(kind, value), span)
        self._expiries = expiries
        return found

    def _span(self, key: str, at: int, ended_ms: int) -> tuple[int, int]:
        """When the key expires by the time that is told, at the earliest and at the latest."""
        known = self._expiries.get(key)
        if known is not None and known[0] == at:
            return known[1]
        now_ms = self._now_us // 1000
        least, most = at - ended_ms, at - self._began_ms
        # All times to live are whole seconds: however slow this machine, mostly one fits.
        whole = range(-(-least // 1000) * 1000, most + 1, 1000)
        if whole:
            least, most = whole[0], whole[-1]
        return now_ms + least, now_ms + most

    # Arguments, by the service's own packers wherever it has them.

    def _birth_arguments(self, worker: str, queues: list[str]) -> list[Any]:
        return [worker, 480, ",".join(queues), "pid", "1"]

    def _death_arguments(self, worker: str) -> list[Any]:
        return [worker]

    def _submit(
        self, submitter: str, seq: int, budgets: tuple[int, int], requests: Sequence[Request]
    ) -> Any:
        """As the service does: the quick way where it will do, else the long one."""
        groups = [_group(request) for request in requests]
        heading = [submitter, seq, *budgets]
        plain = plain_arguments(groups)
        answer = None if plain is None else self._run("submit_plain", *heading, *plain)
        if answer is None:
            answer = self._run("submit", *heading, *submit_arguments(groups))
        if answer != "OOM" and isinstance(answer[1], int):
            answer = [answer[0], [[1, "queued"]] * answer[1]]
        return answer

    def _stage_arguments(self, request: Request) -> list[Any]:
        records = [pack(draft).record(request.batch) for draft in request.drafts]
        return [60, len(records), *(part for record in records for part in record)]

    def _commit_arguments(self, request: Request, budgets: tuple[int, int]) -> list[Any]:
        group, ids = _group(request), [draft.id for draft in request.drafts]
        return [*budgets, *group.batch_heading(), *group.heading(), *ids]

    def _answer_arguments(self, request: Request, text: str) -> list[Any]:
        return [request.key_id, request.fingerprint, text]

    def _activate_arguments(self, batch: str, most: int) -> list[Any]:
        return [batch, most, BROKEN_EXC]

    def _claim_arguments(
        self, worker: str, seq: int, slots: tuple[int, int], queues: list[str], floor: int
    ) -> list[Any]:
        return claim_arguments(
            worker, seq,
            coroutines=slots[0], processes=slots[1], queues=queues, process_types=[DEF_TYPE],
            floor=floor, floor_jobs=1,
        )  # fmt: skip

    def _read_claim(self, answer: Any) -> Any:
        if answer[0] != "ok":
            return answer
        return ["ok", sorted(f"{job[0]}:{job[1]}" for job in answer[1]), *answer[2:4]]

    def _beat_arguments(self, worker: str, arrived: int, known: Sequence[str]) -> list[Any]:
        return beat_arguments(worker, arrived, "", known)[1:]

    def _progress_arguments(self, worker: str, composite: str, text: str) -> list[Any]:
        job_id, _, ex = composite.partition(":")
        return [worker, 1, job_id, ex, text]

    def _save_arguments(self, worker: str, composite: str, queue: str, text: str) -> list[Any]:
        job_id, _, ex = composite.partition(":")
        return [worker, 1, job_id, ex, queue, text]

    def _end_arguments(self, worker: str, seq: int, outcomes: Sequence[Outcome]) -> list[Any]:
        told = [part for outcome in outcomes for part in outcome.arguments()]
        return [worker, seq, BROKEN_EXC, len(outcomes), *told]

    def _control_arguments(self, act: str, target: str, by: str) -> list[Any]:
        return [act, target, by]

    def _retry_arguments(self, job_id: str, by: str) -> list[Any]:
        return [by, job_id, 10**6, 10**12, ""]

    def _promote_arguments(self) -> list[Any]:
        return [200, BROKEN_EXC]

    def _read_promote(self, answer: Any) -> Any:
        return [job[0] for job in answer[2]]

    def _recover_arguments(self) -> list[Any]:
        return [SILENCE_MS, ABANDONED_LIMIT, FAILURE_TTL, BROKEN_EXC, UPKEEP_MS]

    def _read_recover(self, answer: Any) -> Any:
        fates = sorted((fate[0], fate[4]) for fate in answer[2])
        return [answer[0], fates, sorted(answer[3]), sorted(each[0] for each in answer[4])]

    def _adopt_arguments(self, named: Sequence[tuple[str, str]]) -> list[Any]:
        return [part for each in named for part in each]

    def _repair_arguments(self, kind: str, value: str, ids: Sequence[str]) -> list[Any]:
        return [kind, value, *ids]

    def close(self) -> None:
        self.redis.config_set("maxmemory", 0)
        self.redis.close()
        self.stock.close()


def _group(request: Request) -> Group:
    key = Idempotency(request.key, request.fingerprint) if request.key else None
    return Group([pack(draft) for draft in request.drafts], request.batch, key, since=0.0)


def _with_told_time(script: scripts.Script) -> bytes:
    assert script.source.count(_ASKED) == 1, f"{script.name} asks for the time elsewhere too"
    return script.source.replace(_ASKED, _TOLD)


def _paired(kind: str, value: Any) -> Any:
    if kind == "hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == "zset":
        scores = (math.inf if each == "inf" else float(each) for each in value[1::2])
        return dict(zip(value[::2], scores, strict=True))
    return value


def words_of(trail: str) -> list[str]:
    """The words of a trail, which attempt began, and where somebody retried the job."""
    words = []
    for line in trail.splitlines():
        _, _, word, *detail = json.loads(line)
        if word == "started":
            word = f"started {detail[0]['attempt']}"
        elif detail and "retried" in detail[0]:
            word = "retried"
        words.append(word)
    return words
