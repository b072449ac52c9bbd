"""`data.validate`: each row against a JSON Schema; those that do not fit, with line and reason."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

from jobs.context import JobContext
from jobs.data import cells, records, values
from jobs.data.deadline import Deadline
from jobs.data.params import ValidateParams
from jobs.errors import PermanentError

SHOWN_ERRORS = 100
MAX_REASON = 500
# Faults of one row that its reason names.
MAX_FAULTS = 10
PROGRESS_ROWS = 5_000


class Fault(NamedTuple):
    """What is wrong with a row; `pointer` into it, empty for the row as a whole."""

    pointer: str
    message: str


class Rejects:
    """The file of rows that do not fit, and the first faults for the result."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(["line", "reason", "row"])
        self.count = 0
        self.shown: list[dict[str, Any]] = []

    def add(self, row: records.Row, faults: list[Fault]) -> None:
        # A pointer in front: no reason begins like a formula.
        reason = "; ".join(f"{each.pointer or 'row'}: {each.message}" for each in faults)
        self._writer.writerow([row.line, reason, json.dumps(row.value, ensure_ascii=False)])
        self.count += 1
        if self._file.tell() > self._limit_bytes:
            raise PermanentError(
                f"the rejects have more than {self._limit_bytes} bytes", code="result_too_large"
            )
        for each in faults:
            if len(self.shown) < SHOWN_ERRORS:
                place = {"line": row.line, "pointer": each.pointer, "message": each.message}
                self.shown.append(place)

    def close(self) -> None:
        self._file.close()


def run(params: ValidateParams, context: JobContext) -> dict[str, Any]:
    """See `jobs.data.validate`."""
    validator = _validator(params.row_schema)
    rejects = Rejects(
        context.new_artifact("rejects.csv", "text/csv; charset=utf-8"), context.max_artifact_bytes
    )
    row_count, deadline = 0, Deadline.of(context)
    try:
        with records.of(params, context, deadline) as found:
            kinds = cells.Kinds(params.row_schema, found.decimal, found.thousands)
            for row in found.rows:
                row_count += 1
                deadline.keep()
                faults = _faults(row, validator, kinds)
                if faults:
                    rejects.add(row, faults)
                if row_count % PROGRESS_ROWS == 0:
                    context.progress(row_count, None, "rows")
    finally:
        rejects.close()
    result = {
        "row_count": row_count,
        "valid": row_count - rejects.count,
        "invalid": rejects.count,
        "errors": rejects.shown,
    }
    return values.that_fit(result, "errors")


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(schema, offline=True, validate_formats=True)
    except (ValueError, TypeError, jsonschema_rs.ReferencingError) as error:
        why = str(error).partition("\n")[0][:MAX_REASON]
        raise PermanentError(f"the schema cannot be used: {why}", code="bad_schema") from None


def _faults(
    row: records.Row, validator: jsonschema_rs.Validator, kinds: cells.Kinds
) -> list[Fault]:
    if row.fault is not None:
        return [Fault("", row.fault)]
    value = kinds.convert(row.value) if row.is_text else row.value
    if validator.is_valid(value):
        return []
    return list(_first(validator.iter_errors(value)))


def _first(errors: Iterable[jsonschema_rs.ValidationError]) -> Iterator[Fault]:
    for _, error in zip(range(MAX_FAULTS), errors, strict=False):
        pointer = "".join(
            "/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path
        )
        yield Fault(pointer, error.message[:MAX_REASON])
