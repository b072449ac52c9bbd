"""How a JSON file is read: an array of objects, or an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

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
    try:
        columns = columns_of(connection, f"FROM {call}")
    except duckdb.NotImplementedException as error:
        if "Duplicate name" not in str(error):
            raise
        return _of_nested_alike(connection, source, found)
    if not columns:
        raise PermanentError("the objects have no field", code="empty_source")
    if columns == [("json", "JSON")]:
        _check_objects(connection, source)
    return found | {"columns": dict(columns)}


def table(source: Source, options: Options) -> str:
    """The call that reads the objects. Fields that are alike but for their case it finds by itself
    only: the second is given another name, by which, told, it would look for it in vain (2.0)."""
    if are_alike(options["columns"]):
        options = {key: value for key, value in options.items() if key != "columns"}
    return sql.call("read_json", str(source.path), options)


def are_alike(columns: Iterable[str]) -> bool:
    """Whether some name may be one that was given: that of another, and a number."""
    known = {name.lower() for name in columns}
    return any(
        base.lower() in known and number.isdecimal()
        for base, mark, number in (name.rpartition("_") for name in columns)
        if mark
    )


def _of_nested_alike(
    connection: duckdb.DuckDBPyConnection, source: Source, found: Options
) -> Options:
    """The options where names within a field differ in case only, as those of no STRUCT may
    (DuckDB 2.0): that field is JSON, all others are what all objects have."""
    shallow = found | {"maximum_depth": 1}
    path = str(source.path)
    columns = dict(columns_of(connection, f"FROM {sql.call('read_json', path, shallow)}"))
    if are_alike(columns):
        return shallow | {"columns": columns}
    call = sql.call("read_json", path, found | {"columns": columns})
    kinds = ", ".join(f"json_group_structure({sql.name(name)})::VARCHAR" for name in columns)
    row = connection.execute(f"SELECT {kinds} FROM {call}").fetchone()
    assert row is not None
    return found | {
        "columns": {
            name: _type_of(json.loads(kind)) for name, kind in zip(columns, row, strict=True)
        }
    }


def _type_of(structure: Any) -> str:
    """DuckDB's type of a structure as `json_group_structure` tells it."""
    if isinstance(structure, list):
        inner = _type_of(structure[0])
        return "JSON" if inner == "JSON" else f"{inner}[]"
    if isinstance(structure, str):
        return {"UBIGINT": "BIGINT", "NULL": "JSON"}.get(structure, structure)
    kinds = {name: _type_of(inner) for name, inner in structure.items()}
    if not kinds or len({name.lower() for name in kinds}) < len(kinds):
        return "JSON"
    return f"STRUCT({', '.join(f'{sql.name(name)} {kind}' for name, kind in kinds.items())})"


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
