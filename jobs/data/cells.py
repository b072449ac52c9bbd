"""Cells of a CSV file as the values that a JSON Schema of the row speaks of."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_INTEGER = re.compile(r"[+-]?\d{1,300}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_BOOLEANS = {"true": True, "false": False}
# In this order, where a schema names several: what fits is never ambiguous but for text.
_ORDER = ("integer", "number", "boolean", "object", "array", "string")
_NUMBERS = {"integer", "number"}
_MAX_REFERENCES = 20


class Kinds:
    """Which types each column may have. `decimal` is what stands in front of decimals, and
    `thousands` between thousands."""

    def __init__(
        self, schema: dict[str, Any], decimal: str | None = None, thousands: str | None = None
    ) -> None:
        self._schema = schema
        self._decimal = decimal
        # In groups, or 2.5 would be 25; nor has 0.125 any.
        self._grouped = None
        if thousands is not None:
            mark = re.escape(thousands)
            self._grouped = re.compile(rf"\s*[+-]?[1-9]\d{{0,2}}({mark}\d{{3}})+(?!{mark}|\d).*")
        self._thousands = thousands or ""
        self._known: dict[str, list[str]] = {}

    def convert(self, row: dict[str, str | None]) -> dict[str, Any]:
        """An empty cell is absent. What does not convert stays text, for the schema to refuse."""
        return {name: self._value(name, text) for name, text in row.items() if text}

    def _value(self, name: str, text: str | None) -> Any:
        assert text is not None
        kinds = self._known.get(name)
        if kinds is None:
            kinds = self._known[name] = self._kinds(name)
        for kind in kinds:
            value = _as_kind(self._numeral(text) if kind in _NUMBERS else text, kind)
            if value is not None:
                return value
        return text

    def _numeral(self, text: str) -> str:
        """As JSON writes a number, if it is one."""
        if self._grouped is not None and self._grouped.fullmatch(text) is not None:
            text = text.replace(self._thousands, "")
        return text.replace(",", ".") if self._decimal == "," else text

    def _kinds(self, name: str) -> list[str]:
        whole = self._resolve(self._schema)
        properties = whole.get("properties")
        schema = properties.get(name) if isinstance(properties, dict) else None
        if schema is None:
            schema = whole.get("additionalProperties")
        named = set(self._named(schema, 0))
        return [kind for kind in _ORDER if kind in named]

    def _named(self, schema: Any, depth: int) -> list[str]:
        """The types that a schema names, in itself or in its choices."""
        schema = self._resolve(schema)
        if depth > _MAX_REFERENCES:
            return []
        kinds = schema.get("type", [])
        found = (
            [kinds] if isinstance(kinds, str) else list(kinds) if isinstance(kinds, list) else []
        )
        found += [_kind_of(each) for each in _list(schema.get("enum"))]
        if "const" in schema:
            found.append(_kind_of(schema["const"]))
        for word in ("anyOf", "oneOf", "allOf"):
            for each in _list(schema.get(word)):
                found += self._named(each, depth + 1)
        return found

    def _resolve(self, schema: Any) -> dict[str, Any]:
        """The schema that a local reference means; no other is followed."""
        for _ in range(_MAX_REFERENCES):
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                return schema
            schema = self._schema
            for part in reference[2:].split("/"):
                key = part.replace("~1", "/").replace("~0", "~")
                schema = schema.get(key) if isinstance(schema, dict) else None
        return {}


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _as_kind(text: str, kind: str) -> Any:
    """None when the text is no such value."""
    text = text.strip() if kind != "string" else text
    match kind:
        case "integer":
            return int(text) if _INTEGER.fullmatch(text) is not None else None
        case "number":
            return _number(text)
        case "boolean":
            return _BOOLEANS.get(text.lower())
        case "object" | "array":
            return _nested(text, dict if kind == "object" else list)
        case _:
            return text


def _number(text: str) -> float | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _nested(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None
