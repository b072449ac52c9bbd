"""The page and the picture of benchmarks/worker.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import bars
from benchmarks.bursts import Burst
from benchmarks.figures import Figure, table
from benchmarks.work_contenders import EVERYBODY
from benchmarks.worker_results import (
    HALF,
    IDLE,
    SLOW_MS,
    WorkerResults,
    figure,
    goals,
    rate,
    wire_limit,
)

_LABELS = {each.name: each.label for each in EVERYBODY}
_OURS = {each.name for each in EVERYBODY if each.peer is None}


def page(results: WorkerResults, circumstances: Sequence[str]) -> str:
    """Markdown that reads well in a terminal too."""
    parts = ["# Workers", "", *circumstances, ""]
    for title, rows in (
        ("No-op jobs, one worker", _noop(results)),
        ("E-mails, 64 connections", _mail(results)),
        ("From acknowledged submit to the function's first line", _latency(results)),
        ("Depth: calls of 32 jobs of 1 KB", _depth(results)),
        ("Memory a queued job, 1 KB e-mail", _bytes(results)),
        ("One worker process and two", _workers(results)),
        ("Goals", _goals(results)),
    ):
        if rows:
            parts += [f"## {title}", "", *table(rows), ""]
    return "\n".join(parts)


def draw(results: WorkerResults, caption: str) -> str:
    """Whatever parts were measured, one panel each."""
    panels: list[tuple[str, Sequence[tuple[str, Figure, bool]], str]] = []
    if results.noop:
        rows = [_bar(name, figure(found, rate)) for name, found in results.noop.items()]
        panels.append(("No-op jobs/s, one worker (longer is better)", rows, ",.0f"))
        cpu = [_bar(name, _cpu(found)) for name, found in results.noop.items()]
        panels.append(("Worker CPU a no-op job, µs (shorter is better)", cpu, ",.0f"))
    for (name, milliseconds), found in results.mail.items():
        row = _bar(name, figure(found, rate))
        title = f"E-mails/s to a server that takes {milliseconds} ms a reply (longer is better)"
        panels = _with_row(panels, title, row, ",.0f")
    for (name, load), latencies in results.latency.items():
        row = _bar(name, Figure.of([each.p50 * 1e3 for each in latencies]))
        title = f"Submit to start in ms, median, {load} (shorter is better)"
        panels = _with_row(panels, title, row, ".1f")
    return bars.picture(
        "Workers",
        [(bars.panel(title, rows, form), bars.panel_height(rows)) for title, rows, form in panels],
        caption,
    )


def _with_row(
    panels: list[tuple[str, Sequence[tuple[str, Figure, bool]], str]],
    title: str,
    row: tuple[str, Figure, bool],
    form: str,
) -> list[tuple[str, Sequence[tuple[str, Figure, bool]], str]]:
    known = [each for each in panels if each[0] == title]
    rows = [*known[0][1], row] if known else [row]
    return [each for each in panels if each[0] != title] + [(title, rows, form)]


def _bar(name: str, found: Figure) -> tuple[str, Figure, bool]:
    return _LABELS[name], found, name in _OURS


def _cpu(found: Sequence[Burst]) -> Figure:
    return figure(found, lambda each: each.worker_cpu * 1e6)


def _cores(found: Sequence[Burst], cpu: Callable[[Burst], float]) -> str:
    return figure(found, lambda each: cpu(each) * each.rate).text(".2f")


def _burst_cells(found: Sequence[Burst]) -> list[str]:
    return [
        figure(found, rate).text(),
        _cpu(found).text(),
        figure(found, lambda each: each.valkey_cpu * 1e6).text(),
        _cores(found, lambda each: each.worker_cpu),
        _cores(found, lambda each: each.valkey_cpu),
        str(sum(each.run_twice for each in found)),
    ]


_BURST_HEADING = [
    "jobs/s", "worker CPU µs/job", "Valkey CPU µs/job", "cores: worker", "cores: Valkey",
    "run twice",
]  # fmt: skip


def _noop(results: WorkerResults) -> list[list[str]]:
    rows = [[_LABELS[name], *_burst_cells(found)] for name, found in results.noop.items()]
    return [["", *_BURST_HEADING], *rows] if rows else []


def _mail(results: WorkerResults) -> list[list[str]]:
    rows = []
    for (name, milliseconds), found in results.mail.items():
        of_limit = "–"
        if milliseconds:
            of_limit = figure(found, lambda each: each.rate / wire_limit(each, SLOW_MS)).text(".3f")
        waits = f"{found[0].waits_a_mail:.2f}"
        rows.append([_LABELS[name], f"{milliseconds} ms", waits, of_limit, *_burst_cells(found)])
    heading = ["", "a reply takes", "replies a mail", "of the limit", *_BURST_HEADING]
    return [heading, *rows] if rows else []


def _latency(results: WorkerResults) -> list[list[str]]:
    rows = [
        [
            _LABELS[name], load, Figure.of([each.rate for each in found]).text(),
            Figure.of([each.p50 * 1e3 for each in found]).text(".2f"),
            Figure.of([each.p99 * 1e3 for each in found]).text(".2f"),
        ]
        for load in (IDLE, HALF)
        for (name, its), found in results.latency.items()
        if its == load
    ]  # fmt: skip
    return [["", "", "jobs/s", "p50 ms", "p99 ms"], *rows] if rows else []


def _depth(results: WorkerResults) -> list[list[str]]:
    rows = [
        [f"{each.depth:,}", *(f"{value:,.0f}" for value in (each.submits, each.claims, each.ends)),
         f"{each.bytes_a_job:,.0f}"]
        for each in results.depths
    ]  # fmt: skip
    heading = ["queued", "submits/s", "claims/s", "ends/s", "bytes a job"]
    return [heading, *rows] if rows else []


def _bytes(results: WorkerResults) -> list[list[str]]:
    rows = [[_LABELS[name], f"{size:,.0f}"] for name, size in results.bytes_a_job.items()]
    return [["", "bytes"], *rows] if rows else []


def _workers(results: WorkerResults) -> list[list[str]]:
    rows = [[str(count), *_burst_cells(found)] for count, found in results.workers.items()]
    return [["processes", *_BURST_HEADING], *rows] if rows else []


def _goals(results: WorkerResults) -> list[list[str]]:
    rows = [
        [
            each.text,
            f"{'≥' if each.at_least else '≤'} {each.bound:g}",
            each.measured.text(".2f" if each.bound < 100 else ",.0f"),
            "–" if each.by_cpu is None else f"{each.by_cpu:.2f}",
            "yes" if each.is_met else "no",
        ]
        for each in goals(results)
    ]
    return [["", "goal", "measured, by round", "by worker CPU", "reached"], *rows] if rows else []
