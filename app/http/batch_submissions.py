"""From the body of a batch to jobs on their way, and the faults of those that cannot go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.http.faults import Fault, InvalidRequestError
from app.http.schemas import BatchSubmission, faults_of
from app.http.submissions import Origin, Terms, draft_job, unknown_parent
from app.queue.records import JobDraft, JobView, new_job_id

# So that finding the one that does not exist stays cheap.
MAX_PARENTS = 10_000


@dataclass(slots=True)
class Batch:
    """A batch on its way. `drafts` and `faults` are by the job's place in the body."""

    id: str
    size: int
    permissive: bool
    drafts: dict[int, JobDraft]
    faults: dict[int, list[Fault]]
    submitted_by: str

    def all_faults(self) -> list[Fault]:
        return [fault for place in sorted(self.faults) for fault in self.faults[place]]

    def parent_ids(self) -> list[str]:
        """Every job that some draft depends on, once."""
        return list(dict.fromkeys(each for d in self.drafts.values() for each in d.depends_on))

    def refuse_unknown(self, parent_ids: Iterable[str], body: Any) -> None:
        """Those that depend on one of these jobs, which are not there, cannot go."""
        unknown = set(parent_ids)
        for place, draft in list(self.drafts.items()):
            missing = [each for each in draft.depends_on if each in unknown]
            if missing:
                job = body["jobs"][place]
                base = f"/jobs/{place}"
                self.faults[place] = [unknown_parent(each, job, base) for each in missing]
                del self.drafts[place]

    def refused_before(self, job_ids: Sequence[str], jobs: Mapping[str, JobView]) -> list[int]:
        """Which drafts have no job among those that the same request made before.

        Redis refuses for the parents alone, so that two which agree in them had the same
        fate. `jobs` are those that are still kept.
        """
        refused: list[int] = []
        for index, (place, draft) in enumerate(self.drafts.items()):
            if len(self.drafts) - len(refused) == len(job_ids):
                break
            if not draft.depends_on:
                continue
            job_id = next(iter(job_ids[index - len(refused) :]), "")
            job = jobs.get(job_id)
            if job is None or job.parent_ids != draft.depends_on:
                refused.append(place)
        return refused

    def refuse_again(self, places: Iterable[int], missing: set[str], body: Any) -> None:
        """These had no job at first: `missing` parents are not there now either."""
        for place in places:
            draft = self.drafts.pop(place)
            base = f"/jobs/{place}"
            unknown = [each for each in draft.depends_on if each in missing] or draft.depends_on
            self.faults[place] = [
                unknown_parent(each, body["jobs"][place], base) for each in unknown
            ]


def draft_batch(body: Any, terms: Terms, origin: Origin) -> Batch:
    """Each job checked by itself. Raises InvalidRequestError when the envelope is at fault, or
    the batch is strict and any job is.
    """
    try:
        submission = BatchSubmission.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error, body)) from None
    batch = Batch(
        id=new_job_id(),
        size=len(submission.jobs),
        permissive=submission.mode == "permissive",
        drafts={},
        faults={},
        submitted_by=origin.key_name,
    )
    for place, job in enumerate(submission.jobs):
        try:
            draft = draft_job(job, terms, origin)
        except InvalidRequestError as error:
            batch.faults[place] = error.below(f"/jobs/{place}")
        else:
            draft.batch_id = batch.id
            batch.drafts[place] = draft
    if len(batch.parent_ids()) > MAX_PARENTS:
        detail = f"depend on more than {MAX_PARENTS} different jobs"
        raise InvalidRequestError([Fault("/jobs", detail)])
    if batch.faults and not batch.permissive:
        raise InvalidRequestError(batch.all_faults())
    return batch
