"""Values and names as DuckDB's SQL writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def name(value: str) -> str:
    """A column's or table's name."""
    return '"' + value.replace('"', '""') + '"'


def names(columns: Iterable[tuple[str, str]]) -> str:
    """Of columns, of which types are told too."""
    return ", ".join(name(each) for each, _ in columns)


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def literal(value: Any) -> str:
    """Texts, numbers, lists, and objects as STRUCTs."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(key)}: {literal(each)}" for key, each in value.items()) + "}"
    return text(str(value))


def call(function: str, path: str, options: Mapping[str, Any]) -> str:
    """A table function that reads a file."""
    named = "".join(f", {key}={literal(value)}" for key, value in options.items())
    return f"{function}({text(path)}{named})"
