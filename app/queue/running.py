"""Running one call, as a coroutine or in a child process, within its time."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from app.logs import event
from app.queue.artifacts import ArtifactKeeper, Workspace
from app.queue.child import cpu_limit_seconds
from app.queue.children import (
    ChildDiedError,
    ChildKilledError,
    ChildOutOfMemoryError,
    Children,
)
from app.queue.claimed import Call
from app.queue.lending import lend
from app.queue.outcomes import Ended
from app.queue.perform import check_result, validate
from app.queue.progress import ProgressReporter
from app.queue.retry import Failure
from app.queue.saving import ResultKeeper
from app.queue.transitions import Claimed
from app.queue.watch import HeldTooLongError, LoopWatch
from app.storage import StorageError
from jobs.context import Artifact, JobContext, MailSender, Suppressions
from jobs.errors import PermanentError
from jobs.files import Files

log = logging.getLogger("recado.worker")

# A coroutine that was cancelled has so long to put its things away: when the worker leaves,
# and when somebody waits to see that it has ended.
LEAVE_SECONDS = 3.0
CANCEL_SECONDS = 0.5
# For a child to have its job in hand, which waits for a nursery that is only loading; counts
# beside the job's time-out, not in it.
BEGIN_SECONDS = 60.0
# For storing what a job has written; counts beside its time-out, not in it.
KEEP_SECONDS = 300.0
# How a process ends that its own code has wrecked.
_CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV}


class Runner:
    """Runs calls for a worker. `defaults` is what params may fall back to."""

    def __init__(
        self,
        mail: MailSender,
        children: Children,
        defaults: dict[str, Any],
        *,
        files: Files,
        suppressions: Suppressions,
        saver: ResultKeeper,
        workspace: Workspace,
        artifacts: ArtifactKeeper,
        progress: ProgressReporter,
        watch: LoopWatch,
    ) -> None:
        self._mail = mail
        self._files = files
        self._suppressions = suppressions
        self._saver = saver
        self._watch = watch
        self._progress = progress
        self._children = children
        self._defaults = defaults
        self._workspace = workspace
        self._artifacts = artifacts

    async def run(self, claimed: Claimed, call: Call, stop: asyncio.Future[str]) -> Ended:
        """Run to the end, to the time-out, or until `stop` says why to end early.

        A result comes with its artifacts stored; the run's folder is gone, whatever happened.
        """
        folder = self._workspace.folder_of(claimed.execution)
        try:
            ended = await self._run(claimed, call, folder, stop)
            # A job that is not kept needs no artifacts: nobody could ask for them.
            if ended.declared and claimed.number("result_ttl", -1) != 0:
                ended = await self._keep(claimed, ended, folder, stop)
            return replace(ended, progress=self._progress.take(claimed))
        finally:
            self._progress.take(claimed)
            await self._workspace.remove(folder)

    async def _run(
        self, claimed: Claimed, call: Call, folder: Path, stop: asyncio.Future[str]
    ) -> Ended:
        if call.job_type.is_async:
            task = asyncio.create_task(self._in_loop(claimed, call, folder))
        else:
            began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._in_process(claimed, call, folder, began))
            await _first_of(BEGIN_SECONDS, task, stop, began)
        await _first_of(call.timeout_seconds, task, stop)
        if task.done():
            return _result_of(task, call)
        why = stop.result() if stop.done() else "timeout"
        task.cancel()
        await asyncio.wait({task}, timeout=LEAVE_SECONDS if why == "shutdown" else CANCEL_SECONDS)
        if not task.done():
            event(log, "job_ignores_cancel", logging.ERROR, job_id=claimed.id)
        if task.done() and not task.cancelled() and task.result().kind == "result":
            return task.result()  # it was done after all
        return _ended_early(call, why)

    async def _keep(
        self, claimed: Claimed, ended: Ended, folder: Path, stop: asyncio.Future[str]
    ) -> Ended:
        """The same result with its artifacts in storage, or why there is none after all."""
        assert ended.call is not None
        keeping = asyncio.create_task(
            self._artifacts.keep(claimed.id, claimed.attempt, folder, ended.declared)
        )
        watched: set[asyncio.Future[Any]] = {keeping, stop}
        await asyncio.wait(watched, timeout=KEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not keeping.done():
            keeping.cancel()
            await asyncio.wait({keeping}, timeout=CANCEL_SECONDS)
            if stop.done():
                return _ended_early(ended.call, stop.result())
            return _not_stored(ended.call, StorageError("storing the artifacts took too long"))
        if keeping.cancelled():
            return _not_stored(ended.call, StorageError("storing the artifacts was cut short"))
        try:
            return replace(ended, artifacts=keeping.result())
        except PermanentError as error:
            return Ended("error", failure=Failure.of(error), call=ended.call)
        except StorageError as error:
            return _not_stored(ended.call, error)

    async def _in_loop(self, claimed: Claimed, call: Call, folder: Path) -> Ended:
        try:
            params = validate(call.job_type, call.params, self._defaults)
            context = JobContext(
                **context_fields(claimed, call, folder),
                mail=self._mail,
                files=self._files,
                suppressions=self._suppressions,
                save_result=partial(self._saver.save, claimed),
                report_progress=partial(self._progress.note, claimed),
            )
            function = call.job_type.function
            with self._watch.watching(claimed.id, function, call.timeout_seconds):
                value = check_result(await function(params, context))
            return Ended("result", value=value, call=call, declared=context.artifacts)
        except asyncio.CancelledError:
            raise
        except HeldTooLongError:
            return _ended_early(call, "timeout")
        except BaseException as error:  # noqa: BLE001
            # Whatever a job raises is its outcome; SystemExit would end the whole worker, and
            # a BaseException of its own (a test library's `fail`, say) leave the job started.
            return Ended("error", failure=Failure.of(error, call.job_type), call=call)

    async def _in_process(
        self, claimed: Claimed, call: Call, folder: Path, began: asyncio.Future[None]
    ) -> Ended:
        order = {
            "type": call.job_type.name,
            "params": call.params,
            "context": context_fields(claimed, call, folder),
        }
        asked_at = time.monotonic()
        try:
            frame = await self._children.run(
                order,
                partial(_tell, began),
                partial(self._hear_progress, claimed),
                partial(lend, self._files, folder),
            )
        except ChildKilledError:
            return Ended("abandoned", call=call)
        except ChildOutOfMemoryError:
            return _out_of_memory(call)
        except ChildDiedError as error:
            return _died(call, error, time.monotonic() - asked_at)
        if frame["kind"] == "result":
            declared = [Artifact(name, kind) for name, kind in frame["artifacts"]]
            return Ended("result", value=frame["value"], call=call, declared=declared)
        return Ended("error", failure=Failure.described(frame), call=call)

    def _hear_progress(self, claimed: Claimed, frame: dict[str, Any]) -> None:
        self._progress.note(
            claimed, frame["current"], frame["total"], str(frame["unit"]), str(frame["message"])
        )


async def _first_of(seconds: float, *awaited: asyncio.Future[Any]) -> None:
    """Return when one is done or the time is up: `asyncio.wait`, at half of what it costs."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    end = partial(_tell, over)
    timer = loop.call_later(seconds, end)
    for each in awaited:
        each.add_done_callback(end)
    try:
        await over
    finally:
        timer.cancel()
        for each in awaited:
            each.remove_done_callback(end)


