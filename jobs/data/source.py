"""The file that the rows come from: what it is, and in a form that DuckDB reads."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic_core import to_json

from jobs.context import JobContext
from jobs.data import packed
from jobs.data.deadline import Deadline
from jobs.data.packed import Compression
from jobs.data.params import SourceParams
from jobs.errors import PermanentError

Kind = Literal["csv", "tsv", "json", "ndjson", "parquet"]
SAMPLE_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
# What an encoding or a compression that DuckDB does not read may take of the disk, unpacked.
MAX_UNPACKED_BYTES = 8 * 1024 * 1024 * 1024
_PARQUET = b"PAR1"
# What people send for a table, by how it begins.
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive, as Excel's .xlsx is", b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF-": "a PDF", b"7z\xbc\xaf": "a 7-Zip archive", b"\xfd7zXZ": "packed with xz",
    b"SQLite format 3\0": "an SQLite database", b"BZh91AY&SY": "packed with bzip2",
    b"\x1f\x8b": "packed twice", b"\x28\xb5\x2f\xfd": "packed twice", b"ARROW1": "an Arrow file",
    b"Obj\x01": "an Avro file", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
}  # fmt: skip
# What is saved in place of a file where a site wants a sign-in, say.
_MARKUP = (b"<!doctype html", b"<html", b"<?xml")
MARKUP_BYTES = 1024
_SUFFIXES: dict[str, Kind] = {
    "csv": "csv", "txt": "csv", "tsv": "tsv", "tab": "tsv", "json": "json", "ndjson": "ndjson",
    "jsonl": "ndjson", "parquet": "parquet", "pq": "parquet",
}  # fmt: skip
_CONTENT_TYPES: dict[str, Kind] = {
    "text/csv": "csv", "text/tab-separated-values": "tsv", "application/json": "json",
    "application/x-ndjson": "ndjson", "application/jsonl": "ndjson",
    "application/vnd.apache.parquet": "parquet",
}  # fmt: skip
_BETWEEN = re.compile(r"[\n\r\t,;|{\[]")
# What no CSV file begins with.
_OBJECT = re.compile(rb'[\s\xef\xbb\xbf]*(\[\s*)?\{\s*"[^"]*"\s*:')
_BLANK = b"\xef\xbb\xbf\xff\xfe \t\r\n\0"
_BOMS = [(codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
         (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16")]  # fmt: skip
# What no text has, in any encoding of a byte a character: a program or a picture is full of them.
# Not so Ctrl-Z, the end of old ones.
_CONTROLS = bytes({*range(9), *range(14, 26), *range(28, 32)})
_LEAST_TEXT = 0.97
_NO_TEXT = "the file is no text, and no Parquet"
_NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-16": "UTF-16", "utf-32": "UTF-32",
          "cp1252": "Windows-1252"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A file, what is in it, and its beginning, unpacked. `encoding` is a codec of Python's;
    `is_uneven`: its lines end in several ways."""

    path: Path
    kind: Kind
    compression: Compression
    encoding: str
    sample: bytes
    is_uneven: bool = False

    @property
    def is_readable(self) -> bool:
        """Whether DuckDB reads it as it stands."""
        if self.kind == "parquet":
            return self.compression == "none"
        # Its reader of JSON does not know the mark in front.
        is_marked = self.encoding == "utf-8-sig"
        is_utf_8 = self.encoding == "utf-8" or (is_marked and self.kind in {"csv", "tsv"})
        return is_utf_8 and not self.is_uneven

    @property
    def row_bytes(self) -> int:
        """About how long a row is, by the beginning; 0: nobody knows."""
        if self.kind in {"parquet", "json"}:
            return 0
        return len(self.sample) // max(self.sample.count(b"\n"), 1)

    def open(self) -> BinaryIO:
        """Its bytes, unpacked."""
        return packed.unpacked(self.path, self.compression)

    def is_decodable(self, deadline: Deadline) -> bool:
        """Whether all of it is in the encoding that its beginning is in."""
        try:
            for _ in _pieces(self):
                deadline.keep()
        except UnicodeDecodeError:
            return False
        return True

    def text(self) -> io.TextIOWrapper:
        """Its characters; line ends as they are."""
        return io.TextIOWrapper(self.open(), encoding=self.encoding, newline="")


def find(params: SourceParams, context: JobContext, folder: Path) -> Source:
    """The file that the params name, or `rows` as one. Raises PermanentError for one that is
    empty or cut off."""
    if params.rows is not None:
        path = folder / "rows.json"
        path.write_bytes(to_json(params.rows))
        return Source(path, "json", "none", "utf-8", b"[{")
    file = context.local_file(upload_id=params.upload_id, job_id=params.job_id)
    compression = packed.compression_of(file.path)
    packed.check_whole(file.path, compression)
    found = Source(file.path, "csv", compression, "utf-8", b"")
    found = replace(found, sample=_sample(found))
    _check_known(found.sample)
    kind = _kind(params.format, file.filename, file.content_type, found.sample)
    if kind == "parquet":
        return replace(found, kind=kind)
    encoding = _encoding(params.encoding, found.sample)
    if not found.sample.strip(_BLANK):
        raise PermanentError("the file has nothing in it", code="empty_source")
    return replace(found, kind=kind, encoding=encoding)


