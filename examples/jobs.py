"""Slow work: a plain function, and the job type that runs it in a worker.

The service finds the job type by `JOB_MODULES=examples.jobs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.catalog import job
from jobs.context import JobContext


class ProcessParams(BaseModel):
    """How much there is to do."""

    model_config = ConfigDict(extra="forbid")

    steps: Annotated[int, Field(ge=1, le=60)] = 5
    seconds_per_step: Annotated[float, Field(ge=0, le=1)] = 1.0


def work(params: ProcessParams, report: Callable[[int], None]) -> dict[str, Any]:
    """What takes so long: a report, a picture, a call to a slow partner."""
    total = 0
    for step in range(1, params.steps + 1):
        time.sleep(params.seconds_per_step)
        total += step
        report(step)
    return {"steps": params.steps, "total": total}


@job("example.process", max_attempts=3, timeout=120)
def process(params: ProcessParams, context: JobContext) -> dict[str, Any]:
    """Slow work, step by step; its progress can be watched."""
    return work(params, lambda step: context.progress(step, params.steps, "steps"))
