"""The loop: claim, run, end, beat; an RQ worker to RQ's tools."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis.asyncio as async_redis
from redis.exceptions import RedisError

from app.logs import event
from app.queue.artifacts import ArtifactKeeper, Workspace
from app.queue.beat import Beat, Heart, Held
from app.queue.children import Children
from app.queue.claimed import read_call
from app.queue.connection import Lane, Reachability, end_tasks
from app.queue.control import Control
from app.queue.errors import QueueUnavailableError
from app.queue.hearing import Hearing
from app.queue.identity import worker_facts, worker_name
from app.queue.lasting import keep_up
from app.queue.outcomes import Ended, Limits, outcome_of
from app.queue.progress import ProgressReporter
from app.queue.records.names import split_queue_name
from app.queue.retry import Failure
from app.queue.running import Runner
from app.queue.runs import Run, Runs
from app.queue.saving import ResultKeeper
from app.queue.suppressions import RunSuppressions
from app.queue.ticking import Ticker
from app.queue.transitions import Caretaker, Claim, Claimed, Outcome, WorkerTransitions
from app.queue.turns import Turns
from app.queue.upkeep import Upkeep
from app.queue.watch import LoopWatch
from jobs.catalog import Catalog
from jobs.context import MailSender
from jobs.errors import PermanentError
from jobs.files import Files

log = logging.getLogger("recado.worker")
T = TypeVar("T")

# A stock producer enqueues without a wake-up: look by ourselves so often, at first and later.
POLL_SECONDS = 0.125
LONGEST_POLL_SECONDS = 1.0
# How often the mail server is asked whether it lets us in; `/readyz` tells what it said.
PROBE_SECONDS = 30.0
# When a queue has paused itself, for the first time; then each time twice as long.
FIRST_PROBE_SECONDS = 2.0
# What a mail server that lets us in has mended.
MAIL_FAULTS = ("smtp_auth", "smtp_tls")
# How often an outcome is told that cannot be, for a reason that nobody foresaw.
TOLD_TIMES = 2
# Outcomes after which the job waits for another run.
AGAIN = ("retry", "postponed", "blocked")
# To hear out a claim that is under way when we are asked to leave.
CLAIM_SECONDS = 2.0
# After the grace: for ending what runs, and telling Redis.
FAREWELL_SECONDS = 5.0
# For those that were waiting for Redis, to note that they told it nothing.
GIVE_UP_SECONDS = 0.5
# To say good-bye to a Redis that may hang: our silence says the same.
DEATH_SECONDS = 2.0
# After the grace the process has gone, also if a job blocks its loop or a disk hangs: a
# platform gives 30 s after SIGTERM.
LEAVE_SECONDS = 9.0
# Its claims fail for good: whoever looks after it starts another.
BROKEN_STATUS = 1


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the settings and the command line say. `queues` are names without priority."""

    queues: Sequence[str]
    concurrency: int
    processes: int
    grace_seconds: float
    abandoned_limit: int
    retention_seconds: int
    failure_retention_seconds: int
    params_defaults: dict[str, Any] = field(default_factory=dict)
    suppression_seconds: int = 0


