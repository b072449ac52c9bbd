"""One DuckDB for one run: bounded in memory, disk and time, and locked before the client's SQL.

What it may not do is refused four times over: by its parse (guard.py), by the locked connection,
by the limits of the process that it runs in, and by the worker that ends that process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from jobs.context import JobContext
from jobs.data import (
    arrays,
    beginning,
    faults,
    lines,
    objects,
    reading,
    source,
    splitting,
    sql,
    wide,
)
from jobs.data.deadline import Deadline
from jobs.data.faults import LimitError, UnreadableError
from jobs.data.otherwise import otherwise
from jobs.data.params import QueryParams, SourceParams
from jobs.data.reading import Manner
from jobs.data.source import Source
from jobs.errors import PermanentError

T = TypeVar("T")

MIB = 1024 * 1024
MAX_THREADS = 4
# Each thread has room for 2,048 cells of each column: 16 MB for 500 columns, several times over.
WIDE_COLUMNS = 300
# What a row is taken to have, at least, when memory has been short: its groups get smaller.
NARROW_ROW_BYTES = 4096
# Of what the process may still take: the rest is for what DuckDB does not count, such as
# buffers of its readers and fragments.
MEMORY_SHARE = 0.65
# Of work that only passes rows on. With less, DuckDB gives pages back and asks for them anew all
# the time: 20 million rows to Parquet took a fifth longer in 192 MiB than in 250.
STREAMING_MEMORY_SHARE = 0.85
# Where the process has no limit: as much as a worker on a small host gives.
DEFAULT_MEMORY_BYTES = 256 * MIB
MAX_TEMP_BYTES = 8 * 1024 * MIB
# Of the disk that is free, so that others find some too.
TEMP_SHARE = 0.5
WATCH_SECONDS = 0.1
_ARENA_MAX = -8  # glibc's malloc.h


class Engine:
    """A connection for the time of a `with`. `folder` is the run's, for what it leaves on disk."""

    def __init__(
        self, context: JobContext, folder: Path, deadline: Deadline, *,
        threads: int = MAX_THREADS, memory_share: float = MEMORY_SHARE,
    ) -> None:  # fmt: skip
        self._context = context
        self._folder = folder
        self.deadline = deadline
        self._memory_share = memory_share
        self.is_narrow = False
        # Of `read_csv`, for a CSV file.
        self.options: dict[str, Any] = {}
        _keep_to_one_arena()
        # What the view `input` reads: itself it takes seconds for thousands of columns.
        self.input = "input"
        # Of a row of it, about; 0: nobody knows.
        self.row_bytes = 0
        temporary = folder / "temp"
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "threads": str(min(threads, len(os.sched_getaffinity(0)))),
                # For files across a network. With any, a COPY that is cut short may wait for ever:
                # AsyncWriteQueue::AbortWrites waits with a lock that a write under way needs
                # (DuckDB 2.0.0; test_data_cut_short.py tells when it is mended).
                "async_threads": "0",
                "memory_limit": f"{_memory_bytes(memory_share) // 1024}KiB",
                "temp_directory": str(temporary),
                "max_temp_directory_size": f"{_temp_bytes(folder) // 1024}KiB",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
            },
        )
        # Parquet is read from a disk of ours, where all columns of a group of rows at once take
        # memory and no time less.
        for setting in ("enable_progress_bar = true", "enable_progress_bar_print = false",
                        "TimeZone = 'UTC'", "disable_parquet_prefetching = true"):  # fmt: skip
            self.connection.execute(f"SET {setting}")
        if threads == 1:
            self.narrow()

    def narrow(self) -> None:
        """Take as little memory as can be, for more time.

        What its allocator has freed goes back at once, and not when ten seconds are over: RLIMIT_AS
        counts it. The peak of 10,000 columns was 440 to 512 MiB, and is 396 to 420 with this.
        """
        for setting in ("threads = 1", "allocator_flush_threshold = '1MiB'",
                        "allocator_bulk_deallocation_flush_threshold = '1MiB'"):  # fmt: skip
            self.connection.execute(f"SET {setting}")
        self.is_narrow = True
        if self._memory_share > MEMORY_SHARE:
            self._memory_share = MEMORY_SHARE
            limit = _memory_bytes(MEMORY_SHARE) // 1024
            self.connection.execute(f"SET memory_limit = '{limit}KiB'")

    def close(self) -> None:
        self.connection.close()

    @property
    def parts(self) -> Path:
        """A folder for what is put together from several files."""
        folder = self._folder / "parts"
        folder.mkdir(exist_ok=True)
        return folder

    def lock(self, *paths: Path) -> None:
        """From now on only these files and the `parts`, and no change of a setting."""
        names = sql.literal([str(path) for path in paths])
        self.connection.execute(f"SET allowed_paths = {names}")
        self.connection.execute(f"SET allowed_directories = {sql.literal([str(self.parts)])}")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def rows(self, statement: str) -> list[Any]:
        """Run to the end, watched."""
        with self.watched():
            return self.connection.execute(statement).fetchall()

    def write(self, select: str, target: Path, options: str) -> int:
        """Write what a SELECT gives into a file, and say how many rows that were. Raises
        LimitError when it is larger than an artifact may be."""
        statement = f"COPY (\n{select}\n) TO {sql.text(str(target))} ({options})"
        with self.watched(target):
            row = self.connection.execute(statement).fetchone()
        assert row is not None
        self.keep_size(target)
        return int(row[0])

    def keep_time(self) -> None:
        """For work beside DuckDB: raises LimitError when the time is over."""
        if (error := self.deadline.error) is not None:
            raise LimitError(error)

    def keep_size(self, target: Path) -> None:
        """Raises LimitError for a file that is larger than an artifact may be."""
        if target.stat().st_size > self._context.max_artifact_bytes:
            raise LimitError(self._too_large())

    @contextlib.contextmanager
    def watched(self, target: Path | None = None) -> Iterator[None]:
        """Tell how far it is, and cut it short at a limit."""
        ended = threading.Event()
        cut: list[PermanentError] = []

        def watch() -> None:
            while not ended.wait(WATCH_SECONDS):
                self._tell_progress()
                error = self._limit_met(target)
                if error is not None:
                    cut.append(error)
                    # Again and again: what is just beginning may not hear of it.
                    self.connection.interrupt()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        except duckdb.InterruptException:
            if cut:
                raise LimitError(cut[0]) from None
            raise
        finally:
            ended.set()
            watcher.join()

    def _tell_progress(self) -> None:
        percent = self.connection.query_progress()
        if percent > 0:
            self._context.progress(round(min(percent, 100.0), 1), 100, "percent")

    def _limit_met(self, target: Path | None) -> PermanentError | None:
        if target is not None:
            with contextlib.suppress(FileNotFoundError):
                if target.stat().st_size > self._context.max_artifact_bytes:
                    return self._too_large()
        return self.deadline.error

    def _too_large(self) -> PermanentError:
        limit = self._context.max_artifact_bytes
        return PermanentError(f"the answer has more than {limit} bytes", code="result_too_large")


