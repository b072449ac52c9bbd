"""What may happen to the heart, drawn at random by Hypothesis: who, what, when, how often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model_play import BUDGETS, SECOND, Kind, Play, Player
from tests.model_taking import ASYNC_TYPE, DEF_TYPE
from tests.model_world import World

T = TypeVar("T")
# Which of those that there are, the latest first.
WHICH = st.integers(0, 7)
QUEUES = st.sampled_from([("default", "default"), ("email", "default"), ("email", "high")])
ENDINGS: st.SearchStrategy[tuple[Kind, int, float]] = st.one_of(
    st.tuples(st.just("finished"), st.sampled_from([60, 0, -1, 4000]), st.just(0.0)),
    st.tuples(st.just("retry"), st.just(60), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("failed"), st.sampled_from([600, 0, -1]), st.just(0.0)),
    st.tuples(st.sampled_from(["stopped", "interrupted", "abandoned"]), st.just(60), st.just(0.0)),
)
OFTEN_NOT = st.sampled_from([False, False, True])
# What a reader may look through.
LISTS = [("status", "failed"), ("status", "scheduled"), ("error", "refused"), ("tag", "team:red")]


def pick(things: Sequence[T], which: int) -> T:
    return things[-1 - which % len(things)]


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
        jobs: list[dict[str, Any]] = [{}, {"slot": "one"}, {"queue": "email"}]
        for options in jobs:
            self.play.submit(self.play.request(self.play.draft(**options)))

    @property
    def players(self) -> list[Player]:
        return self.play.players

    # Clients.

    @rule(
        place=QUEUES,
        job_type=st.sampled_from([ASYNC_TYPE, DEF_TYPE]),
        when=st.sampled_from([None, None, 5.0, "past", "soon"]),
        expires=st.sampled_from([None, None, None, 3, 30, -1]),
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

    @rule(
        stages=st.sampled_from(["s", "c", "a", "sc", "ca", "sca"]),
        key=st.sampled_from(["", "k1"]),
        slot=st.sampled_from([None, "one"]),
        delay=st.sampled_from([None, None, 5.0]),
        which=WHICH,
        most=st.sampled_from([1, 64]),
    )
    def large_batch(
        self, *, stages: str, key: str, slot: str | None, delay: float | None, which: int, most: int
    ) -> None:
        """Staged, committed, activated: all at once, or one of it now."""
        play = self.play
        if "s" in stages or not play.staged:
            options: dict[str, Any] = {"slot": slot, "delay_seconds": delay}
            drafts = [play.draft(tags={"team": "blue"}, **options) for _ in range(2)]
            play.stage(play.request(*drafts, is_batch=True, key=key, fingerprint="f1"))
            which = 0
        if "c" in stages:
            play.do("commit", pick(play.staged, which), BUDGETS)
        if "a" in stages:
            play.do("activate", pick(play.staged, which).batch, most)

    @rule(which=WHICH, act=st.sampled_from(["cancel", "cancel", "cancel", "delete", "retry"]))
    def act_on_job(self, *, which: int, act: str) -> None:
        if act == "retry":
            jobs = [each for each in self.play.model.jobs.values() if each.type]
            failed = [each for each in jobs if each.status in {"failed", "stopped"}]
            if jobs:
                self.play.do("retry", pick(failed or jobs, which).id, "operator")
            return
        self.play.do("control", act, pick(self.play.known, which), "operator")

    @rule(
        what=st.sampled_from(["pause", "answer", "repair", "suspend"]),
        queue=st.sampled_from(["email", "default"]),
        kind=st.sampled_from(LISTS),
        which=st.lists(WHICH, min_size=1, max_size=3),
    )
    def small_things(
        self, *, what: str, queue: str, kind: tuple[str, str], which: list[int]
    ) -> None:
        play, model = self.play, self.play.model
        if what == "pause":
            act = "resume" if queue in model.sets["rq:recado:paused"] else "pause"
            play.do("control", act, queue, "operator")
        elif what == "answer":
            play.do("answer", play.request(play.draft(), key="k1", fingerprint="f1"), "202")
        elif what == "repair":
            ids = [pick(play.known, each) for each in which]
            play.do("repair", *kind, [play.listed_as(each) for each in ids])
        elif not model.is_full:
            play.do("stock_resume" if "rq:suspended" in model.flags else "stock_suspend")

    # Workers.

    @precondition(lambda self: self.players)
    @rule(
        which=WHICH,
        slots=st.sampled_from([(2, 1), (1, 0), (0, 1), (4, 4)]),
        floor=st.integers(0, 1),
        lost=OFTEN_NOT,
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

    @precondition(lambda self: self.players)
    @rule(which=WHICH, how=ENDINGS, slots=st.sampled_from([(2, 1), (1, 1)]))
    def run(self, *, which: int, how: tuple[Kind, int, float], slots: tuple[int, int]) -> None:
        """What most calls are about: a job is taken, and ends."""
        player = pick(self.players, which)
        self.play.claim(player, slots)
        if player.running:
            self.play.end(player, [(player.running[0], *how)])

    @precondition(lambda self: any(player.running for player in self.players))
    @rule(which=WHICH, how=st.lists(ENDINGS, min_size=1, max_size=3), lost=OFTEN_NOT)
    def end(self, *, which: int, how: list[tuple[Kind, int, float]], lost: bool) -> None:
        player = pick([each for each in self.players if each.running], which)
        endings = zip(player.running, how, strict=False)
        self.play.end(player, [(run, *ending) for run, ending in endings], lost=lost)

    @precondition(lambda self: any(player.running for player in self.players))
    @rule(which=WHICH, current=st.sampled_from([1, 1, 1, 12]))
    def report_progress(self, *, which: int, current: int) -> None:
        player = pick([each for each in self.players if each.running], which)
        composite = pick(player.running, which)
        for number in range(current):
            self.play.do("progress", player.name, composite, f'{{"current":{number}}}')

    @precondition(lambda self: any(player.running for player in self.players))
    @rule(which=WHICH, queue=st.sampled_from(["default", "email"]), text=st.sampled_from("12"))
    def save(self, *, which: int, queue: str, text: str) -> None:
        """Mostly of a job of that queue."""
        player = pick([each for each in self.players if each.running], which)
        self.play.do("save", player.name, pick(player.running, which), queue, text)

    @rule(which=WHICH, how=st.sampled_from(["joins", "leaves", "vanishes"]))
    def worker_comes_or_goes(self, *, which: int, how: str) -> None:
        if how == "joins" or not self.players:
            self.play.join("default", "email.high", "email")
        elif how == "leaves":
            self.play.leave(pick(self.players, which))
        else:
            self.play.vanish(pick(self.players, which))

    # Stock tools beside it all.

    @precondition(lambda self: not self.play.model.is_full)
    @rule(
        act=st.sampled_from(["enqueue", "requeue", "requeue", "cancel", "delete", "take", "clean"]),
        queue=st.sampled_from(["default", "email"]),
        which=WHICH,
    )
    def stock_tool(self, *, act: str, queue: str, which: int) -> None:
        play, model = self.play, self.play.model
        jobs = [each for each in model.jobs.values() if model.can_touch(each)]
        if act == "requeue":
            jobs = [each for each in jobs if model.can_requeue(each)]
        elif act == "cancel":
            jobs = [each for each in jobs if each.status != "canceled"]
        if act in {"cancel", "delete"}:
            jobs = [each for each in jobs if each.status == "started"] or jobs
        if act == "enqueue":
            play.do("stock_enqueue", queue, play.new_id("-stock"))
        elif (act == "take" and model.can_take(queue)) or (
            act == "clean" and model.can_clean(queue)
        ):
            play.do(f"stock_{act}", queue)
        elif act in {"requeue", "cancel", "delete"} and jobs:
            play.do(f"stock_{act}", pick(jobs, which).id)

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

    @rule(seconds=st.sampled_from([0, 4, 12, 40]), awake=st.integers(0, 3))
    def time_passes_in_service(self, *, seconds: int, awake: int) -> None:
        awake_players = [each for n, each in enumerate(self.players) if awake >> n & 1]
        self.play.live_through(seconds, awake_players)
        self.play.do("promote")
        self.play.recover()

    @rule(
        what=st.sampled_from(["away", "away", "away", "back", "full"]),
        seconds=st.sampled_from([1, 4, 9, 30, 130, 500, 1000, 4000, 90_000]),
    )
    def time_or_memory_goes_wrong(self, *, what: str, seconds: int) -> None:
        """Nobody looks for a while, the clock is put back, or memory runs out, or comes back."""
        if what == "full":
            self.play.fill(not self.play.model.is_full)
            return
        self.play.pass_time((seconds if what == "away" else -min(seconds, 3000)) * SECOND)
        self.play.check()

    def teardown(self) -> None:
        if not self.play.has_parted:
            self.play.drain()
        type(self).steps += self.play.calls

    def _at(self, seconds: int) -> datetime:
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(microseconds=self.play.model.now_us, seconds=seconds)
