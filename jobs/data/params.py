"""The params of `data.*`: where the rows come from, how to read them, and what to do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

from jobs.files import MOST_CARRIED_BYTES, FileNeeds, NamedFile, NamesFiles

MAX_SQL = 100_000
MAX_COLUMN_NAME = 1_000
MAX_KEYS = 100
MAX_TYPES = 1_000
# How large an upload may be is settled when it is uploaded.
_ANY_SIZE = 1 << 62
_ID_PATTERN = r"^[A-Za-z0-9_-]{20,40}$"
# One character of ASCII that is neither letter, digit nor line break.
_DELIMITER = r"^[\t !#-/:-@\[-`{-~]$"
_QUOTE = r"^[!-/:-@\[-`{-~]?$"
_DATE_FORMAT = r"^[%A-Za-z0-9 /.,:-]+$"

SourceFormat = Literal[
    "csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "tsv.zst", "json", "json.gz", "json.zst",
    "ndjson", "ndjson.gz", "ndjson.zst", "parquet", "parquet.gz", "parquet.zst",
]  # fmt: skip
OutputFormat = Literal["csv", "json", "ndjson", "parquet"]
Encoding = Literal["utf-8", "utf-16", "latin-1", "windows-1252"]
CellType = Literal["text", "integer", "number", "boolean", "date", "time", "timestamp"]


def _check_encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "surrogate", "has half of a surrogate pair, which is no character"
        ) from None
    return value


def _check_rows(rows: list[dict[str, JsonValue]]) -> list[dict[str, JsonValue]]:
    try:
        to_json(rows)
    except (PydanticSerializationError, UnicodeEncodeError):
        raise PydanticCustomError(
            "surrogate", "has half of a surrogate pair, which is no character"
        ) from None
    return rows


_Id = Annotated[str, Field(strict=True, pattern=_ID_PATTERN)]
ColumnName = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=MAX_COLUMN_NAME),
    AfterValidator(_check_encodable),
]
_OF_FILES = ("format", "delimiter", "quote", "decimal", "encoding", "header", "types",
             "date_format", "ragged")  # fmt: skip


def _one_source() -> dict[str, Any]:
    """JSON Schema's own words for what `SourceParams._check_source` says.

    Each choice rules out the others by itself: schemathesis takes minutes for a `not`.
    """
    kinds = {"upload_id": "string", "job_id": "string", "rows": "array"}
    nothing = {"type": "null"}
    of_rows = dict.fromkeys(_OF_FILES, nothing)
    return {
        "anyOf": [
            {
                "required": [name],
                "properties": dict.fromkeys(kinds, nothing)
                | {name: {"type": kind}}
                | (of_rows if name == "rows" else {}),
            }
            for name, kind in kinds.items()
        ]
    }


class SourceParams(NamesFiles, BaseModel):
    """The rows, from one of `upload_id`, `job_id` and `rows`, and how the file is written.

    What is not told of a file is found out from its name and content.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_one_source())

    upload_id: _Id | None = None
    job_id: Annotated[
        _Id | None,
        Field(description="The first artifact of that job, when it has finished."),
    ] = None
    rows: (
        Annotated[
            list[dict[str, JsonValue]],
            Field(min_length=1, description="Inline, for small data."),
            AfterValidator(_check_rows),
        ]
        | None
    ) = None
    format: Annotated[
        SourceFormat | None, Field(description="Default: told by the file's name and content.")
    ] = None
    delimiter: Annotated[
        Annotated[str, Field(strict=True, pattern=_DELIMITER)] | None,
        Field(description="Between the cells of a CSV file."),
    ] = None
    quote: Annotated[
        Annotated[str, Field(strict=True, pattern=_QUOTE)] | None,
        Field(description="Around cells of a CSV file; empty: quotes are text."),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Field(description="In front of a CSV file's decimals.")
    ] = None
    encoding: Annotated[Encoding | None, Field(description="Of a text file.")] = None
    header: Annotated[
        Annotated[bool, Field(strict=True)] | None,
        Field(description="Whether a CSV file's first line names the columns."),
    ] = None
    types: Annotated[
        Annotated[dict[ColumnName, CellType], Field(min_length=1, max_length=MAX_TYPES)] | None,
        Field(
            description="Columns of a CSV file that are not what they look like: as `text` a code"
            " keeps the zeros in front."
        ),
    ] = None
    date_format: Annotated[
        Annotated[str, Field(strict=True, max_length=50, pattern=_DATE_FORMAT)] | None,
        Field(description="Of a CSV file's days, as `%d/%m/%Y`."),
    ] = None
    ragged: Annotated[
        Literal["fail", "pad"] | None,
        Field(
            description="A CSV file's lines with too few or too many cells: the job fails, naming"
            " the line (the default), or missing cells are null and those too many dropped."
        ),
    ] = None

    @model_validator(mode="after")
    def _check_source(self) -> SourceParams:
        if sum(each is not None for each in (self.upload_id, self.job_id, self.rows)) != 1:
            raise PydanticCustomError("source", "needs one of `upload_id`, `rows` and `job_id`")
        if self.rows is not None:
            for name in _OF_FILES:
                if getattr(self, name) is not None:
                    raise PydanticCustomError(
                        "source", "has `{name}`, which is of files, beside `rows`", {"name": name}
                    )
        if self.quote and self.quote == self.delimiter:
            raise PydanticCustomError("source", "has the same `quote` and `delimiter`")
        return self

    def file_needs(self) -> FileNeeds | None:
        """See jobs/files.py; `rows` that do not fit into the job's record go to storage."""
        if self.rows is None:
            return FileNeeds([NamedFile((), self.upload_id, self.job_id)], most_bytes=_ANY_SIZE)
        size_bytes = len(to_json(self.rows))
        if size_bytes <= MOST_CARRIED_BYTES:
            return None
        carried = NamedFile((), carried_bytes=size_bytes, carried_field="rows")
        return FileNeeds([carried], most_bytes=_ANY_SIZE)


class ProfileParams(SourceParams):
    """What to look at."""


class QueryParams(SourceParams):
    """One SELECT over the table `input`."""

    sql: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=MAX_SQL,
            description="One SELECT, in DuckDB's SQL, over the table `input`.",
        ),
        AfterValidator(_check_encodable),
    ]
    output_format: OutputFormat = "csv"


class ConvertParams(SourceParams):
    """The same rows in another format."""

    output_format: OutputFormat


class ValidateParams(SourceParams):
    """Each row against a JSON Schema."""

    row_schema: Annotated[
        dict[str, JsonValue],
        Field(alias="schema", description="JSON Schema (draft 2020-12) of one row, an object."),
    ]


class DedupeParams(SourceParams):
    """One row of those with the same keys."""

    keys: Annotated[
        list[ColumnName],
        Field(min_length=1, max_length=MAX_KEYS, description="Columns that make rows the same."),
    ]
    keep: Annotated[Literal["first", "last"], Field(description="In the order of the source.")] = (
        "first"
    )
    output_format: OutputFormat = "csv"
