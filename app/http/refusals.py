"""Everything that is wrong with a submission at once, for one that is known to be refused.

The way of a good one checks step by step and stops at the first fault, which is faster; this
looks at each part by itself, so that a client need not mend its request fault by fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.http.faults import Fault, InvalidRequestError, NamedJob
from app.http.schemas import (
    JOB_ID_PATTERN,
    MAX_PARENTS,
    YEAR_SECONDS,
    JobSubmission,
    Options,
    faults_of,
)

if TYPE_CHECKING:
    from app.http.submissions import Terms
    from jobs.catalog import JobType

EXPIRED = "is in the past"
BEFORE_START = "must be after the job's start"
NO_SENDER = "needs a sender, and MAIL_FROM, the service's own, is not set"
NO_SUCH_JOB = "there is no such job"
NO_SUCH_TYPE = "there is no such job type; GET /v1/job-types lists them"
# The last day is left to other time zones.
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
# Earlier than anything that this service has accepted, and not so early as to have no UTC.
_EPOCH_YEAR = 1970
_TIMES = ("delay", "scheduled_at", "expires_at")
_ID = re.compile(JOB_ID_PATTERN.strip("^$"))


def refused_job(body: Any, terms: Terms, now: datetime) -> InvalidRequestError:
    """What is wrong with `{type, params, options}`."""
    faults = _faults(lambda: JobSubmission.model_validate(body), body)
    if not isinstance(body, dict):
        return InvalidRequestError(faults)
    name, params = body.get("type"), body.get("params", {})
    if isinstance(name, str):
        if name not in terms.catalog:
            faults.append(Fault("/type", NO_SUCH_TYPE))
        elif isinstance(params, dict):
            faults += _params_faults(terms.catalog.get(name), params, terms, "/params")
    options = body.get("options")
    faults += _faults_of_times(options, now) + _faults_of_notify(options, terms)
    return InvalidRequestError(faults, _named_parents(options))


def refused_flat_job(
    job_type: JobType, body: dict[str, Any], terms: Terms, now: datetime
) -> InvalidRequestError:
    """What is wrong with params that have `options` among them."""
    raw = {name: value for name, value in body.items() if name != "options"}
    options, faults = body.get("options"), []
    if "options" in body:
        faults += _faults(lambda: Options.model_validate(options), options, "/options")
    faults += _params_faults(job_type, raw, terms, "")
    faults += _faults_of_times(options, now) + _faults_of_notify(options, terms)
    return InvalidRequestError(faults, _named_parents(options))


def time_faults(options: Options, now: datetime, *, may_repeat: bool = False) -> list[Fault]:
    """What is wrong with when to run. Of a request that `may_repeat` an earlier one only what
    was wrong then, too: what time does to it since is for Redis to judge.
    """
    faults = []
    start, expires = options.scheduled_at, options.expires_at
    if start is not None and start - now > timedelta(seconds=YEAR_SECONDS):
        faults.append(Fault("/options/scheduled_at", "must be at most 1 year ahead"))
    if expires is None:
        return faults
    if options.delay is not None and not may_repeat:
        start = now + timedelta(seconds=options.delay)
    if expires <= now and not (may_repeat and expires.year > _EPOCH_YEAR):
        faults.append(Fault("/options/expires_at", EXPIRED))
    elif start is not None and expires <= start:
        faults.append(Fault("/options/expires_at", BEFORE_START))
    elif expires > _END_OF_TIME:
        faults.append(Fault("/options/expires_at", "is too far ahead"))
    return faults


def late_fault(expires_at: datetime, now: datetime, base: str = "") -> Fault:
    """Of a job that could never run, as Redis has found."""
    detail = EXPIRED if expires_at <= now else BEFORE_START
    return Fault(f"{base}/options/expires_at", detail)


def _params_faults(job_type: JobType, raw: dict[str, Any], terms: Terms, base: str) -> list[Fault]:
    context = {"sender": terms.sender}
    return _faults(lambda: job_type.params.model_validate(raw, context=context), raw, base)


def _faults_of_times(options: Any, now: datetime) -> list[Fault]:
    """Of the times alone, whatever else the options say."""
    if not isinstance(options, dict):
        return []
    try:
        times = Options.model_validate({name: options.get(name) for name in _TIMES})
    except ValidationError:
        return []  # told with the other options
    return time_faults(times, now)


def _faults_of_notify(options: Any, terms: Terms) -> list[Fault]:
    wanted = options.get("notify") if isinstance(options, dict) else None
    if wanted is None or terms.sender is not None:
        return []
    return [Fault("/options/notify", NO_SENDER)]


def _named_parents(options: Any) -> list[NamedJob]:
    """Where other jobs are named, which may or may not be there."""
    parents = options.get("depends_on") if isinstance(options, dict) else None
    if not isinstance(parents, list) or len(parents) > MAX_PARENTS:
        return []
    if not all(isinstance(each, str) and _ID.fullmatch(each) for each in parents):
        return []
    return [
        NamedJob(f"/options/depends_on/{parents.index(each)}", each)
        for each in dict.fromkeys(parents)
    ]


def _faults(check: Callable[[], Any], raw: Any, base: str = "") -> list[Fault]:
    try:
        check()
    except ValidationError as error:
        return faults_of(error, raw, base)
    return []
