"""POST /v1/data: a `data.*` job in one call, with its file in the same body when it has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from app.http.answers import Answer
from app.http.auth import acting_key
from app.http.bodies import SILENCE_SECONDS, header
from app.http.faults import BodyTooLargeError, Fault, InvalidRequestError, NotFoundError
from app.http.forms import FIELD, IncomingFile, parts_of_form
from app.http.idempotency import asked_key
from app.http.intake import Intake
from app.http.jobs import Jobs
from app.http.streams import body_chunks
from app.http.submissions import Origin, Terms, draft_flat_job
from app.http.uploads import Uploads
from app.queue.records.drafts import JobDraft, Upload
from jobs.catalog import JobType

OPERATION = "operation"
PREFIX = "data."
# All fields of a form beside its file: a query has 100,000 characters at most.
FIELDS_BYTES = 1024 * 1024
MOST_FIELDS = 50
_JSON_FIELDS = frozenset({"options"})


@dataclass(slots=True)
class _Form:
    """What has come of a form."""

    fields: dict[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    size_bytes: int = 0


class Data:
    """The endpoint. The same job, answer, headers and options as under /v1/jobs."""

    def __init__(self, jobs: Jobs, intake: Intake, uploads: Uploads, terms: Terms) -> None:
        self._jobs = jobs
        self._intake = intake
        self._uploads = uploads
        self._terms = terms

    @property
    def max_body_bytes(self) -> int:
        return self._uploads.max_body_bytes + FIELDS_BYTES

    async def submit(self, request: Request) -> Answer:
        """POST /v1/data."""
        if not operations(self._terms):
            raise NotFoundError
        declared = header(request.scope, b"content-type")
        if declared is None or not declared.lower().startswith(b"multipart/form-data"):
            return await self._jobs.take(request, await self._intake.read(request, self._draft))
        asked_key(request.scope)  # a bad one is refused before half a gigabyte has come
        form = _Form()
        try:
            await self._read(request, declared, form)
            body, told = _bodies(form, self._terms)
            received = await self._intake.made(request, body, told, self._draft_of_form)
            draft = received.made
            own_id = draft.id
            answer = await self._jobs.take(request, received)
        except BaseException:
            await self._forget(form)
            raise
        if draft.id != own_id:  # a repeated request: the first one's file is the job's
            await self._forget(form)
        return answer

    async def _read(self, request: Request, declared: bytes, form: _Form) -> None:
        """All of the form: the file to storage, as an upload, and the fields."""
        await self._uploads.check()
        chunks = body_chunks(
            request.scope, request.receive, self.max_body_bytes, SILENCE_SECONDS
        )  # fmt: skip
        async for name, part in parts_of_form(chunks, declared):
            if name in form.fields or (name == FIELD and form.upload is not None):
                raise InvalidRequestError([Fault(_pointer(name), "may stand once")])
            if name == FIELD:
                form.upload = await self._uploads.keep(part, acting_key(request).name)
            elif len(form.fields) >= MOST_FIELDS:
                raise InvalidRequestError([Fault("", f"has more than {MOST_FIELDS} fields")])
            else:
                form.fields[name] = await _text(name, part, form)

    async def _forget(self, form: _Form) -> None:
        if form.upload is not None:
            await self._uploads.discard(form.upload)

    def _draft(self, body: Any, origin: Origin) -> JobDraft:
        return draft_data_job(body, self._terms, origin)

    def _draft_of_form(self, body: Any, origin: Origin) -> JobDraft:
        try:
            return self._draft(body, origin)
        except InvalidRequestError as error:
            # The client has named no upload: it is its file that does not fit.
            faults = [
                replace(fault, pointer=f"/{FIELD}") if fault.pointer == "/upload_id" else fault
                for fault in error.faults
            ]
            raise InvalidRequestError(faults, error.named) from None


def draft_data_job(body: Any, terms: Terms, origin: Origin) -> JobDraft:
    """A job from its `operation`, params and options. Raises InvalidRequestError."""
    if not isinstance(body, dict):
        raise InvalidRequestError([Fault("", "must be an object")])
    job_type = _job_type(body, terms)
    params = {name: value for name, value in body.items() if name != OPERATION}
    return draft_flat_job(job_type, params, terms, origin)


def operations(terms: Terms) -> list[str]:
    return [each.name.removeprefix(PREFIX) for each in terms.catalog if _is_data(each.name)]


def _is_data(name: str) -> bool:
    return name.startswith(PREFIX)


def _job_type(body: dict[str, Any], terms: Terms) -> JobType:
    name = body.get(OPERATION)
    if isinstance(name, str) and PREFIX + name in terms.catalog:
        return terms.catalog.get(PREFIX + name)
    detail = "is needed" if name is None else "is none of them"
    known = ", ".join(operations(terms))
    raise InvalidRequestError([Fault(f"/{OPERATION}", f"{detail}: {known}")])


async def _text(name: str, part: IncomingFile, form: _Form) -> str:
    value = bytearray()
    async for data in _bounded(part.chunks, form):
        value += data
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError([Fault(_pointer(name), "is not UTF-8")]) from None


async def _bounded(chunks: AsyncIterator[bytes], form: _Form) -> AsyncIterator[bytes]:
    async for data in chunks:
        form.size_bytes += len(data)
        if form.size_bytes > FIELDS_BYTES:
            raise BodyTooLargeError(FIELDS_BYTES)
        yield data


def _bodies(form: _Form, terms: Terms) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body that the form stands for; and what of it makes a request the same as another."""
    job_type = _job_type(dict(form.fields), terms)
    body: dict[str, Any] = {}
    faults = []
    for name, text in form.fields.items():
        if name in _JSON_FIELDS or name in json_fields(job_type):
            try:
                body[name] = from_json(text, allow_inf_nan=False)
            except ValueError:
                faults.append(Fault(_pointer(name), "is not JSON"))
        else:
            body[name] = text
    if faults:
        raise InvalidRequestError(faults)
    told, upload = dict(body), form.upload
    if upload is not None:
        if "upload_id" in body:
            raise InvalidRequestError([Fault("/upload_id", f"excludes `{FIELD}`")])
        body["upload_id"] = upload.id
        told[FIELD] = [upload.sha256, upload.size_bytes, upload.filename, upload.content_type]
    return body, told


@lru_cache(maxsize=32)
def json_fields(job_type: JobType) -> frozenset[str]:
    """Params that are no text, and so stand in a form as JSON."""
    properties = job_type.params.model_json_schema()["properties"]
    return frozenset(name for name, schema in properties.items() if not _takes_text(schema))


def _takes_text(schema: dict[str, Any]) -> bool:
    choices = schema.get("anyOf", [schema])
    return any(
        each.get("type") == "string" or isinstance(each.get("const"), str) or "enum" in each
        for each in choices
    )


def _pointer(name: str) -> str:
    return "/" + name[:100].replace("~", "~0").replace("/", "~1")
