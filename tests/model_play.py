"""The model and the server side by side: each move is made on both, and they must agree.

Here is also what clients and workers know of themselves: numbers of calls, which answers came,
and what a worker thinks that it runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.queue.records.drafts import JobDraft
from app.queue.records.options import Concurrency
from app.queue.transitions import Outcome
from jobs.catalog import Backoff
from tests.model_check import broken_promises, differences
from tests.model_new import Request
from tests.model_records import ENDED, Job
from tests.model_stock import StockModel
from tests.model_taking import ASYNC_TYPE
from tests.model_world import Call, World

SECOND = 10**6
BEGIN_US = 1_800_000_000 * SECOND
BUDGETS = (8, 10**9)
Kind = Literal["finished", "retry", "failed", "stopped", "interrupted", "abandoned"]
_REFUSED = json.dumps({"code": "refused", "fingerprint": "0123456789abcdef"})


@dataclass
class Player:
    """A worker as it sees itself. An unanswered call is sent again until it is answered."""

    name: str
    queues: list[str]
    arrived: int = 0
    seq: int = 0
    end_seq: int = 0
    running: list[str] = field(default_factory=list)
    unanswered_claim: Call | None = None
    unanswered_end: Call | None = None


class Play:
    """One example. `calls` counts what was done on the server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = StockModel(BEGIN_US)
        self.world.begin(BEGIN_US)
        self.players: list[Player] = []
        self.sent: list[tuple[int, Call]] = []
        self.staged: list[Request] = []
        self.known: list[str] = []
        self.calls = 0
        self.has_parted = False
        self._furthest_us = BEGIN_US
        self._numbers = 0
        self._submit_seq = 0

    # One call, on both.

    def do(self, name: str, *arguments: Any) -> Any:
        call = Call(name, arguments)
        answer = self.send(call)
        self.sent = [*self.sent[-7:], (self.model.now_us, call)]
        return answer

    def send(self, call: Call) -> Any:
        self.pass_time(1000)
        self.calls += 1
        answer = self.world.do(call)
        expected = getattr(self.model, call.name)(*call.arguments)
        wrong = [] if answer == expected else [f"{call.name} answered {answer}, not {expected}"]
        self.check(wrong)
        return answer

    def check(self, wrong: Sequence[str] = ()) -> None:
        """Both hold the same, and nothing that they must never hold."""
        found = [
            *wrong,
            *differences(self.model, self.world.stored()),
            *broken_promises(self.model),
        ]
        # From here on one error follows from another.
        self.has_parted = bool(found)
        assert not found, "\n".join(found)

    def pass_time(self, microseconds: int) -> None:
        self.world.pass_time(microseconds)
        self.model.pass_time(microseconds)
        self._furthest_us = max(self._furthest_us, self.model.now_us)

    def fill(self, is_full: bool) -> None:
        self.world.fill(is_full)
        self.model.is_full = is_full

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    # Clients.

    def draft(self, job_type: str = ASYNC_TYPE, **changes: Any) -> JobDraft:
        slot = changes.pop("slot", None)
        options: dict[str, Any] = {
            "queue": "default", "retention_seconds": 60, "failure_retention_seconds": 600,
        }  # fmt: skip
        job_id = self.new_id()
        return JobDraft(
            id=job_id, type=job_type, params={}, max_attempts=3, timeout_seconds=30,
            backoff=Backoff(initial=1, factor=1, maximum=1, jitter=0), submitted_by="shop",
            request_id="r",
            concurrency=None if slot is None else Concurrency(slot, 1 if slot == "one" else 2),
            **(options | changes),
        )  # fmt: skip

    def new_id(self, by: str = "") -> str:
        job_id = f"{self.model.now_us:013x}{self.number():022x}{by}"
        self.known.append(job_id)
        return job_id

    def request(self, *drafts: JobDraft, is_batch: bool = False, **heading: str) -> Request:
        batch = f"{self.model.now_us:013x}{self.number():022x}" if is_batch else ""
        for each in drafts:
            each.batch_id = batch or None
        return Request(drafts, batch, **heading)

    def submit(self, *requests: Request) -> Any:
        self._submit_seq += 1
        return self.do("submit", "web", self._submit_seq, BUDGETS, list(requests))

    def stage(self, request: Request) -> None:
        self.do("stage", request)
        self.staged = [*self.staged[-2:], request]

    # Workers.

    def join(self, *queues: str) -> Player:
        number = self.number()
        player = Player(f"host.{number}.{number:010x}", list(queues))
        self.players.append(player)
        self.do("birth", player.name, player.queues)
        return player

    def leave(self, player: Player) -> None:
        self.do("death", player.name)
        self.players.remove(player)

    def vanish(self, player: Player) -> None:
        """SIGKILL: it says nothing more."""
        self.players.remove(player)

    def claim(
        self, player: Player, slots: tuple[int, int] = (2, 1), *, floor: int = 0, lost: bool = False
    ) -> None:
        call = player.unanswered_claim
        if call is None:
            player.seq += 1
            arguments = (player.name, player.seq, slots, player.queues, floor)
            call = Call("claim", arguments)
        answer = self.do(call.name, *call.arguments)
        player.unanswered_claim = call if lost else None
        if lost:
            return
        player.arrived = call.arguments[1]
        if answer[0] == "register":
            self.do("birth", player.name, player.queues)
        elif answer[0] == "ok":
            player.running += answer[1]
            self._adopt([each.partition(":")[0] for each in answer[1]])

    def beat(self, player: Player) -> list[str]:
        """What it is to stop."""
        answer = self.do("beat", player.name, player.arrived, tuple(player.running))
        if answer[0] == "register":
            self.do("birth", player.name, player.queues)
            return []
        player.running = [each for each in player.running if each not in answer[1]]
        return list(answer[2])

    def end(
        self, player: Player, endings: Sequence[tuple[str, Kind, int, float]], *, lost: bool = False
    ) -> list[str]:
        """Endings are what it runs, how that ended, retention and delay."""
        call = player.unanswered_end
        if call is None:
            player.end_seq += 1
            outcomes = [self._outcome(*each) for each in endings]
            call = Call("end", (player.name, player.end_seq, outcomes))
        answer: list[str] = self.do(call.name, *call.arguments)
        player.unanswered_end = call if lost else None
        if not lost:
            over = {f"{each.id}:{each.execution}" for each in call.arguments[2]}
            player.running = [each for each in player.running if each not in over]
        return answer

    def _outcome(self, composite: str, kind: Kind, ttl: int, delay: float) -> Outcome:
        job_id, _, ex = composite.partition(":")
        job = self.model.jobs.get(job_id)
        error = "" if kind in {"finished", "interrupted", "abandoned"} else _REFUSED
        return Outcome(
            job_id, ex, "default" if job is None else job.queue, kind, ttl,
            delay_seconds=delay, error_json=error,
            # Its last word, which may still be untold.
            progress_json='{"current":2}' if kind in {"finished", "failed"} else "",
        )  # fmt: skip

    # Time and upkeep.

    def live_through(self, seconds: int, awake: Sequence[Player] = ()) -> None:
        """As it goes in service: upkeep often, beats of who is awake, time in small pieces."""
        for _ in range(0, seconds, 4):
            self.pass_time(min(4, seconds) * SECOND)
            for player in awake:
                self.beat(player)
            self.do("promote")
            self.recover()

    def recover(self) -> None:
        _, _, activating, strangers = self.do("recover")
        self._adopt(strangers)
        for batch in activating:
            self.do("activate", batch, 64)

    def _adopt(self, ids: Sequence[str]) -> None:
        """Whoever sees a stock producer's job says what it is, once."""
        jobs = [self.model.jobs[job_id] for job_id in ids if job_id in self.model.jobs]
        named = [(job.id, ASYNC_TYPE) for job in jobs if not (job.type or job.stock_type)]
        if named:
            self.do("adopt", named)

    def listed_as(self, job_id: str) -> str:
        job = self.model.jobs.get(job_id)
        return job.entry if job is not None and job.entry else job_id

    # The end.

    def drain(self) -> None:
        """Everything that was accepted ends, and is forgotten when its retention is over."""
        self.fill(False)
        self.do("stock_resume")
        # A clock that was put back: what was due by the old one is due by then.
        self.pass_time(self._furthest_us - self.model.now_us)
        for queue in list(self.model.sets["rq:recado:paused"]):
            self.do("control", "resume", queue, "shop")
        for player in list(self.players):
            self.leave(player)
        player = self.join("email.high", "email", "default")
        for _ in range(40):
            self.live_through(4, [player])
            self.claim(player, (20, 20))
            if player.running:
                self.end(player, [(each, "finished", 60, 0) for each in player.running])
            elif not self._unended():
                break
        self.leave(player)
        self._forget()

    def _unended(self) -> list[Job]:
        """What was accepted: a record that is staged and not committed is no job."""
        return [
            job
            for job in self.model.jobs.values()
            if job.status not in ENDED and (job.status is not None or job.batch)
        ]

    def _forget(self) -> None:
        assert not self._unended(), f"never ended: {self._unended()}"
        self.live_through(16)
        for hours in (2, 30, 40 * 24):
            self.pass_time(hours * 3600 * SECOND)
            self.do("promote")
            self.recover()
            self.recover()
        for job_id in list(self.model.jobs):
            self.do("control", "delete", job_id, "shop")  # kept for ever
        # A stock producer's job is in few lists, where whoever reads finds that it is gone.
        for key in [key for key in self.model.sets if key.startswith("rq:recado:i:")]:
            kind, _, value = key.removeprefix("rq:recado:i:").partition(":")
            self.do("repair", kind, value, list(self.model.sets[key]))
        remembered = ("rq:recado:failure:", "rq:recado:cleared", "rq:recado:audit", _COUNTS)
        left = {
            key
            for key in set(self.world.stored()) - _EVER
            if not key.startswith(remembered) or key.endswith(":jobs")
        }
        assert not left, f"never forgotten: {sorted(left)}"


# For ever, and by the minute for an hour.
_COUNTS = "rq:recado:counts"
_EVER = {
    "rq:queues", "rq:recado:indexes", "rq:recado:recovered_at", "rq:recado:sweep_at",
    "rq:recado:upkeep_at", "rq:recado:walk_at", "rq:recado:bytes", "rq:recado:failed_seq",
}  # fmt: skip
