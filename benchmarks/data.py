"""What the service adds to work on data: `python -m benchmarks.data`.

Files of 2 and 20 million rows of CSV, queried, converted to Parquet and profiled: by jobs of a
running service, by bare DuckDB, and by Polars; in each round everybody has one turn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import processes
from benchmarks.circumstances import circumstances, leave
from benchmarks.contenders import CONTENDERS, PEERS, installed, versions
from benchmarks.figures import Figure, table
from benchmarks.load import API_KEY
from benchmarks.peers.data_bare import QUERY
from benchmarks.processes import Server, StartError

MILLION = 1_000_000
WORKS = ("query", "convert", "profile")
WHO = {"recado": "Recado, a job", "duckdb": "DuckDB, bare", "polars": "Polars"}
GOAL_SHARE, GOAL_SECONDS = 0.15, 0.150
MEMORY_MIB = 512
JOB_SECONDS = 600.0
# A look takes 0.6 ms: oftener, it would be in the way of what is measured.
_LOOK_SECONDS = 0.1
_ROWS = """
COPY (
    SELECT i AS id, TIMESTAMP '2024-01-01' + INTERVAL (i % 31536000) SECOND AS sold_at,
        'city ' || (hash(i) % 100) AS city, round((hash(i + 1) % 1000000) / 100, 2) AS amount,
        hash(i + 2) % 50 AS quantity, i % 7 = 0 AS returned,
        CASE WHEN i % 5 > 0 THEN 'customer ' || (hash(i + 3) % 100000) END AS customer
    FROM range({rows}) AS numbers(i)
) TO '{path}' (HEADER)
"""


class JobError(Exception):
    """A job of ours did not finish, or the answer is not the same."""


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of work. `peak_bytes` is the largest resident set of the process that did it."""

    who: str
    work: str
    rows: int
    seconds: float
    peak_bytes: int


