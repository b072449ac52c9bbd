"""The file that the rows come from: what it is, and in a form that DuckDB reads."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

import zstandard
from pydantic_core import to_json

from jobs.context import JobContext
from jobs.data.params import SourceParams
from jobs.errors import PermanentError

Kind = Literal["csv", "tsv", "json", "ndjson", "parquet"]
Compression = Literal["none", "gzip", "zstd"]
SAMPLE_BYTES = 1024 * 1024
PIECE_BYTES = 1024 * 1024
# What an encoding or a compression that DuckDB does not read may take of the disk, unpacked.
MAX_UNPACKED_BYTES = 8 * 1024 * 1024 * 1024
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
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
_BOMS = [(codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16")]  # fmt: skip
_NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-16": "UTF-16",
          "cp1252": "Windows-1252"}  # fmt: skip
_UNPACKING_ERRORS = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Source:
    """A file, what is in it, and its beginning, unpacked. `encoding` is a codec of Python's."""

    path: Path
    kind: Kind
    compression: Compression
    encoding: str
    sample: bytes

    @property
    def is_readable(self) -> bool:
        """Whether DuckDB reads it as it stands."""
        if self.kind == "parquet":
            return self.compression == "none"
        # Its reader of JSON does not know the mark in front.
        return self.encoding == "utf-8" or (self.encoding == "utf-8-sig" and self.kind != "json")

    def open(self) -> BinaryIO:
        """Its bytes, unpacked."""
        if self.compression == "gzip":
            return cast(BinaryIO, gzip.open(self.path))
        plain = self.path.open("rb")
        if self.compression == "zstd":
            unpacker = zstandard.ZstdDecompressor()
            return unpacker.stream_reader(plain, read_across_frames=True, closefd=True)
        return plain

    def is_decodable(self) -> bool:
        """Whether all of it is in the encoding that its beginning is in."""
        try:
            for _ in _pieces(self):
                pass
        except UnicodeDecodeError:
            return False
        return True

    def text(self) -> io.TextIOWrapper:
        """Its characters; line ends as they are."""
        return io.TextIOWrapper(self.open(), encoding=self.encoding, newline="")


def find(params: SourceParams, context: JobContext, folder: Path) -> Source:
    """The file that the params name, or `rows` as one. Raises PermanentError for an empty one."""
    if params.rows is not None:
        path = folder / "rows.json"
        path.write_bytes(to_json(params.rows))
        return Source(path, "json", "none", "utf-8", b"[{")
    file = context.local_file(upload_id=params.upload_id, job_id=params.job_id)
    compression = _compression(file.path)
    found = Source(file.path, "csv", compression, "utf-8", b"")
    found = replace(found, sample=_sample(found))
    kind = _kind(params.format, file.filename, file.content_type, found.sample)
    if kind == "parquet":
        return replace(found, kind=kind)
    encoding = _encoding(params.encoding, found.sample)
    if not found.sample.strip(_BLANK):
        raise PermanentError("the file has nothing in it", code="empty_source")
    return replace(found, kind=kind, encoding=encoding)


def readable(source: Source, folder: Path) -> Source:
    """The same in a form that DuckDB reads: a plain copy of it in UTF-8, if need be."""
    if source.is_readable:
        return source
    target = folder / "source"
    if source.kind == "parquet":
        _unpack(source, target)
        return replace(source, path=target, compression="none")
    _translate(source, target)
    sample = source.sample.decode(source.encoding, "ignore").encode()
    return replace(source, path=target, compression="none", encoding="utf-8", sample=sample)


def guess_single_byte(source: Source) -> Source:
    """The same read as Windows-1252, which Latin-1 mostly is; as that where it cannot be."""
    try:
        source.sample.decode("cp1252")
    except UnicodeDecodeError:
        return replace(source, encoding="latin-1")
    return replace(source, encoding="cp1252")


def _compression(path: Path) -> Compression:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head == _ZSTD else "none"


def _sample(source: Source) -> bytes:
    with _named_faults(source), source.open() as file:
        return file.read(SAMPLE_BYTES)


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
    if by_name is not None and parts[2] != "txt":
        return by_name
    if by_type is not None and not (by_type == "csv" and _OBJECT.match(sample)):
        return by_type
    first = sample.lstrip(_BLANK)[:1]
    return "json" if first == b"[" else "ndjson" if first == b"{" else "csv"


def _encoding(told: str | None, sample: bytes) -> str:
    for mark, encoding in _BOMS:
        if sample.startswith(mark) and told in (None, encoding.removesuffix("-sig")):
            return encoding
    if told is not None:
        return {"utf-16": "utf-16-le", "windows-1252": "cp1252"}.get(told, told)
    if b"\0" in sample[:4096]:
        # Without a mark: the letters of most scripts that files begin with have a zero byte.
        wide = "utf-16-be" if sample[:1] == b"\0" else "utf-16-le"
        # What has just been broken makes no sense so.
        if _BETWEEN.search(sample[:4096].decode(wide, "ignore")) is not None:
            return wide
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return "utf-8"
    except UnicodeDecodeError:
        return guess_single_byte(Source(Path(), "csv", "none", "", sample)).encoding


def _unpack(source: Source, target: Path) -> None:
    size_bytes = 0
    with _named_faults(source), source.open() as file, target.open("wb") as copy:
        while piece := file.read(PIECE_BYTES):
            size_bytes = bounded(size_bytes + len(piece))
            copy.write(piece)


def _translate(source: Source, target: Path) -> None:
    size_bytes = 0
    with _named_faults(source), target.open("wb") as copy:
        for text in _pieces(source):
            piece = text.encode()
            size_bytes = bounded(size_bytes + len(piece))
            copy.write(piece)


def _pieces(source: Source) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(source.encoding)()
    with source.open() as file:
        while piece := file.read(PIECE_BYTES):
            yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


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
        yield
    except UnicodeError as error:
        raise PermanentError(
            f"the file is not {_NAMES.get(source.encoding, source.encoding)}: {error}",
            code="bad_source",
        ) from None
    except _UNPACKING_ERRORS as error:
        if source.compression == "none":
            raise
        why = re.sub(r"\s+", " ", str(error))
        raise PermanentError(
            f"the {source.compression} file cannot be unpacked: {why}", code="bad_source"
        ) from None
