"""How an execution ended, and what Redis is told about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from app.queue.calling import encode_result, pack_traceback, to_json
from app.queue.claimed import Call, stock_delay
from app.queue.fingerprints import fingerprint, name_of
from app.queue.retry import Failure, wait_seconds
from app.queue.transitions import Claimed, Outcome
from jobs.context import Artifact
from jobs.errors import PermanentError

# Of a run that somebody killed from outside, and that does not count.
_KILLED = to_json(
    {
        "code": "killed",
        "message": "killed: signal 9 (SIGKILL)",
        "class": "ChildKilledError",
        "retryable": True,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the service: how often a job may be abandoned, how long ended jobs are kept."""

    abandoned: int
    retention_seconds: int
    failure_retention_seconds: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one run, before policy: `lost` runs belong to somebody else now.

    `declared` are the artifacts that the job has written; `artifacts`, when they are in
    storage, what the job's record says of each: `{name, size, content_type, sha256, key}`.
    """

    kind: Literal["result", "error", "stopped", "interrupted", "abandoned", "lost"]
    value: Any = None
    failure: Failure | None = None
    call: Call | None = None
    declared: Sequence[Artifact] = ()
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    # As JSON: how far the run was, if that is not told yet.
    progress: str = ""

    @classmethod
    def failed(cls, error: PermanentError) -> Ended:
        """A job that was never begun, because it cannot be."""
        return cls("error", failure=Failure.of(error))


def outcome_of(
    claimed: Claimed, ended: Ended, limits: Limits, random: Callable[[], float]
) -> Outcome | None:
    """The transition that follows; None when there is nothing to tell."""
    if ended.kind == "lost":
        return None
    outcome = _transition(claimed, ended, limits, random)
    return replace(outcome, progress_json=ended.progress) if ended.progress else outcome


def _transition(
    claimed: Claimed, ended: Ended, limits: Limits, random: Callable[[], float]
) -> Outcome:
    if ended.kind == "result":
        return _finished(claimed, ended, limits)
    if ended.kind == "interrupted":
        return _back_to_queue(claimed, "interrupted")
    if ended.kind == "stopped":
        return _failed(
            claimed,
            Failure("stopped", "stopped on request", "Stopped", False),
            ended.call,
            limits,
            kind="stopped",
        )
    if ended.kind == "abandoned":
        count = claimed.number("abandoned") + 1
        if count < limits.abandoned:
            return replace(_back_to_queue(claimed, "abandoned"), detail_json=_KILLED)
        message = f"killed: signal 9 (SIGKILL), {count} times while running it"
        failure = Failure("abandoned", message, "AbandonedJobError", False)
        return _failed(claimed, failure, ended.call, limits)
    assert ended.failure is not None
    return _after_error(claimed, ended.failure, ended.call, limits, random)


def _finished(claimed: Claimed, ended: Ended, limits: Limits) -> Outcome:
    return Outcome(
        claimed.id, claimed.execution, claimed.queue, "finished",
        ttl_seconds=claimed.number("result_ttl", limits.retention_seconds),
        return_value=b"" if ended.value is None else encode_result(ended.value),
        # For who waits for a job that is not kept: the event is all that remains of it.
        detail_json=to_json({"attempt": claimed.attempt}),
        artifacts_json=to_json(ended.artifacts) if ended.artifacts else "",
    )  # fmt: skip


def _back_to_queue(claimed: Claimed, kind: Literal["interrupted", "abandoned"]) -> Outcome:
    return Outcome(claimed.id, claimed.execution, claimed.queue, kind, ttl_seconds=-1)


def _after_error(
    claimed: Claimed,
    failure: Failure,
    call: Call | None,
    limits: Limits,
    random: Callable[[], float],
) -> Outcome:
    wait = None
    retries_left = ""
    if call is not None:
        wait = wait_seconds(
            failure,
            failures_before=call.failures_before,
            max_attempts=call.max_attempts,
            backoff=call.backoff,
            random=random,
        )
        asked = stock_delay(call)
        if wait is not None and asked is not None and failure.delay_seconds is None:
            wait = asked
        if wait is not None and call.retries_left and failure.uses_attempt:
            retries_left = str(call.retries_left - 1)
    if wait is None:
        return _failed(claimed, failure, call, limits)
    return Outcome(
        claimed.id, claimed.execution, claimed.queue, _again(failure),
        ttl_seconds=-1,
        delay_seconds=wait,
        retries_left=retries_left,
        **_texts(claimed, failure, call),
    )  # fmt: skip


def _again(failure: Failure) -> Literal["retry", "postponed", "blocked"]:
    if failure.pauses_queue:
        return "blocked"
    return "retry" if failure.uses_attempt else "postponed"


def _failed(
    claimed: Claimed,
    failure: Failure,
    call: Call | None,
    limits: Limits,
    *,
    kind: Literal["failed", "stopped"] = "failed",
) -> Outcome:
    return Outcome(
        claimed.id, claimed.execution, claimed.queue, kind,
        ttl_seconds=(
            claimed.number("failure_ttl", limits.failure_retention_seconds)
            if kind == "failed"
            else claimed.number("result_ttl", limits.retention_seconds)
        ),
        **_texts(claimed, failure, call),
    )  # fmt: skip


def _texts(claimed: Claimed, failure: Failure, call: Call | None) -> dict[str, Any]:
    error = {
        "code": failure.code,
        "message": failure.message,
        "class": failure.error_class,
        "retryable": failure.retryable,
        "fingerprint": _fingerprint(claimed, failure, call),
    }
    text = to_json(error)
    return {
        "error_json": text,
        "detail_json": text,
        "traceback": pack_traceback(
            failure.traceback or f"{failure.error_class}: {failure.message}"
        ),
        "result_json": "" if failure.result is None else to_json(failure.result),
    }


def _fingerprint(claimed: Claimed, failure: Failure, call: Call | None) -> str:
    name, place = claimed.type_name, failure.place
    if call is not None:
        name = call.job_type.name
        place = place or name_of(call.job_type.function)
    return fingerprint(name, failure.error_class, failure.message, place)
