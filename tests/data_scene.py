"""Data jobs called as functions, with a file in their hands and a folder for what they leave."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from jobs import catalog
from jobs.context import JobContext
from jobs.errors import JobError
from jobs.files import LocalFile

UPLOAD = "u" * 20


@dataclass
class Done:
    """How a run ended: `result` and its artifacts, or `error`."""

    result: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    content_types: dict[str, str] = field(default_factory=dict)
    error: JobError | None = None
    progress: list[tuple[float, float | None, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def code(self) -> str | None:
        return None if self.error is None else self.error.code

    @property
    def first(self) -> bytes:
        """The first artifact."""
        return next(iter(self.artifacts.values()))

    @property
    def cells(self) -> list[list[str]]:
        """The first artifact, a CSV file."""
        return list(csv.reader(io.StringIO(self.first.decode(), newline="")))

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.result["rows"]
        return rows


def run(
    operation: str,
    data: bytes | str | Path | None = None,
    /,
    *,
    filename: str | None = None,
    content_type: str = "application/octet-stream",
    max_artifact_bytes: int = 512 * 1024 * 1024,
    timeout_seconds: float = 600.0,
    **params: Any,
) -> Done:
    """One `data.*` job over a file, or one with these contents, or over `rows` among the params."""
    job_type = catalog.load().get(f"data.{operation}")
    done = Done()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upload, outputs = folder / "upload", folder / "run"
        if isinstance(data, Path):
            upload.symlink_to(data)
        elif data is not None:
            upload.write_bytes(data.encode() if isinstance(data, str) else data)
        if data is not None:
            params["upload_id"] = UPLOAD
        context = JobContext(
            job_type=job_type.name,
            timeout_seconds=timeout_seconds,
            artifacts_folder=str(outputs),
            max_artifact_bytes=max_artifact_bytes,
            fetch_file=lambda _, __: LocalFile(upload, filename, content_type),
            report_progress=lambda *told: done.progress.append((told[0], told[1], told[2])),
        )
        try:
            done.result = job_type.function(job_type.params.model_validate(params), context)
        except JobError as error:
            done.error = error
        for each in context.artifacts:
            if done.error is None:
                done.artifacts[each.name] = (outputs / each.name).read_bytes()
                done.content_types[each.name] = each.content_type
        names = {each.name for each in context.artifacts}
        if outputs.exists():
            done.left = [each.name for each in outputs.iterdir() if each.name not in names]
        json.dumps(done.result, allow_nan=False)  # or it could not be stored
    return done


def table(data: bytes, suffix: str) -> list[tuple[Any, ...]]:
    """What a plain DuckDB reads from a file."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / f"file.{suffix}"
        path.write_bytes(data)
        return connection.execute(f"FROM '{path}'").fetchall()