def main() -> None:
    """Measure, print the page, write it and the raw data."""
    options = _options()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, leave)
    python = installed("with_polars", options.cache)
    sizes: dict[int, int] = {}
    try:
        with tempfile.TemporaryDirectory(dir=options.cache) as name, _Service(Path(name)) as ours:
            runs: list[Run] = []
            for rows in options.rows:
                source = Path(name) / f"{rows}.csv"
                duckdb.connect(config={"temp_directory": name}).execute(
                    _ROWS.format(rows=rows, path=source)
                )
                sizes[rows] = source.stat().st_size
                runs += _measured(ours, python, source, rows, options.rounds)
                source.unlink()
    except (JobError, StartError) as error:
        raise SystemExit(f"benchmark: {error}") from error
    text = _page(runs, sizes, options.rounds, python)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "data.md").write_text(text)
    (options.cache / "data.json").write_text(json.dumps([asdict(run) for run in runs], indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two million rows, one round")
    parser.add_argument("--rounds", type=int, help="rounds (3)")
    parser.add_argument("--output", type=Path, help="folder of the page (the cache folder)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "recado-bench",
        help="folder of the peers' environments and the raw data",
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.rows = [2 * MILLION] if options.quick else [2 * MILLION, 20 * MILLION]
    options.output = options.output or options.cache
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


def _measured(ours: _Service, python: Path, source: Path, rows: int, rounds: int) -> Iterator[Run]:
    upload_id = ours.upload(source)
    target = source.with_suffix(".out")
    for number in range(rounds):
        for work in WORKS:
            order = list(WHO)[number % 3 :] + list(WHO)[: number % 3]
            for who in order:
                if who == "recado":
                    seconds, peak = ours.run(work, upload_id)
                else:
                    own = python if who == "polars" else Path(sys.executable)
                    seconds, peak = _bare(own, who, work, source, target)
                print(who, work, f"{rows:,} rows  {seconds:.2f} s  {peak >> 20} MiB",
                      file=sys.stderr, flush=True)  # fmt: skip
                yield Run(who, work, rows, seconds, peak)
    target.unlink(missing_ok=True)


def _bare(python: Path, who: str, work: str, source: Path, target: Path) -> tuple[float, int]:
    command = [str(python), "data_bare.py", who, work, str(source), str(target)]
    process = subprocess.Popen(command, cwd=PEERS, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise JobError(f"{who} could not do {work}")
    return float(printed), usage.ru_maxrss * 1024


class _Service:
    """Web process, worker and Valkey, as deployed; and its only client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> _Service:
        with self._stack as stack:
            valkey = stack.enter_context(processes.valkey(self._folder, "everysec"))
            recado = next(each for each in CONTENDERS if each.name == "recado")
            port = processes.free_port()
            environment = {
                **recado.environment(f"redis://127.0.0.1:{valkey.port}/0", port, self._folder),
                "MAX_UPLOAD_BYTES": str(4 << 30),
                "MAX_ARTIFACT_BYTES": str(4 << 30),
                "CHILD_MEMORY_BYTES": str(MEMORY_MIB << 20),
            }
            python, folder = Path(sys.executable), recado.folder
            command, log = recado.command(python, port), self._folder / "web.log"
            self._web: Server = stack.enter_context(
                processes.web(command, folder, environment, port, log)
            )
            self._worker = stack.enter_context(
                processes.running(
                    [str(python), "-m", "app.worker"], folder, environment,
                    self._folder / "worker.log",
                )
            )  # fmt: skip
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def upload(self, source: Path) -> str:
        with source.open("rb") as file:
            answer = self._ask("POST", "/v1/uploads", file, {
                "Content-Type": "text/csv", "Content-Length": str(source.stat().st_size),
            })  # fmt: skip
        return str(answer["id"])

    def run(self, work: str, upload_id: str) -> tuple[float, int]:
        """Seconds from the submission to the client's knowing of its end, and the peak memory."""
        params: dict[str, Any] = {"upload_id": upload_id}
        if work == "query":
            params["sql"] = QUERY
        elif work == "convert":
            params["output_format"] = "parquet"
        body = json.dumps(
            {"type": f"data.{work}", "params": params, "options": {"timeout": JOB_SECONDS}}
        )
        headers = {"Content-Type": "application/json"}
        with _watched(self._worker) as peak:
            began = time.monotonic()
            job = self._ask("POST", "/v1/jobs", body, headers)
            while job["status"] not in {"finished", "failed", "canceled", "stopped"}:
                job = self._ask("GET", job["links"]["self"], None, {"Prefer": "wait=25"})
            seconds = time.monotonic() - began
        if job["status"] != "finished":
            raise JobError(f"data.{work} is {job['status']}: {job['error']}")
        self._ask("DELETE", job["links"]["self"], None, {})
        return seconds, peak[0]

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._web.port, timeout=JOB_SECONDS)
        try:
            headers = {**headers, "Authorization": f"Bearer {API_KEY}"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise JobError(f"{method} {path} was answered {answer.status}: {text[:500]!r}")
        return json.loads(text) if text else None


@contextmanager
def _watched(worker: int) -> Iterator[list[int]]:
    """The largest resident set of any process that the worker has, beside itself, in bytes."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            peak[0] = max(peak[0], *(_peak_bytes(pid) for pid in _descendants(worker)), 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, file.read_text().split()):
                yield child
                yield from _descendants(child)


def _peak_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _page(runs: Sequence[Run], sizes: dict[int, int], rounds: int, polars: Path) -> str:
    about = [
        f"- medians of {rounds} interleaved rounds (lowest–highest); a child of the worker may"
        f" take {MEMORY_MIB} MiB; seconds of a job are from its submission over HTTP to the"
        " client's knowing of its end, those of the others from the first call of the library"
        " to the last",
        f"- duckdb {duckdb.__version__}, polars {versions(('polars',), polars)['polars']}",
    ]
    rows = [["rows", "work", "", "s", "peak MiB", "more than DuckDB"]]
    goals = [["goal", "measured", "reached"]]
    for count, size in sizes.items():
        for work in WORKS:
            bare = _figure(runs, "duckdb", work, count)
            for who, label in WHO.items():
                seconds = _figure(runs, who, work, count)
                more = seconds.middle - bare.middle
                rows.append([
                    f"{count:,} ({size >> 20} MiB)", work, label, seconds.text(".2f"),
                    f"{max(_peaks(runs, who, work, count)) >> 20}",
                    f"{more:+.2f} s ({more / bare.middle:+.0%})" if who == "recado" else "",
                ])  # fmt: skip
            over = _figure(runs, "recado", work, count).middle - bare.middle
            most = GOAL_SHARE * bare.middle + GOAL_SECONDS
            goals.append([
                f"{work}, {count:,} rows: at most {GOAL_SHARE:.0%} + {GOAL_SECONDS * 1000:.0f} ms"
                " over bare DuckDB",
                f"{over:+.2f} s of {most:.2f} s", "yes" if over <= most else "no",
            ])  # fmt: skip
    lines = ["# Data jobs", "", *circumstances("benchmarks.data", about), "", *table(rows), ""]
    return "\n".join([*lines, "## Goals", "", *table(goals), ""])


def _figure(runs: Sequence[Run], who: str, work: str, rows: int) -> Figure:
    return Figure.of([run.seconds for run in _of(runs, who, work, rows)])


def _peaks(runs: Sequence[Run], who: str, work: str, rows: int) -> list[int]:
    return [run.peak_bytes for run in _of(runs, who, work, rows)]


def _of(runs: Sequence[Run], who: str, work: str, rows: int) -> list[Run]:
    return [run for run in runs if (run.who, run.work, run.rows) == (who, work, rows)]


if __name__ == "__main__":
    main()