def readable(source: Source, folder: Path, deadline: Deadline) -> Source:
    """The same in a form that DuckDB reads: a plain copy of it in UTF-8, if need be, with lines
    that all end in LF where they differ."""
    if source.is_readable:
        return source
    target = folder / "source"
    if source.kind == "parquet":
        _unpack(source, target, deadline)
        return replace(source, path=target, compression="none")
    _translate(source, target, deadline)
    sample = source.sample.decode(source.encoding, "ignore").encode()
    if source.is_uneven:
        sample = sample.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return Source(target, source.kind, "none", "utf-8", sample)


def guess_single_byte(source: Source) -> Source:
    """The same read as Windows-1252, which Latin-1 mostly is; as that where it cannot be."""
    try:
        source.sample.decode("cp1252")
    except UnicodeDecodeError:
        return replace(source, encoding="latin-1")
    return replace(source, encoding="cp1252")


def _sample(source: Source) -> bytes:
    with _named_faults(source), source.open() as file:
        return file.read(SAMPLE_BYTES)


def _check_known(sample: bytes) -> None:
    head = sample[:MARKUP_BYTES].lstrip(_BLANK).lower()
    if head.startswith(_MARKUP):
        raise PermanentError("the file is HTML or XML, and no table", code="bad_source")
    for begins, what in _OTHERS.items():
        if sample.startswith(begins):
            raise PermanentError(
                f"the file is {what}: CSV, TSV, JSON, ndjson and Parquet are read, also packed"
                " with gzip or zstd",
                code="bad_source",
            )


def _kind(told: str | None, filename: str | None, content_type: str, sample: bytes) -> Kind:
    if told is not None:
        return _SUFFIXES[told.partition(".")[0]]
    if sample.startswith(_PARQUET):
        return "parquet"
    parts = (filename or "").lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")
    by_name = _SUFFIXES.get(parts[2]) if parts[1] else None
    by_type = _CONTENT_TYPES.get(content_type.partition(";")[0].strip().lower())
    if by_name == "csv" and _OBJECT.match(sample) is not None:
        by_name = None
    if by_name == "tsv" and b"\t" not in sample:
        by_name = "csv"
    if by_name is not None and parts[2] != "txt":
        return by_name
    if by_type is not None and not (by_type == "csv" and _OBJECT.match(sample)):
        return by_type
    first = sample.lstrip(_BLANK)[:1]
    return "json" if first == b"[" else "ndjson" if first == b"{" else "csv"


def _encoding(told: str | None, sample: bytes) -> str:
    """Raises PermanentError for what is no text."""
    for mark, encoding in _BOMS:
        if sample.startswith(mark) and told in (None, encoding.removesuffix("-sig")):
            return encoding
    wide = "utf-16-be" if sample[:1] == b"\0" else "utf-16-le"
    if told is not None:
        return {"utf-16": wide, "windows-1252": "cp1252"}.get(told, told)
    head = sample[:4096]
    # Without a mark: the letters of most scripts that files begin with have a zero byte; what has
    # just been broken makes no sense so.
    if b"\0" in head and _BETWEEN.search(head.decode(wide, "ignore")) is not None:
        _check_guess(sample, wide)
        return wide
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    except UnicodeDecodeError:
        if len(head.translate(None, _CONTROLS)) < len(head) * _LEAST_TEXT:
            raise PermanentError(_NO_TEXT, code="bad_source") from None
        return guess_single_byte(Source(Path(), "csv", "none", "", sample)).encoding


def _check_guess(sample: bytes, encoding: str) -> None:
    """Programs have zero bytes, too. Raises PermanentError for a sample that has not the encoding
    it looks like."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        raise PermanentError(_NO_TEXT, code="bad_source") from None


def _unpack(source: Source, target: Path, deadline: Deadline) -> None:
    size_bytes = 0
    with _named_faults(source), source.open() as file, target.open("wb") as copy:
        while piece := file.read(PIECE_BYTES):
            size_bytes = bounded(size_bytes + len(piece))
            copy.write(piece)
            deadline.keep()


def _translate(source: Source, target: Path, deadline: Deadline) -> None:
    size_bytes = 0
    pieces = _even(_pieces(source)) if source.is_uneven else _pieces(source)
    with _named_faults(source), target.open("wb") as copy:
        for text in pieces:
            piece = text.encode()
            size_bytes = bounded(size_bytes + len(piece))
            copy.write(piece)
            deadline.keep()


def _pieces(source: Source) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(source.encoding)()
    with source.open() as file:
        while piece := file.read(PIECE_BYTES):
            yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _even(pieces: Iterator[str]) -> Iterator[str]:
    """CRLF and CR as LF; those between two pieces too."""
    held = ""
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""
        yield text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
    yield held.replace("\r", "\n")


def bounded(size_bytes: int) -> int:
    if size_bytes > MAX_UNPACKED_BYTES:
        raise PermanentError(
            f"the file has more than {MAX_UNPACKED_BYTES} bytes when it is unpacked",
            code="temp_disk",
        )
    return size_bytes


@contextmanager
def _named_faults(source: Source) -> Iterator[None]:
    try:
        with packed.named_faults(source.compression):
            yield
    except UnicodeError as error:
        raise PermanentError(
            f"the file is not {_NAMES.get(source.encoding, source.encoding)}: {error}",
            code="bad_source",
        ) from None
