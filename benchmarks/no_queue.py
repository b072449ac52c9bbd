"""Our web process with no queue behind it: what HTTP, checks and the answer cost by themselves.

The very process of `python -m app.main`, but for the one call that hands a job over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from app import main
from app.queue.records.drafts import JobDraft
from app.queue.submitting import Submitter


async def _at_once(_: Submitter, draft: JobDraft, *_more: object) -> None:
    draft.created_at = draft.enqueued_at = datetime.now(UTC)


def _begun(_: Submitter, draft: JobDraft, done: Callable[[BaseException | None], None]) -> None:
    draft.created_at = draft.enqueued_at = datetime.now(UTC)
    done(None)


if __name__ == "__main__":
    Submitter.submit = _at_once  # type: ignore[method-assign, assignment]
    Submitter.begin = _begun  # type: ignore[method-assign]
    main.main()