def with_input(
    params: SourceParams, context: JobContext, work: Callable[[Engine], T], *outputs: Path,
    streams: bool = False,
) -> T:  # fmt: skip
    """Call `work` with an engine that has the rows as the view `input`, and is locked but for
    the outputs. Again, should the file prove to be other than its beginning said; and with less
    of everything, should memory have been short. `streams`: all rows are only passed on.

    Raises PermanentError and RetryLater; nothing of DuckDB's.
    """
    deadline = Deadline.of(context)
    with scratch(context) as folder:
        attempts = _Attempts(params, context, outputs, folder, deadline)
        found = lines.evened(source.find(params, context, folder), params.quote)
        manner = Manner(narrow=beginning.likely_columns(found) > WIDE_COLUMNS, streams=streams)
        while True:
            try:
                return attempts.run(work, arrays.readable(found, folder, deadline), manner)
            except UnreadableError as error:
                found, manner = otherwise(error, found, manner, params, deadline)
            except PermanentError as error:
                if error.code != "memory" or manner.narrow:
                    raise
                manner = replace(manner, narrow=True)
            for output in outputs:
                output.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Attempts:
    """What all attempts to read one file have in common."""

    params: SourceParams
    context: JobContext
    outputs: Sequence[Path]
    folder: Path
    deadline: Deadline

    def run(self, work: Callable[[Engine], T], file: Source, manner: Manner) -> T:
        columns = beginning.likely_columns(file)
        threads = 1 if manner.narrow else MAX_THREADS
        share = STREAMING_MEMORY_SHARE if manner.streams and not manner.narrow else MEMORY_SHARE
        is_opened = False
        engine = Engine(
            self.context, self.folder, self.deadline, threads=threads, memory_share=share
        )
        try:
            with contextlib.closing(engine):
                file, engine.input = self._opened(engine, file, manner)
                engine.connection.execute(f"CREATE VIEW input AS SELECT * FROM {engine.input}")
                columns = len(reading.columns_of(engine.connection, f"FROM {engine.input}"))
                if columns > WIDE_COLUMNS:
                    engine.narrow()
                engine.lock(file.path, *self.outputs)
                is_opened = True
                return work(engine)
        except LimitError as error:
            raise error.error from None
        except (duckdb.Error, MemoryError) as error:
            is_sql = is_opened and isinstance(self.params, QueryParams)
            meant = faults.of_duckdb(error, is_sql=is_sql)
            if isinstance(meant, UnreadableError):
                meant.options = engine.options
            raise _of_columns(meant, columns) from error
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            # There was none for its stack.
            raise _of_columns(faults.of_duckdb(MemoryError()), columns) from None

    def _opened(self, engine: Engine, file: Source, manner: Manner) -> tuple[Source, str]:
        """The file, and the call that reads it; another file where it has thousands of columns,
        of which DuckDB reads some without having room for all, or long pages in many."""
        engine.row_bytes = max(file.row_bytes, NARROW_ROW_BYTES if manner.narrow else 0)
        if file.kind == "parquet" and manner.narrow:
            file = splitting.regrouped(engine, file)
        elif beginning.likely_columns(file) > wide.MOST_COLUMNS:
            file = splitting.as_parquet(engine, file, self.params)
        if file.kind in {"json", "ndjson"}:
            with engine.watched():
                options = objects.options(engine.connection, file)
            if len(options["columns"]) <= wide.MOST_COLUMNS:
                return file, objects.table(file, options)
            engine.narrow()
            file = splitting.objects_as_parquet(engine, file, options)
        with engine.watched():
            table = reading.table(engine.connection, file, self.params, manner, self.deadline)
        engine.options = table.options
        return file, table.call


