"""Compressed files: with what, their bytes, and whether they are whole.

DuckDB and zstandard take the end of a zstd file for the end of what is in it (2.0, 0.25): one that
was cut off on its way would be a table with fewer rows.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

import zstandard

from jobs.errors import PermanentError

Compression = Literal["none", "gzip", "zstd"]
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)
# RFC 8878, 3.1: magic numbers of frames that are to be passed over; a block's three bytes in
# front have its kind in two bits, its size above those.
_SKIPPED = range(0x184D2A50, 0x184D2A60)
_MOST_HEADER_BYTES, _BLOCK_HEADER_BYTES, _CHECKSUM_BYTES = 18, 3, 4
_RLE = 1


def compression_of(path: Path) -> Compression:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head == _ZSTD else "none"


def unpacked(path: Path, compression: Compression) -> BinaryIO:
    """Its bytes, to be read. Raises while they are read what `named_faults` names."""
    if compression == "gzip":
        return cast(BinaryIO, gzip.open(path))
    plain = path.open("rb")
    if compression == "zstd":
        unpacker = zstandard.ZstdDecompressor()
        return unpacker.stream_reader(plain, read_across_frames=True, closefd=True)
    return plain


def check_whole(path: Path, compression: Compression) -> None:
    """Raises PermanentError for a zstd file that is cut off: who unpacks it would not notice."""
    if compression == "zstd":
        with named_faults(compression), path.open("rb") as file:
            _pass_frames(file)


@contextmanager
def named_faults(compression: Compression) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        if compression == "none":
            raise
        why = re.sub(r"\s+", " ", str(error))
        said = f"is cut off: {why}" if isinstance(error, EOFError) else f"cannot be unpacked: {why}"
        raise PermanentError(f"the {compression} file {said}", code="bad_source") from None


def _pass_frames(file: BinaryIO) -> None:
    """Go from block to block, up to the end. Raises EOFError where that comes too early."""
    size_bytes = file.seek(0, 2)
    file.seek(0)
    while (start := file.tell()) < size_bytes:
        head = file.read(_MOST_HEADER_BYTES)
        if int.from_bytes(head[:4], "little") in _SKIPPED:
            file.seek(start + 8 + int.from_bytes(head[4:8], "little"))
        else:
            _pass_frame(file, start, head)
        if file.tell() > size_bytes:
            raise EOFError("its last frame has no end")


def _pass_frame(file: BinaryIO, start: int, head: bytes) -> None:
    try:
        header_bytes = zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        if len(head) == _MOST_HEADER_BYTES:
            raise
        raise EOFError("its last frame has no end") from None
    file.seek(start + header_bytes)
    is_last = False
    while not is_last:
        found = file.read(_BLOCK_HEADER_BYTES)
        if len(found) < _BLOCK_HEADER_BYTES:
            raise EOFError("its last frame has no end")
        block = int.from_bytes(found, "little")
        is_last = bool(block & 1)
        file.seek(1 if block >> 1 & 3 == _RLE else block >> 3, 1)
    if zstandard.get_frame_parameters(head).has_checksum:
        file.seek(_CHECKSUM_BYTES, 1)
