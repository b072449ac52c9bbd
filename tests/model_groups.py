"""Failed jobs by cause: each stands in the group of its error, and nothing else does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from tests.model_state import State
from tests.model_world import Stored

# What is told of causes, acts and operations beside the groups is not modelled.
UNMODELLED = (
    "rq:recado:failure:", "rq:recado:failures", "rq:recado:failed_seq", "rq:recado:cleared",
    "rq:recado:regroup_at", "rq:recado:audit",
)  # fmt: skip
_PREFIX, _JOBS, _TAGS = "rq:recado:failure:", ":jobs", ":tags"


def wrong_groups(model: State, stored: dict[str, Stored]) -> Iterator[str]:
    """One line for each job in a group where it should not be, or in none. What a stock tool
    moved is found out later, by upkeep or a claim.
    """
    found = {
        member: key.removeprefix(_PREFIX).removesuffix(_JOBS)
        for key, each in stored.items()
        if key.startswith(_PREFIX) and key.endswith(_JOBS)
        for member in each.value
    }
    expected = {
        job.id: model.errors[job.id]["fingerprint"]
        for job in model.jobs.values()
        if job.status == "failed" and "fingerprint" in model.errors.get(job.id, {})
    }
    for job_id in sorted(found.keys() | expected.keys()):
        # Of one whose record is gone the lists are tidied when upkeep comes to it.
        is_ghost = job_id not in model.jobs and job_id in model.errors
        if job_id in model.touched or is_ghost:
            continue
        if found.get(job_id) != expected.get(job_id):
            yield f"{job_id} is grouped as {found.get(job_id)}, not {expected.get(job_id)}"
    listed = set(stored["rq:recado:failures"].value) if "rq:recado:failures" in stored else set()
    if listed != set(found.values()):
        yield f"causes {sorted(listed)} are listed, {sorted(set(found.values()))} have jobs"
    yield from _wrong_tallies(stored)


def _wrong_tallies(stored: dict[str, Stored]) -> Iterator[str]:
    """One line for each cause that counts its jobs' tags in another way than they are."""
    notes = stored["rq:recado:tags"].value if "rq:recado:tags" in stored else {}
    expected = {
        key.removesuffix(_JOBS): {
            "jobs": len(each.value),
            **Counter(
                f"{name}:{value}"
                for job_id in each.value
                for name, value in json.loads(notes.get(job_id, "{}")).items()
            ),
        }
        for key, each in stored.items()
        if key.startswith(_PREFIX) and key.endswith(_JOBS)
    }
    counted = {
        key.removesuffix(_TAGS): {
            name: int(count) for name, count in each.value.items() if name != "upto"
        }
        for key, each in stored.items()
        if key.startswith(_PREFIX) and key.endswith(_TAGS)
    }
    if counted != expected:
        yield f"tags are counted as {counted}, not {expected}"
