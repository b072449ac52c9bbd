"""From the body of a batch to jobs on their way, and what is wrong with those that cannot go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.http.faults import MAX_FAULTS, Fault, InvalidRequestError, NamedJob
from app.http.refusals import NO_SUCH_JOB, late_fault
from app.http.schemas import BatchSubmission, faults_of
from app.http.submissions import Origin, Terms, draft_job, parent_pointer
from app.queue.errors import QueueFullError
from app.queue.records.drafts import JobDraft, new_job_id
from app.queue.records.views import BatchView, JobView

# So that finding the one that does not exist stays cheap.
MAX_PARENTS = 10_000


@dataclass(slots=True)
class Batch:
    """A batch on its way. All by the job's place in the body: `drafts` may go, `refused` do not
    fit, and for `full` there is no room.
    """

    id: str
    size: int
    permissive: bool
    submitted_by: str
    drafts: dict[int, JobDraft] = field(default_factory=dict)
    refused: dict[int, InvalidRequestError] = field(default_factory=dict)
    full: dict[int, QueueFullError] = field(default_factory=dict)

    @property
    def places(self) -> list[int] | None:
        """Where the drafts stand; None: all of the batch may go."""
        return None if len(self.drafts) == self.size else list(self.drafts)

    def refusal(self) -> InvalidRequestError:
        """What is wrong with the batch, in order; where it is much, one fault of each bad job."""
        errors = [self.refused[place] for place in sorted(self.refused)]
        faults = [fault for error in errors for fault in error.faults]
        if len(faults) <= MAX_FAULTS:
            return InvalidRequestError(faults)
        first = [error.faults[0] for error in errors if error.faults]
        more = [fault for error in errors for fault in error.faults[1:]]
        return InvalidRequestError([*first, *more], most=max(len(first), MAX_FAULTS))

    def parent_ids(self) -> list[str]:
        """Every job that some draft depends on, once."""
        return list(dict.fromkeys(each for d in self.drafts.values() for each in d.depends_on))

    def named_ids(self) -> list[str]:
        """Every job on which some job depends, be it a draft or refused already."""
        named = [job_id for error in self.refused.values() for _, job_id in error.named]
        return [*self.parent_ids(), *named]

    def refuse_unknown(self, missing: Set[str], body: Any) -> None:
        """These are not there: what depends on one of them cannot go."""
        for place, draft in list(self.drafts.items()):
            if not missing.isdisjoint(draft.depends_on):
                self._refuse(place, draft, [], body)
        for place, error in list(self.refused.items()):
            more = [Fault(at, NO_SUCH_JOB) for at, job_id in error.named if job_id in missing]
            self.refused[place] = InvalidRequestError([*error.faults, *more])

    def refuse_late(self, now: datetime, body: Any, indices: Collection[int] = ()) -> None:
        """What could never run cannot go; `indices` are those drafts of which Redis says so."""
        for index, (place, draft) in enumerate(list(self.drafts.items())):
            at = draft.expires_at
            if at is not None and (at <= now or index in indices):
                self._refuse(place, draft, [late_fault(at, now, f"/jobs/{place}")], body)

    def refuse_full(self, error: QueueFullError) -> None:
        """For some drafts there is no room."""
        places = list(self.drafts)
        for index in error.beyond:
            del self.drafts[places[index]]
            self.full[places[index]] = error

    def become(
        self, first: BatchView, jobs: Mapping[str, JobView], missing: Set[str], body: Any
    ) -> None:
        """What the same request made when it came first: the jobs that went then, as they were.

        Why another did not go is found anew: its time, a parent that is `missing`, or no room.
        """
        places = first.places if first.places is not None else range(self.size)
        went = dict(zip(places, first.job_ids, strict=True))
        drafts = self.drafts
        self.drafts = {place: draft for place, draft in drafts.items() if place not in went}
        self.refuse_late(first.created_at, body)
        self.refuse_unknown(missing, body)
        for place in self.drafts:
            self.full[place] = QueueFullError("there was no room in its queue", 2, [])
        self.drafts = {place: drafts[place] for place in went if place in drafts}
        for place, draft in self.drafts.items():
            job = jobs.get(went[place])
            draft.id, draft.batch_id = went[place], first.id
            draft.request_id = job.request_id if job is not None else draft.request_id
            draft.recorded(first.created_at)

    def _refuse(self, place: int, draft: JobDraft, faults: list[Fault], body: Any) -> None:
        options = body["jobs"][place].get("options")
        named = [
            NamedJob(f"/jobs/{place}{parent_pointer(draft, each, options)}", each)
            for each in draft.depends_on
        ]
        self.refused[place] = InvalidRequestError(faults, named)
        del self.drafts[place]


def draft_batch(body: Any, terms: Terms, origin: Origin) -> Batch:
    """Each job checked by itself. Raises InvalidRequestError when the envelope is at fault."""
    try:
        submission = BatchSubmission.model_validate(body)
    except ValidationError as error:
        raise InvalidRequestError(faults_of(error, body)) from None
    batch = Batch(
        id=new_job_id(),
        size=len(submission.jobs),
        permissive=submission.mode == "permissive",
        submitted_by=origin.key_name,
    )
    for place, job in enumerate(submission.jobs):
        try:
            draft = draft_job(job, terms, origin)
        except InvalidRequestError as error:
            batch.refused[place] = error.below(f"/jobs/{place}")
        else:
            draft.batch_id = batch.id
            batch.drafts[place] = draft
    if len(batch.parent_ids()) > MAX_PARENTS:
        detail = f"depend on more than {MAX_PARENTS} different jobs"
        raise InvalidRequestError([Fault("/jobs", detail)])
    return batch
