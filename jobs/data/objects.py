"""How a JSON file is read: an array of objects, or an object a line."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from jobs.data import lines, sql
from jobs.data.reading import Options, columns_of
from jobs.data.source import Source
from jobs.errors import PermanentError


def texts(source: Source) -> str:
    """The call that gives each object of a JSON file as text. Raises PermanentError."""
    return sql.call("read_json_objects", str(source.path), _options(source))


def options(connection: duckdb.DuckDBPyConnection, source: Source) -> Options:
    """All options of `read_json` for this file, `columns` among them.

    By all objects: a field that the first 20,000 lack would be left out without a word (2.0). That
    takes about as long as reading them, 11 ms of CPU a megabyte.
    """
    # Else objects of more than 200 fields are one column, a MAP.
    found = _options(source) | {"map_inference_threshold": -1, "sample_size": -1}
    call = sql.call("read_json", str(source.path), found)
    columns = columns_of(connection, f"FROM {call}")
    if not columns:
        raise PermanentError("the objects have no field", code="empty_source")
    if columns == [("json", "JSON")]:
        _check_objects(connection, source)
    return found | {"columns": dict(columns)}


def table(source: Source, options: Options) -> str:
    """The call that reads the objects. Fields that are alike but for their case it finds by itself
    only: the second is given another name, by which, told, it would look for it in vain (2.0)."""
    columns: dict[str, str] = options["columns"]
    if _are_alike(columns):
        options = {key: value for key, value in options.items() if key != "columns"}
    return sql.call("read_json", str(source.path), options)


def _are_alike(columns: Iterable[str]) -> bool:
    """Whether some name may be one that was given: that of another, and a number."""
    known = {name.lower() for name in columns}
    return any(
        base.lower() in known and number.isdecimal()
        for base, mark, number in (name.rpartition("_") for name in columns)
        if mark
    )


def _check_objects(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Where some value is no object, all of them become one column. Raises PermanentError for the
    first that is none; null stands for an object without fields."""
    if source.kind == "ndjson":
        with source.text() as text:
            for number, line in lines.numbered(text):
                if not line.lstrip().startswith(("{", "null")) and line.strip():
                    raise PermanentError(f"line {number}: it is no object", code="bad_source")
    numbered = f"SELECT json_type(json) AS kind, row_number() OVER () AS place FROM {texts(source)}"
    row = connection.execute(
        f"SELECT min(place) FROM ({numbered}) WHERE kind NOT IN ('OBJECT', 'NULL')"
    ).fetchone()
    if row is not None and row[0] is not None:
        raise PermanentError(f"row {row[0]}: it is no object", code="bad_source")


def _options(source: Source) -> Options:
    first = inner = source.sample.lstrip()[:1]
    if first == b"[":
        inner = source.sample.lstrip()[1:].lstrip()[:1]
        if inner == b"]":
            raise PermanentError("the array has no object in it", code="empty_source")
        shape = "array"
    else:
        shape = "newline_delimited" if source.kind == "ndjson" else "unstructured"
    if inner != b"{":
        raise PermanentError(
            "line 1: JSON must be an array of objects, or an object a line", code="bad_source"
        )
    options: Options = {"format": shape}
    if source.compression != "none":
        options["compression"] = source.compression
    return options
