"""The lines of a text file, and the rows of one that is CSV, each with its number from 1."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, TextIO

from jobs.errors import PermanentError

# As large as an object of JSON may be to DuckDB (2.0): a line is held as a whole.
MAX_CHARACTERS = 16 * 1024 * 1024


def numbered(text: TextIO) -> Iterator[tuple[int, str]]:
    """Raises PermanentError for a line that is too long."""
    number = 1
    while line := text.readline(MAX_CHARACTERS + 1):
        if len(line) > MAX_CHARACTERS:
            raise PermanentError(
                f"line {number}: it has more than {MAX_CHARACTERS} characters", code="bad_source"
            )
        yield number, line
        number += 1


def rows(text: TextIO, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Each with the line that it begins in; empty for a blank line. Raises PermanentError naming
    the line of a row that cannot be read."""
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader((line for _, line in numbered(text)), **dialect)
    begins = 1
    try:
        for row in reader:
            yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        why = f"a cell has more than {MAX_CHARACTERS} characters"
        if "field limit" not in str(error):
            why = str(error)
        raise PermanentError(f"line {begins}: {why}", code="bad_source") from None
