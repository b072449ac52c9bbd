"""Parquet files side by side: one file of the columns of several, their pages copied as they are.

Only the footers are read: Thrift's compact protocol (thrift-compact-protocol.md) with the fields
that parquet.thrift of Parquet 2.11 gives numbers to. So no table is ever as wide as the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_MAGIC = b"PAR1"
_COPIED_AT_ONCE = 1024 * 1024
_LENGTH = struct.Struct("<I")
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_LONG_LIST = 15
# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, SchemaElement
_SCHEMA, _ROW_COUNT, _GROUPS, _ORDERS = 2, 3, 4, 7
_CHUNKS, _GROUP_BYTES, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_PACKED_BYTES = 1, 2, 3, 5, 6
_META = 3
_PLACES_OF_CHUNK = (2, 4, 6)
_PLACES_OF_META = (9, 10, 11, 14)
_CHILDREN = 5


class Typed(NamedTuple):
    """A value and Thrift's type of it. Structs are dicts by field, lists of (type, items)."""

    kind: int
    value: Any


class UnlikeError(ValueError):
    """The files have not the same rows."""


@dataclass(slots=True)
class _Merged:
    """What the footer of all is made of; elements of its lists as they are written."""

    rows: list[int] = field(default_factory=list)
    schema: bytearray = field(default_factory=bytearray)
    elements: int = 0
    children: int = 0
    orders: bytearray = field(default_factory=bytearray)
    order_count: int = 0
    chunks: list[bytearray] = field(default_factory=list)
    chunk_counts: list[int] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    last: dict[int, Typed] = field(default_factory=dict)


def merge(parts: Sequence[Path], target: Path) -> int:
    """Write the columns of all parts into one file, and say how many rows it has. The parts have
    the same groups of rows, and columns of different names. Each part goes as it is copied, so
    that the disk holds little more than one of both. Raises UnlikeError."""
    merged = _Merged()
    with target.open("wb") as file:
        file.write(_MAGIC)
        for part in parts:
            with part.open("rb") as source:
                footer, body_bytes = _footer(source)
                _add(merged, footer, file.tell() - len(_MAGIC))
                source.seek(len(_MAGIC))
                _copy(source, file, body_bytes)
            part.unlink()
        footer_bytes = _written(merged)
        file.write(footer_bytes + _LENGTH.pack(len(footer_bytes)) + _MAGIC)
    return sum(merged.rows)


def _footer(source: BinaryIO) -> tuple[dict[int, Typed], int]:
    tail = _LENGTH.size + len(_MAGIC)
    size_bytes = source.seek(0, 2)
    source.seek(size_bytes - tail)
    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    source.seek(size_bytes - tail - length)
    fields = _Reader(source.read(length)).struct()
    return fields, size_bytes - tail - length - len(_MAGIC)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        piece = source.read(min(count, _COPIED_AT_ONCE))
        if not piece:
            raise UnlikeError("a part is cut short")
        target.write(piece)
        count -= len(piece)


def _add(merged: _Merged, footer: dict[int, Typed], shift: int) -> None:
    groups = [each.value for each in _items(footer, _GROUPS)]
    rows = [group[_GROUP_ROWS].value for group in groups]
    if merged.last and rows != merged.rows:
        raise UnlikeError("the parts have different rows")
    if not merged.last:
        merged.rows = rows
        merged.chunks = [bytearray() for _ in rows]
        merged.chunk_counts, merged.sizes = [0] * len(rows), [[0, 0] for _ in rows]
    merged.last = footer
    root, *others = _items(footer, _SCHEMA)
    merged.children += root.value[_CHILDREN].value
    merged.elements += len(others)
    merged.schema += b"".join(map(_packed, others))
    orders = _items(footer, _ORDERS) if _ORDERS in footer else []
    merged.order_count += len(orders)
    merged.orders += b"".join(map(_packed, orders))
    for at, group in enumerate(groups):
        chunks = _items(group, _CHUNKS)
        merged.chunk_counts[at] += len(chunks)
        merged.sizes[at][0] += group[_GROUP_BYTES].value
        if _GROUP_PACKED_BYTES in group:
            merged.sizes[at][1] += group[_GROUP_PACKED_BYTES].value
        for chunk in chunks:
            _shift(chunk.value, _PLACES_OF_CHUNK, shift)
            _shift(chunk.value[_META].value, _PLACES_OF_META, shift)
            merged.chunks[at] += _packed(chunk)


