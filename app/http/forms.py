"""A multipart form with one file in it, read as it arrives: never held, never on a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from app.http.faults import Fault, InvalidRequestError, MalformedFormError
from app.http.filenames import content_type, filename, parameters_of

FIELD = "file"
_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file on its way in. `chunks` can be read once, and raise what is wrong with the rest."""

    filename: str | None
    content_type: str
    chunks: AsyncIterator[bytes]


async def file_of_form(chunks: AsyncIterator[bytes], declared: bytes) -> IncomingFile:
    """Read up to the file. `declared` is the request's Content-Type, with the boundary.

    Raises MalformedFormError, InvalidRequestError, UnsupportedMediaTypeError, and what
    `chunks` raises; so do the chunks of the file, after the last of which the form has to end.
    """
    form = _form_of(chunks, declared)
    part = await form.next_part()
    if part is None:
        raise InvalidRequestError([Fault(f"/{FIELD}", "is needed")])
    parameters = parameters_of(part.headers.get("content-disposition"))
    name = parameters.get("name", b"").decode(errors="replace")
    if name != FIELD:
        pointer = name[:_NAME_CHARACTERS].replace("~", "~0").replace("/", "~1")
        raise InvalidRequestError([Fault(f"/{pointer}", f"the only field is {FIELD}")])
    return IncomingFile(
        filename(parameters, extended=False),
        content_type(part.headers.get("content-type")),
        _whole(form, part),
    )


async def parts_of_form(
    chunks: AsyncIterator[bytes], declared: bytes
) -> AsyncIterator[tuple[str, IncomingFile]]:
    """Every part by its name, in their order; each is to be read before the next is asked for.

    Raises as `file_of_form` does, but takes any field.
    """
    form = _form_of(chunks, declared)
    while (part := await form.next_part()) is not None:
        parameters = parameters_of(part.headers.get("content-disposition"))
        yield (
            parameters.get("name", b"").decode(errors="replace"),
            IncomingFile(
                filename(parameters, extended=False),
                content_type(part.headers.get("content-type")),
                _content(form, part),
            ),
        )


def _form_of(chunks: AsyncIterator[bytes], declared: bytes) -> _Form:
    boundary = parameters_of(declared).get("boundary")
    if not boundary:
        raise MalformedFormError("The Content-Type names no boundary.")
    return _Form(chunks, boundary)


async def _content(form: _Form, part: _Part) -> AsyncIterator[bytes]:
    while (data := await form.next_data(part)) is not None:
        yield data


async def _whole(form: _Form, part: _Part) -> AsyncIterator[bytes]:
    async for data in _content(form, part):
        yield data
    if await form.next_part() is not None:
        raise InvalidRequestError([Fault(f"/{FIELD}", "must be the only field, once")])


@dataclass(slots=True)
class _Part:
    """Its headers, in lower case, and what has arrived of it."""

    headers: dict[str, bytes] = field(default_factory=dict)
    data: deque[bytes] = field(default_factory=deque)
    is_open: bool = False
    is_whole: bool = False


class _Form:
    """Parts in their order, each to be read to its end before the next."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._parts: deque[_Part] = deque()
        self._current = _Part()
        self._name = b""
        self._value = b""
        self._has_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from None

    async def next_part(self) -> _Part | None:
        """The next one, its headers read; None after the last."""
        while not (self._parts and self._parts[0].is_open):
            if not await self._more():
                return None
        return self._parts.popleft()

    async def next_data(self, part: _Part) -> bytes | None:
        while not part.data:
            if part.is_whole or not await self._more():
                return None
        return part.data.popleft()

    async def _more(self) -> bool:
        """Parse what comes next. False: all has come."""
        chunk = await anext(self._chunks, None)
        if chunk is None:
            if not self._has_ended:
                raise MalformedFormError("The form ends before its last boundary.")
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(error) from None
        return True

    def _begin(self) -> None:
        self._current = _Part()
        self._parts.append(self._current)

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._current.headers.setdefault(self._name.decode("latin-1").lower(), self._value)
        self._name = self._value = b""

    def _open(self) -> None:
        self._current.is_open = True

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self._current.data.append(data[start:end])

    def _end_part(self) -> None:
        self._current.is_whole = True

    def _end(self) -> None:
        self._has_ended = True


def _malformed(error: FormParserError) -> MalformedFormError:
    return MalformedFormError(f"The body is no multipart form: {error}.")
