"""`submit`: a job handed in as over HTTP, with the same checks and the same guarantee."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from app.commands.session import Session, request_id, run, who
from app.commands.terminal import (
    FAILED_STATUS,
    UNDER_WAY_STATUS,
    USAGE_STATUS,
    cell,
    fail,
    json_text,
    note,
    say,
    write_json,
)
from app.commands.watching import JobBar
from app.http.artifacts import Artifacts
from app.http.bodies import parse_json
from app.http.faults import Fault, InvalidRequestError, MalformedJsonError
from app.http.lookup import Lookup
from app.http.named_files import NamedFiles
from app.http.refusals import NO_SUCH_JOB, late_fault
from app.http.result_links import ResultLinks
from app.http.showing import show_job
from app.http.submissions import Origin, Terms, draft_job, parent_pointer, view_of
from app.keyring import ApiKey
from app.queue.errors import (
    ExpiredError,
    QueueUnavailableError,
    TooManyUploadsError,
    UnknownParentError,
)
from app.queue.file_store import RedisStorage
from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from app.queue.uploads import UploadRecords
from app.storage import StorageError, open_storage

LOOK_SECONDS = 0.1
ENDED = frozenset({"finished", "failed", "canceled", "stopped"})


class Desk:
    """Checks jobs and takes them in, as the web process does for a key that may do all."""

    def __init__(self, session: Session) -> None:
        settings = session.settings
        self.session = session
        self.key = ApiKey(who(), frozenset({"submit", "read", "operate"}), "")
        self.request_id = request_id()
        self.terms = Terms.of(settings, session.catalog)
        storage = session.kept(
            open_storage(
                settings.storage_location,
                settings.s3_access,
                lambda: RedisStorage(
                    session.client, session.reachability, settings.redis_file_limits
                ),
            )
        )
        uploads = UploadRecords(session.client, session.reachability, settings.max_uploads_per_key)
        self.files = NamedFiles(storage, uploads, settings.upload_retention_seconds)
        self.links = ResultLinks(
            settings.public_url, self._secret, session.views,
            Artifacts(storage, Lookup(session.views)),
        )  # fmt: skip

    def draft(self, body: dict[str, Any]) -> JobDraft:
        """Raises InvalidRequestError."""
        return draft_job(body, self.terms, self.origin())

    def origin(self) -> Origin:
        return Origin(self.key.name, self.request_id, datetime.now(UTC))

    async def take(self, draft: JobDraft, options: Any) -> None:
        """Return when Redis has acknowledged it; `options` as they were given.

        Raises InvalidRequestError, StorageError and QueueUnavailableError.
        """
        if draft.notify is not None:
            await self.links.add_to(draft)
        if draft.files is not None:
            (faults,) = await self.files.faults([draft], self.key)
            if faults:
                raise InvalidRequestError(faults)
            await self.files.keep([draft], self.key)
        try:
            await self.session.submitter.submit(draft)
        except ExpiredError:
            assert draft.expires_at is not None
            raise InvalidRequestError([late_fault(draft.expires_at, datetime.now(UTC))]) from None
        except UnknownParentError as error:
            pointer = parent_pointer(draft, draft.depends_on[error.parent_index], options)
            raise InvalidRequestError([Fault(pointer, NO_SUCH_JOB)]) from None

    async def _secret(self) -> bytes:
        given = self.session.settings.secret_key
        if given is not None:
            return given.get_secret_value().encode()
        return await self.session.views.session_secret()


def submit(options: argparse.Namespace) -> None:
    """`python -m app submit TYPE`."""
    body = {
        "type": options.type,
        "params": json_object(options, "params"),
        "options": json_object(options, "options"),
    }

    async def use(session: Session) -> None:
        desk = Desk(session)
        try:
            draft = desk.draft(body)
            await desk.take(draft, body["options"])
        except InvalidRequestError as error:
            refused(error)
        except (StorageError, TooManyUploadsError) as error:
            fail(f"Nothing was submitted: {error}")
        warnings = await _warnings(session, draft.queue)
        for each in warnings:
            note(f"{each[0].upper()}{each[1:]}.")
        if options.wait is not None:
            await _wait(session, options, draft)
        elif options.json:
            write_json(show_job(view_of(draft), warnings))
        else:
            say(draft.id)

    run(use)


def json_object(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """What `--name` gives: JSON, `@file`, or `-` for what is piped in. Exit status 2."""
    text = getattr(options, name)
    try:
        if text == "-":
            content = sys.stdin.buffer.read()
        elif text.startswith("@"):
            content = Path(text[1:]).read_bytes()
        else:
            content = text.encode("utf-8", "surrogateescape")
        found: Any = parse_json(content)
    except OSError as error:
        options.parser.error(f"--{name}: {text[1:]!r} cannot be read: {error.strerror}")
    except MalformedJsonError as error:
        options.parser.error(str(error).replace("The body", f"--{name}", 1))
    if not isinstance(found, dict):
        options.parser.error(f"--{name} takes a JSON object")
    return dict(found)


def refused(error: InvalidRequestError) -> NoReturn:
    """Say all that is wrong with what was typed."""
    for fault in error.listed:
        note(f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail)
    raise SystemExit(USAGE_STATUS)


async def _wait(session: Session, options: argparse.Namespace, draft: JobDraft) -> None:
    """Until it has ended, or the time is up: what became of it, as the exit status too."""
    if not options.json:
        say(draft.id)
        sys.stdout.flush()
    try:
        view = await _ended(session, draft.id, options.wait)
    except (asyncio.CancelledError, QueueUnavailableError):
        note(f"The job stands, and goes on by itself: python -m app jobs show {draft.id}")
        raise
    if view is None:
        fail(f"Job {draft.id} has ended and is not kept: its retention was over.")
    if options.json:
        write_json(show_job(view, []))
    else:
        _tell(view)
    if view.status not in ENDED:
        raise SystemExit(UNDER_WAY_STATUS)
    if view.status != "finished":
        raise SystemExit(FAILED_STATUS)


async def _ended(session: Session, job_id: str, seconds: float) -> JobView | None:
    until = asyncio.get_running_loop().time() + seconds
    with JobBar() as bar:
        while True:
            view = await session.views.job(job_id)
            if view is None or view.status in ENDED:
                return view
            bar.show(view)
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return view
            await asyncio.sleep(min(LOOK_SECONDS, left))


def _tell(view: JobView) -> None:
    say(cell(view.status + (f" ({view.reason})" if view.reason else "")))
    if view.error is not None and view.status == "failed":
        say(cell(f"{view.error.code}: {view.error.message}"))
    if view.result is not None:
        say(json_text(view.result))


async def _warnings(session: Session, queue: str) -> list[str]:
    try:
        return await session.views.warnings(queue)
    except QueueUnavailableError:
        # The job stands; that its queue cannot be looked at now must not hide it.
        return []