def _items(fields: dict[int, Typed], number: int) -> list[Typed]:
    kind, values = fields[number].value
    return [Typed(kind, value) for value in values]


def _shift(fields: dict[int, Typed], numbers: Sequence[int], shift: int) -> None:
    for number in numbers:
        # 0: not there, as writers have it.
        if number in fields and fields[number].value:
            fields[number] = Typed(fields[number].kind, fields[number].value + shift)


def _written(merged: _Merged) -> bytes:
    """The footer: what does not grow with the columns is the last part's."""
    root = _items(merged.last, _SCHEMA)[0]
    root.value[_CHILDREN] = Typed(_I32, merged.children)
    groups = bytearray()
    for at, group in enumerate(each.value for each in _items(merged.last, _GROUPS)):
        own = {_GROUP_BYTES: merged.sizes[at][0], _GROUP_PACKED_BYTES: merged.sizes[at][1]}
        chunks = _list(_STRUCT, merged.chunk_counts[at], merged.chunks[at])
        # Where the group begins is where its first column does, which is not the last part's.
        rest = {n: each for n, each in group.items() if n not in {_CHUNKS, _GROUP_OFFSET}}
        rest |= {n: Typed(_I64, size) for n, size in own.items() if n in rest}
        groups += _struct(rest | {_CHUNKS: Typed(_LIST, chunks)})
    fields = dict(merged.last)
    schema = _packed(root) + merged.schema
    fields[_SCHEMA] = Typed(_LIST, _list(_STRUCT, merged.elements + 1, schema))
    fields[_GROUPS] = Typed(_LIST, _list(_STRUCT, len(merged.rows), groups))
    if merged.order_count:
        fields[_ORDERS] = Typed(_LIST, _list(_STRUCT, merged.order_count, merged.orders))
    return _struct(fields)


class _Reader:
    """Thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> dict[int, Typed]:
        fields: dict[int, Typed] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            value = kind == _TRUE if kind in {_TRUE, _FALSE} else self._value(kind)
            fields[number] = Typed(kind, value)
        return fields

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2 | 3:  # in a list, booleans are bytes
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._take(8)
            case 8:
                return self._take(self._unsigned())
            case 9 | 10:
                head = self._byte()
                count = self._unsigned() if head >> 4 == _LONG_LIST else head >> 4
                return head & 15, [self._value(head & 15) for _ in range(count)]
            case 12:
                return self.struct()
            case _:
                raise UnlikeError(f"type {kind} of Thrift is not known")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)


def _packed(typed: Typed) -> bytes:
    kind, value = typed
    if isinstance(value, bytearray):  # a list, written already
        return bytes(value)
    match kind:
        case 1 | 2 | 3:
            return bytes([value])
        case 4 | 5 | 6:
            return _unsigned(value << 1 ^ value >> 63)
        case 7:
            return bytes(value)
        case 8:
            return _unsigned(len(value)) + bytes(value)
        case 9 | 10:
            items = b"".join(_packed(Typed(value[0], each)) for each in value[1])
            return bytes(_list(value[0], len(value[1]), items))
        case _:
            return _struct(value)


def _struct(fields: dict[int, Typed]) -> bytes:
    packed, last = bytearray(), 0
    for number, typed in sorted(fields.items()):
        step = number - last
        head = step << 4 | typed.kind
        packed += bytes([head]) if step < 16 else bytes([typed.kind]) + _packed(Typed(_I16, number))
        if typed.kind not in {_TRUE, _FALSE}:
            packed += _packed(typed)
        last = number
    return bytes(packed) + b"\0"


def _list(kind: int, count: int, items: bytes | bytearray) -> bytearray:
    head = bytes([count << 4 | kind]) if count < _LONG_LIST else bytes([0xF0 | kind])
    more = b"" if count < _LONG_LIST else _unsigned(count)
    return bytearray(head + more + items)


def _unsigned(value: int) -> bytes:
    packed = bytearray()
    while value > 127:
        packed.append(value & 127 | 128)
        value >>= 7
    packed.append(value)
    return bytes(packed)