def _tell(future: asyncio.Future[None], _: object = None) -> None:
    if not future.done():
        future.set_result(None)


def _result_of(task: asyncio.Task[Ended], call: Call) -> Ended:
    if not task.cancelled():
        return task.result()
    failure = Failure("error", "the job cancelled itself", "CancelledError", retryable=True)
    return Ended("error", failure=failure, call=call)


def _died(call: Call, error: ChildDiedError, seconds: float) -> Ended:
    if error.exit_code == -signal.SIGALRM and seconds >= call.timeout_seconds:
        return _ended_early(call, "timeout")  # by its own clock: this process was held up
    if call.job_type.crash_code is not None and -error.exit_code in _CRASHES:
        message = f"it needs more memory than a job has: its process crashed, {error}"
        failure = Failure(call.job_type.crash_code, message, "ChildDiedError", retryable=False)
        return Ended("error", failure=failure, call=call)
    message = f"killed: {error}"
    if error.exit_code == -signal.SIGXCPU:
        message += f" {cpu_limit_seconds(call.timeout_seconds)} s"
    failure = Failure("killed", message, "ChildDiedError", retryable=True)
    return Ended("error", failure=failure, call=call)


def _out_of_memory(call: Call) -> Ended:
    """It uses up an attempt: the kernel ends who holds the most, and would do so again."""
    message = "killed: memory had run out, and the kernel ended it (SIGKILL)"
    failure = Failure("killed_memory", message, "ChildOutOfMemoryError", retryable=True)
    return Ended("error", failure=failure, call=call)


def _not_stored(call: Call, error: StorageError) -> Ended:
    failure = Failure("storage_unavailable", str(error), type(error).__name__, retryable=True)
    return Ended("error", failure=failure, call=call)


def context_fields(claimed: Claimed, call: Call, folder: Path) -> dict[str, Any]:
    """What JobContext is made from, here or in a child: JSON values only."""
    return {
        "job_id": claimed.id,
        "job_type": call.job_type.name,
        "attempt": claimed.attempt,
        "recovered": claimed.number("abandoned") > 0 or claimed.number("interrupted") > 0,
        "timeout_seconds": call.timeout_seconds,
        "request_id": claimed.text("request_id") or None,
        "dry_run": claimed.number("dry_run") > 0,
        "previous_result": claimed.json("result"),
        "artifacts_folder": str(folder),
    }


def _ended_early(call: Call, why: str) -> Ended:
    match why:
        case "requested":
            return Ended("stopped", call=call)
        case "lost":
            return Ended("lost", call=call)
        case "shutdown":
            return Ended("interrupted", call=call)
        case "killed":
            failure = Failure("killed", "killed on command", "Killed", retryable=True)
        case _:
            failure = Failure(
                "timeout",
                f"took longer than {call.timeout_seconds:g} s",
                "JobTimeout",
                retryable=True,
            )
    return Ended("error", failure=failure, call=call)