class Worker:
    """One worker process. `run` returns when it was asked to stop and has drained."""

    def __init__(
        self,
        client: async_redis.Redis,
        redis_url: str,
        catalog: Catalog,
        options: WorkerOptions,
        *,
        mail: MailSender,
        files: Files,
        children: Children,
        workspace: Workspace,
        artifacts: ArtifactKeeper,
        probe_mail: Callable[[], Awaitable[str | None]] | None = None,
        mail_refusal: Callable[[], str | None] | None = None,
        ticker: Ticker | None = None,
    ) -> None:
        self.name = worker_name()
        self._client = client
        self._redis_url = redis_url
        self._catalog = catalog
        self._options = options
        self._children = children
        self._reachability = Reachability()
        self._turns = Turns(options.queues)
        self._transitions = WorkerTransitions(
            client, self._reachability, name=self.name, queues=self._turns.names
        )
        self._progress = ProgressReporter(Lane(client, self._reachability), self.name)
        self._watch = LoopWatch()
        self._saver = ResultKeeper(client, self._reachability, self.name)
        self._suppressions = RunSuppressions(
            client, self._reachability, options.suppression_seconds
        )
        self._control = Control(client, self._reachability)
        self._runner = Runner(
            mail, children, options.params_defaults,
            files=files, suppressions=self._suppressions, saver=self._saver,
            workspace=workspace, artifacts=artifacts, progress=self._progress, watch=self._watch,
        )  # fmt: skip
        self._upkeep = Upkeep(
            Caretaker(
                client, self._reachability,
                abandoned_limit=options.abandoned_limit,
                failure_retention_seconds=options.failure_retention_seconds,
            ),
            ticker,
        )  # fmt: skip
        self._limits = Limits(
            options.abandoned_limit, options.retention_seconds, options.failure_retention_seconds
        )
        self._runs = Runs(options.concurrency, options.processes)
        self._process_types = [each.name for each in catalog if not each.is_async]
        self._arrived_claim = 0
        self._pause_seconds = POLL_SECONDS
        self._look = asyncio.Event()
        self._drain = asyncio.Event()
        self._hurry = asyncio.Event()
        self._grace_until = math.inf
        self._probe_mail = probe_mail
        self._mail_refusal = mail_refusal
        self._mail_report = ""
        self._probe_soon = asyncio.Event()
        self._hearing = Hearing(
            client, self._reachability, self.name, self._runs, self._turns.names,
            look=self._look.set, tend=self._upkeep.poke, shut_down=self.request_stop,
        )  # fmt: skip

    # Life

    async def run(self) -> int:
        """Work until a signal, then drain and leave. Returns the exit status."""
        self._install_signals()
        # The caller's: a `def` job should not have to wait for the first fork.
        self._children.start()
        background = [
            asyncio.create_task(keep_up("hearing", self._hearing.run)),
            asyncio.create_task(keep_up("upkeep", self._upkeep.run)),
            asyncio.create_task(keep_up("mail_watch", self._watch_mail_server)),
        ]
        self._watch.start()
        heart = Heart(self._redis_url, self.name, self._held, self._heard, self._reachability)
        try:
            if await self._unless_leaving(self._register()):
                heart.start()
                names = ",".join(self._options.queues)
                event(log, "worker_started", worker=self.name, queues=names)
                await self._claim_until_drain()
                await self._finish_runs()
            return 0
        except Exception as error:  # noqa: BLE001 - an edge: it is told, with the status
            await self._break_off(error)
            return BROKEN_STATUS
        finally:
            await self._leave(heart, background)

    def request_stop(self) -> None:
        """First: claim nothing more and drain. Again: interrupt what runs, now."""
        now = time.monotonic()
        if self._drain.is_set():
            self._grace_until = min(self._grace_until, now)
            self._hurry.set()
        else:
            self._grace_until = now + self._options.grace_seconds
        self._set_alarm()
        event(log, "worker_stopping", worker=self.name, running=len(self._runs))
        self._drain.set()
        self._look.set()

    async def _break_off(self, error: Exception) -> None:
        """It cannot go on claiming: what runs ends here first, as `death` gives it to others."""
        cause = error.__cause__ or error
        event(
            log, "worker_broke", logging.CRITICAL, worker=self.name, running=len(self._runs),
            error_class=type(cause).__name__, error=str(cause),
        )  # fmt: skip
        self._grace_until = time.monotonic()
        self._drain.set()
        self._set_alarm()
        await self._finish_runs()

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def hear(*_: Any) -> None:
            # Before the loop hears of it: a job may be holding it.
            self._set_alarm()
            loop.call_soon_threadsafe(self.request_stop)

        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, hear)

    def _set_alarm(self) -> None:
        """The kernel ends this process when it has not gone in time; its children go with it."""
        seconds = LEAVE_SECONDS
        if not self._drain.is_set():
            seconds += self._options.grace_seconds
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        if left == 0 or seconds < left:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    async def _register(self) -> bool:
        slots = self._options.concurrency + self._options.processes
        facts = await asyncio.to_thread(worker_facts)
        await self._transitions.birth(facts | {"x_slots": str(slots)})
        return True

    async def _leave(self, heart: Heart, background: list[asyncio.Task[None]]) -> None:
        heart.stop()
        self._watch.stop()
        await end_tasks(background)
        try:
            async with asyncio.timeout(DEATH_SECONDS):
                await self._transitions.death()
        except (RedisError, OSError, TimeoutError):
            pass  # our silence says the same
        except Exception:
            log.exception("death_broke")
        await self._transitions.aclose()
        for part in (self._progress, self._saver, self._suppressions, self._control):
            await part.aclose()
        self._children.close()
        event(log, "worker_stopped", worker=self.name)

    # Claiming

    async def _claim_until_drain(self) -> None:
        while not self._drain.is_set():
            self._look.clear()
            coroutines, processes = self._runs.free_slots
            if coroutines + processes == 0:
                await self._look.wait()
                continue
            look = self._turns.next()
            claim = await self._unless_leaving(
                self._transitions.claim(
                    coroutines=coroutines,
                    processes=processes,
                    queues=look.queues,
                    floor=look.floor,
                    floor_jobs=look.floor_jobs,
                    passed=look.passed,
                    process_types=self._process_types,
                )
            )
            if claim is None:
                return
            if claim.state == "register":
                await self._unless_leaving(self._register())
                continue
            self._turns.took(look, claim)
            self._take(claim)
            if claim.jobs:
                self._pause_seconds = POLL_SECONDS
            elif not claim.has_more:
                await self._wait_for_work()

    def _take(self, claim: Claim) -> None:
        for claimed in claim.jobs:
            self._begin(claimed)
        # Only now: the heart tells Redis to take back what arrived and is not held.
        self._arrived_claim = max(self._arrived_claim, claim.seq)
        for job_id in claim.dropped:
            event(log, "queue_entry_dropped", logging.WARNING, job_id=job_id)
        for job_id in claim.broken:
            event(log, "job_failed", logging.ERROR, job_id=job_id, code="broken_record")

    async def _unless_leaving(self, call: Coroutine[Any, Any, T]) -> T | None:
        """The call's answer; None when we are leaving and Redis cannot be asked any more.

        A claim under way is heard out: what it took would wait for our death otherwise.
        """
        claiming = asyncio.create_task(call)
        leaving = asyncio.create_task(self._drain.wait())
        await asyncio.wait({claiming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not claiming.done():
            self._transitions.stop_claiming = self._reachability.is_away
            hurrying = asyncio.create_task(self._hurry.wait())
            await asyncio.wait(
                {claiming, hurrying}, timeout=CLAIM_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            hurrying.cancel()
        if not claiming.done():
            claiming.cancel()
        try:
            return await claiming
        except (RedisError, OSError, asyncio.CancelledError) as error:
            if self._drain.is_set():
                return None
            raise RuntimeError("Redis refuses the call") from error

    async def _wait_for_work(self) -> None:
        """Until a wake-up, or an entry that came without one."""
        while not self._look.is_set() and not self._drain.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds):
                    await self._look.wait()
                    return
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_POLL_SECONDS)
            if await self._unless_leaving(self._transitions.has_waiting(self._turns.names)):
                return

    # Running

    def _begin(self, claimed: Claimed) -> None:
        loop = asyncio.get_running_loop()
        run = Run(claimed, loop.create_future(), loop.time(), claimed.type_name)
        try:
            run.call = read_call(claimed, self._catalog)
        except PermanentError as error:
            run.refusal = error
        else:
            run.type_name = run.call.job_type.name
            run.in_process = not run.call.job_type.is_async
        self._runs.add(run)
        run.task = asyncio.create_task(self._run(run))

    async def _run(self, run: Run) -> None:
        try:
            ended = await self._perform(run)
            outcome, answer = await self._tell(run, ended)
        except Exception as error:  # noqa: BLE001 - held, it would be `started` while we live
            # We are leaving and Redis is away, or it refuses the call. Not held any more, the
            # job goes back to its queue with the next beat, or by our silence.
            event(log, "outcome_unreported", logging.WARNING, job_id=run.claimed.id,
                  error=type(error).__name__)  # fmt: skip
            return
        finally:
            self._runs.remove(run)
        if outcome is not None and outcome.kind in AGAIN:
            self._upkeep.poke()
        if outcome is not None and outcome.kind == "blocked" and answer == "done":
            self._tell_of_pause(run, ended)
        self._log_end(run, ended, outcome.kind if outcome else "lost", answer)

    async def _tell(self, run: Run, ended: Ended) -> tuple[Outcome | None, str]:
        """What is told, and the answer. After a fault that nobody foresaw it is told again: what
        was heard the first time is late then. After another it uses up an attempt: given back as
        if it had not run, a job whose outcome cannot be told would run again for ever.
        """
        for _ in range(TOLD_TIMES):
            try:
                return await self._tell_once(run, ended)
            except (RedisError, OSError):
                raise
            except Exception as error:
                log.exception("outcome_broke", extra={"fields": self._facts(run)})
                fault = error
        return await self._tell_once(run, Ended("error", failure=Failure.of(fault), call=run.call))

    async def _tell_once(self, run: Run, ended: Ended) -> tuple[Outcome | None, str]:
        outcome = outcome_of(run.claimed, ended, self._limits, random.random)
        if outcome is None:
            return None, "late"
        return outcome, await self._transitions.end(outcome)

    async def _perform(self, run: Run) -> Ended:
        """Run the function in its slot. Whatever happens becomes an `Ended`."""
        call = run.call
        if call is None:
            assert run.refusal is not None
            return Ended.failed(run.refusal)
        try:
            if self._drain.is_set():
                # Its claim was under way when we were asked to leave: it begins elsewhere.
                return Ended("interrupted", call=call)
            event(log, "job_started", **self._facts(run))
            return await self._runner.run(run.claimed, call, run.stop)
        except Exception as error:
            log.exception("run_failed", extra={"fields": self._facts(run)})
            return Ended("error", failure=Failure.of(error), call=call)
        finally:
            self._runs.free_slot(run)
            self._look.set()

    def _facts(self, run: Run) -> dict[str, Any]:
        return {
            "job_id": run.claimed.id,
            "type": run.type_name,
            "queue": run.claimed.queue,
            "attempt": run.claimed.attempt,
            "request_id": run.claimed.text("request_id") or None,
        }

    def _log_end(self, run: Run, ended: Ended, kind: str, answer: str) -> None:
        names = dict.fromkeys(AGAIN, "job_retry_scheduled") | {"abandoned": "job_recovered"}
        name = names.get(kind, f"job_{kind}") if answer == "done" else "job_outcome_late"
        seconds = asyncio.get_running_loop().time() - run.started
        failure = ended.failure
        event(
            log, name,
            logging.INFO if failure is None or kind == "postponed" else logging.WARNING,
            **self._facts(run), duration_seconds=round(seconds, 3),
            code=failure.code if failure else None,
            error_class=failure.error_class if failure else None,
        )  # fmt: skip

    # Draining

    async def _finish_runs(self) -> None:
        """Give running jobs the grace, then interrupt them; each goes back to its queue."""
        if not await self._runs.wait(self._grace_until - time.monotonic(), self._hurry):
            self._runs.end_early("shutdown")
            farewell = self._grace_until + FAREWELL_SECONDS - time.monotonic()
            if not await self._runs.wait(farewell):
                self._transitions.give_up()
                await self._runs.wait(GIVE_UP_SECONDS)

    # Beating

    def _held(self) -> Held:
        arrived = self._arrived_claim  # before the composites, see Held
        return Held(arrived, self._runs.composites, self._mail_report or self._refused_mail())

    def _heard(self, beat: Beat) -> None:
        if beat.must_register:
            if not self._drain.is_set():
                event(log, "worker_forgotten", logging.WARNING, worker=self.name)
            self._runs.end_early("lost")
            self._look.set()
            return
        lost, stop = frozenset(beat.lost), frozenset(beat.stop)
        self._runs.end_early("lost", lambda run: run.claimed.composite in lost)
        self._runs.end_early("requested", lambda run: run.claimed.composite in stop)

    def _refused_mail(self) -> str:
        """What is wrong though we are let in."""
        return (self._mail_refusal() if self._mail_refusal is not None else None) or ""

    def _tell_of_pause(self, run: Run, ended: Ended) -> None:
        """Its queue has paused itself: look soon, and ever less often, whether it may go on."""
        if not self._probe_soon.is_set():
            queue, _ = split_queue_name(run.claimed.queue)
            code = ended.failure.code if ended.failure else None
            event(log, "queue_paused_itself", logging.ERROR, queue=queue, code=code)
        self._probe_soon.set()

    async def _watch_mail_server(self) -> None:
        pause = PROBE_SECONDS
        while self._probe_mail is not None:
            report = await self._probe_mail() or ""
            if bool(report) != bool(self._mail_report):
                name = "mail_server_unreachable" if report else "mail_server_back"
                event(log, name, logging.WARNING if report else logging.INFO)
            self._mail_report = report
            if not report:
                with contextlib.suppress(QueueUnavailableError):
                    await self._control.mend(*MAIL_FAULTS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._probe_soon.wait()
            if self._probe_soon.is_set():
                self._probe_soon.clear()
                pause = FIRST_PROBE_SECONDS
                await asyncio.sleep(pause)
            else:
                pause = min(pause * 2, PROBE_SECONDS)
