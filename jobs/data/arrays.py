"""A long JSON array as an object a line: DuckDB takes 300 MiB to read any that is longer than its
buffer of 32 MB (2.0), and few for lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from jobs.data import packed
from jobs.data import source as sources
from jobs.data.deadline import Deadline
from jobs.data.source import PIECE_BYTES, SAMPLE_BYTES, Source, bounded
from jobs.errors import PermanentError

LONG_BYTES = 8 * 1024 * 1024
# DuckDB's own, of one object.
MAX_OBJECT_BYTES = 16 * 1024 * 1024
# Nothing is tried twice: what is broken costs no more than what is not. Control characters, line
# ends among them, stand in no text of JSON.
_TEXT = rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+"'
_DEPTH = 4
_SPACE = rb"[ \t\r\n]*+"
_TOKEN = re.compile(rb'%b|[\[\]{},"]' % _TEXT)
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


def _element() -> re.Pattern[bytes]:
    """A value that is not nested deeper than most, and the comma or bracket behind it."""
    inner = rb'(?:[^\[\]{}"]++|%b)*+' % _TEXT
    for _ in range(_DEPTH - 1):
        inner = rb'(?:[^\[\]{}"]++|%b|[\[{]%b[\]}])*+' % (_TEXT, inner)
    value = rb'[\[{]%b[\]}]|%b|[^\[\]{}",\s]++' % (inner, _TEXT)
    return re.compile(rb"%b(%b)%b([,\]])" % (_SPACE, value, _SPACE))


_ELEMENT = _element()


def readable(source: Source, folder: Path, deadline: Deadline) -> Source:
    """The same in a form that DuckDB reads, in the memory of a job."""
    file = sources.readable(source, folder, deadline)
    return as_lines(file, folder / "lines", deadline) if is_long(file) else file


def is_long(source: Source) -> bool:
    """Whether it is an array that DuckDB may not have the memory for."""
    if source.kind != "json" or not source.sample.lstrip().startswith(b"["):
        return False
    if source.compression != "none":
        return len(source.sample) >= SAMPLE_BYTES
    return source.path.stat().st_size > LONG_BYTES


def as_lines(source: Source, target: Path, deadline: Deadline) -> Source:
    """The same values, each as it was on a line of its own. Raises PermanentError for what is no
    array of JSON, or cut off; whether a value is right is for who reads it."""
    size_bytes = 0
    with packed.named_faults(source.compression), source.open() as file, target.open("wb") as lines:
        for values in _values(file):
            size_bytes = bounded(size_bytes + lines.write(b"".join(values)))
            deadline.keep()
    with target.open("rb") as lines:
        sample = lines.read(SAMPLE_BYTES)
    return replace(source, path=target, compression="none", encoding="utf-8", sample=sample)


def _values(file: BinaryIO) -> Iterator[list[bytes]]:
    """As they are found in a piece, with a line end behind each."""
    held, place, count = b"", 1, 0
    while not held and (piece := file.read(PIECE_BYTES)):
        held = piece.lstrip()
    while True:
        found: list[bytes] = []
        end = b","
        while end == b"," and (after := _next(held, place)) is not None:
            value, end, place = after
            found.append(value.translate(_LINE_ENDS) + b"\n")
        count += len(found)
        yield found
        if end == b"]":
            break
        held = held[place:]
        piece = file.read(max(PIECE_BYTES, len(held)))
        if not piece or len(held) >= MAX_OBJECT_BYTES:
            raise PermanentError(_broken(held, count + 1), code="bad_source")
        held, place = held + piece, 0
    rest = held[place:]
    while rest:
        if rest.strip():
            raise PermanentError(
                f"row {count}: something follows the end of the array", code="bad_source"
            )
        rest = file.read(PIECE_BYTES)


def _next(held: bytes, place: int) -> tuple[bytes, bytes, int] | None:
    """The value that begins here, what stands behind it and where that ends; None for one that
    is not all there."""
    if (found := _ELEMENT.match(held, place)) is not None:
        return found[1], found[2], found.end()
    depth = containers = 0
    for token in _TOKEN.finditer(held, place):
        mark = token[0]
        if mark == b'"':
            return None
        if depth == 0 and mark in b",]":
            value = held[place : token.start()].strip()
            return (value, mark, token.end()) if value else None
        if mark in b"[{":
            containers += depth == 0
            if containers > 1:
                return None
            depth += 1
        elif mark in b"]}":
            depth -= 1
    return None


def _broken(held: bytes, row: int) -> str:
    if len(held) >= MAX_OBJECT_BYTES:
        return f"row {row}: it has more than {MAX_OBJECT_BYTES} bytes, or a quote is not closed"
    return f"row {row}: the JSON is broken here, or cut off"