def _of_columns(error: Exception, columns: int) -> Exception:
    """Where there are many, they are why memory is short, and the client should know."""
    if columns <= WIDE_COLUMNS or not isinstance(error, PermanentError) or error.code != "memory":
        return error
    return PermanentError(f"{columns} columns need more memory than a job has", code="memory")


@contextlib.contextmanager
def scratch(context: JobContext) -> Iterator[Path]:
    """A folder on the run's disk, gone afterwards: the worker sees to it if this process dies."""
    if context.artifacts_folder is not None:
        Path(context.artifacts_folder).mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".data-", dir=context.artifacts_folder) as folder:
        yield Path(folder)


def _memory_bytes(share: float) -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return DEFAULT_MEMORY_BYTES
    left = limit - _own_bytes() - 80 * MIB
    return max(int(left * share), 32 * MIB)


@cache
def _own_bytes() -> int:
    """Addresses that this process has without an engine. What an earlier one leaves behind, its
    allocator gives to the next."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _temp_bytes(folder: Path) -> int:
    return min(MAX_TEMP_BYTES, int(shutil.disk_usage(folder).free * TEMP_SHARE))


def _keep_to_one_arena() -> None:
    """glibc reserves 64 MiB of addresses for each thread that allocates, which RLIMIT_AS counts:
    twelve threads of DuckDB took 650 MiB before the first row (glibc 2.36)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
