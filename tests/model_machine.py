"""What may happen to the heart, drawn at random by Hypothesis: who, what, when, how often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model_moves import ASYNC_TYPE, DEF_TYPE
from tests.model_play import BUDGETS, SECOND, Kind, Play, Player
from tests.model_world import World

T = TypeVar("T")
# Which of those that there are; the first when there are fewer.
WHICH = st.integers(0, 7)
QUEUES = st.sampled_from([("default", "default"), ("email", "default"), ("email", "high")])
ENDINGS: st.SearchStrategy[tuple[Kind, int, float]] = st.one_of(
    st.tuples(st.just("finished"), st.sampled_from([60, 0, -1, 4000]), st.just(0.0)),
    st.tuples(st.just("retry"), st.just(60), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("failed"), st.sampled_from([600, 0, -1]), st.just(0.0)),
    st.tuples(st.sampled_from(["stopped", "interrupted", "abandoned"]), st.just(60), st.just(0.0)),
)
RARELY = st.sampled_from([False, False, False, True])
SECONDS = st.sampled_from([1, 4, 9, 30, 130, 500, 1000, 4000, 90_000])


def pick(things: Sequence[T], which: int) -> T:
    return things[which % len(things)]


class Heart(RuleBasedStateMachine):
    """Each rule is one thing that a client, a worker, an operator, the clock or Redis may do."""

    world: World
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(self.world)

    @initialize()
    def somebody_works(self) -> None:
        self.play.join("default", "email.high", "email")
        self.play.join("email.high", "email")

    @property
    def players(self) -> list[Player]:
        return self.play.players

    # Clients.

    @rule(
        place=QUEUES,
        job_type=st.sampled_from([ASYNC_TYPE, DEF_TYPE]),
        when=st.sampled_from([None, None, 5.0, "past", "soon"]),
        expires=st.sampled_from([None, None, None, 3, -1]),
        slot=st.sampled_from([None, None, "one", "two"]),
        ttl=st.sampled_from([60, 0, 4000, 100_000]),
        parents=st.lists(WHICH, max_size=2),
        allow=st.booleans(),
        tags=st.sampled_from([{}, {"team": "red"}]),
        key=st.sampled_from(["", "", "k1", "k2"]),
        fingerprint=st.sampled_from(["f1", "f2"]),
        copies=st.sampled_from([1, 1, 2, 3]),
        sees_all=st.booleans(),
    )
    def submit(
        self, *, place: tuple[str, str], job_type: str, when: Any, expires: int | None,
        slot: str | None, ttl: int, parents: list[int], allow: bool, tags: dict[str, str],
        key: str, fingerprint: str, copies: int, sees_all: bool,
    ) -> None:  # fmt: skip
        known = list(self.play.known)
        options: dict[str, Any] = {
            "queue": place[0], "priority": place[1], "slot": slot, "retention_seconds": ttl,
            "allow_failure": allow, "tags": tags, "sees_all": sees_all,
            "delay_seconds": when if isinstance(when, float) else None,
            "scheduled_at": {"past": self._at(-9), "soon": self._at(9)}.get(str(when)),
            "expires_at": None if expires is None else self._at(expires),
            "depends_on": list(dict.fromkeys(pick(known, each) for each in parents if known)),
        }  # fmt: skip
        drafts = [self.play.draft(job_type, **options) for _ in range(copies)]
        self.play.submit(
            self.play.request(*drafts, is_batch=copies > 1, key=key, fingerprint=fingerprint)
        )

    @rule(key=st.sampled_from(["k1", "k2"]), text=st.sampled_from(["202", "422"]))
    def keep_answer(self, *, key: str, text: str) -> None:
        request = self.play.request(self.play.draft(), key=key, fingerprint="f1")
        self.play.do("answer", request, text)

    @rule(key=st.sampled_from(["", "k1"]), slot=st.sampled_from([None, "one"]), wait=RARELY)
    def stage_large_batch(self, *, key: str, slot: str | None, wait: bool) -> None:
        drafts = [
            self.play.draft(slot=slot, tags={"team": "blue"}, delay_seconds=5.0 if wait else None)
            for _ in range(2)
        ]
        self.play.stage(self.play.request(*drafts, is_batch=True, key=key, fingerprint="f1"))

    @precondition(lambda self: self.play.staged)
    @rule(which=WHICH)
    def commit_large_batch(self, *, which: int) -> None:
        self.play.do("commit", pick(self.play.staged, which), BUDGETS)

    @precondition(lambda self: self.play.staged)
    @rule(which=WHICH, most=st.sampled_from([1, 64]))
    def activate_large_batch(self, *, which: int, most: int) -> None:
        self.play.do("activate", pick(self.play.staged, which).batch, most)

    @precondition(lambda self: self.play.known)
    @rule(which=WHICH, act=st.sampled_from(["cancel", "cancel", "delete"]))
    def act_on_job(self, *, which: int, act: str) -> None:
        self.play.do("control", act, pick(self.play.known, which), "operator")

    @rule(queue=st.sampled_from(["email", "default"]))
    def pause_or_resume(self, *, queue: str) -> None:
        is_paused = queue in self.play.model.sets["rq:recado:paused"]
        self.play.do("control", "resume" if is_paused else "pause", queue, "operator")

    # Workers.

    @precondition(lambda self: len(self.players) < 3)
    @rule()
    def worker_joins(self) -> None:
        self.play.join("default", "email")

    @precondition(lambda self: self.players)
    @rule(
        which=WHICH,
        slots=st.sampled_from([(2, 1), (1, 0), (0, 1), (4, 4)]),
        floor=st.integers(0, 1),
        lost=RARELY,
    )
    def claim(self, *, which: int, slots: tuple[int, int], floor: int, lost: bool) -> None:
        self.play.claim(pick(self.players, which), slots, floor=floor, lost=lost)

    @precondition(lambda self: self.players)
    @rule(which=WHICH)
    def beat(self, *, which: int) -> None:
        player = pick(self.players, which)
        told = self.play.beat(player)
        if told:
            self.play.end(player, [(each, "stopped", 60, 0.0) for each in told])

    @precondition(lambda self: any(player.running for player in self.players))
    @rule(which=WHICH, how=st.lists(ENDINGS, min_size=1, max_size=3), lost=RARELY)
    def end(self, *, which: int, how: list[tuple[Kind, int, float]], lost: bool) -> None:
        player = pick([each for each in self.players if each.running], which)
        endings = zip(player.running, how, strict=False)
        self.play.end(player, [(run, *ending) for run, ending in endings], lost=lost)

    @precondition(lambda self: any(player.running for player in self.players))
    @rule(which=WHICH, current=st.integers(1, 12))
    def report_progress(self, *, which: int, current: int) -> None:
        player = pick([each for each in self.players if each.running], which)
        composite = pick(player.running, which)
        for number in range(current):
            self.play.do("progress", player.name, composite, f'{{"current":{number}}}')

    @precondition(lambda self: self.players)
    @rule(which=WHICH, politely=st.booleans())
    def worker_goes(self, *, which: int, politely: bool) -> None:
        player = pick(self.players, which)
        (self.play.leave if politely else self.play.vanish)(player)

    # Stock tools beside it all.

    @precondition(lambda self: not self.play.model.is_full)
    @rule(queue=st.sampled_from(["default", "email"]))
    def stock_producer(self, *, queue: str) -> None:
        self.play.do("stock_enqueue", queue, self.play.new_id())

    @precondition(lambda self: self.play.known and not self.play.model.is_full)
    @rule(which=WHICH, act=st.sampled_from(["requeue", "requeue", "cancel", "delete"]))
    def stock_tool_on_job(self, *, which: int, act: str) -> None:
        model = self.play.model
        known = [each for each in model.jobs.values() if model.can_touch(each)]
        if act == "requeue":
            known = [each for each in known if model.can_requeue(each)]
        elif act == "cancel":
            known = [each for each in known if each.status != "canceled"]
        if known:
            self.play.do(f"stock_{act}", pick(known, which).id)

    @precondition(lambda self: not self.play.model.is_full)
    @rule(queue=st.sampled_from(["default", "email"]))
    def stock_worker_takes_and_dies(self, *, queue: str) -> None:
        if self.play.model.can_take(queue):
            self.play.do("stock_take", queue)

    @precondition(lambda self: not self.play.model.is_full)
    @rule(queue=st.sampled_from(["default", "email"]))
    def stock_upkeep(self, *, queue: str) -> None:
        if self.play.model.can_clean(queue):
            self.play.do("stock_clean", queue)

    @precondition(lambda self: not self.play.model.is_full)
    @rule()
    def suspend_or_resume(self) -> None:
        is_suspended = "rq:suspended" in self.play.model.flags
        self.play.do("stock_resume" if is_suspended else "stock_suspend")

    # The network: any call may arrive once more, long after it was sent.

    @precondition(lambda self: self.play.sent)
    @rule(which=WHICH)
    def call_arrives_again(self, *, which: int) -> None:
        at, call = pick(self.play.sent, which)
        # A submitter's answers are kept for 300 s.
        is_recent = abs(self.play.model.now_us - at) < 200 * SECOND
        if is_recent and not call.name.startswith("stock_"):
            self.play.send(call)

    # Time, upkeep, memory.

    @rule()
    def promote(self) -> None:
        self.play.do("promote")

    @rule()
    def recover(self) -> None:
        self.play.recover()

    @rule(seconds=SECONDS)
    def nobody_looks_for_a_while(self, *, seconds: int) -> None:
        self.play.pass_time(seconds * SECOND)
        self.play.check()

    @rule(seconds=st.sampled_from([4, 12, 40]), awake=st.integers(0, 3))
    def time_passes_in_service(self, *, seconds: int, awake: int) -> None:
        awake_players = [each for n, each in enumerate(self.players) if awake >> n & 1]
        self.play.live_through(seconds, awake_players)

    @rule(seconds=st.sampled_from([1, 20, 3000]))
    def clock_is_put_back(self, *, seconds: int) -> None:
        self.play.pass_time(-seconds * SECOND)

    @rule()
    def memory_runs_out_or_comes_back(self) -> None:
        self.play.fill(not self.play.model.is_full)

    @precondition(lambda self: self.play.known)
    @rule(
        kind=st.sampled_from([
            ("status", "failed"), ("status", "scheduled"), ("error", "refused"), ("all", ""),
            ("tag", "team:red"),
        ]),
        which=st.lists(WHICH, max_size=3),
    )  # fmt: skip
    def reader_repairs(self, *, kind: tuple[str, str], which: list[int]) -> None:
        ids = [pick(self.play.known, each) for each in which]
        self.play.do("repair", *kind, ids)

    def teardown(self) -> None:
        if not self.play.has_parted:
            self.play.drain()
        type(self).steps += self.play.calls

    def _at(self, seconds: int) -> datetime:
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(microseconds=self.play.model.now_us, seconds=seconds)
