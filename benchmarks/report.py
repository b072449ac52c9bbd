"""Figures from bursts: medians with ranges, ratios round by round, and the page that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Figure, table
from benchmarks.load import Load

OURS = "recado"
MANY_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Measurement:
    """One burst: of whom, how Valkey wrote, and in which round."""

    contender: str
    fsync: str
    round: int
    load: Load


@dataclass(frozen=True, slots=True)
class Goal:
    """What ours divided by another's is to reach."""

    text: str
    other: str
    clients: int
    value: Callable[[Load], float]
    bound: float
    at_least: bool

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def _rate(load: Load) -> float:
    return load.rate


def _web_cpu(load: Load) -> float:
    return load.web_cpu_us


def _p50(load: Load) -> float:
    return load.p50_us


GOALS = (
    Goal("requests/s, 64 clients, of no queue", "no_queue", MANY_CLIENTS, _rate, 0.75, True),
    Goal("requests/s, 64 clients, × SAQ", "saq", MANY_CLIENTS, _rate, 3.0, True),
    Goal("requests/s, 64 clients, × Celery", "celery", MANY_CLIENTS, _rate, 8.0, True),
    Goal("p50, one client, of SAQ", "saq", 1, _p50, 0.7, False),
)


class Results:
    """All measurements of one run."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self.measurements = list(measurements)

    @property
    def fsyncs(self) -> list[str]:
        return list(dict.fromkeys(each.fsync for each in self.measurements))

    def figure(
        self, contender: str, fsync: str, clients: int, value: Callable[[Load], float]
    ) -> Figure:
        return Figure.of(list(self._by_round(contender, fsync, clients, value).values()))

    def ratio(self, goal: Goal, fsync: str) -> Figure:
        """Ours to the other's, each pair from one round, so that both had the same machine."""
        ours = self._by_round(OURS, fsync, goal.clients, goal.value)
        other = self._by_round(goal.other, fsync, goal.clients, goal.value)
        return Figure.of([ours[number] / other[number] for number in ours])

    def cpu_ratio(self, goal: Goal, fsync: str) -> float:
        """The same by the web process's CPU a request, which other programs disturb little."""
        ours = self.figure(OURS, fsync, goal.clients, _web_cpu).middle
        return self.figure(goal.other, fsync, goal.clients, _web_cpu).middle / ours

    def others_busy(self) -> Figure:
        """Cores that programs beside the benchmark kept busy."""
        return Figure.of([each.load.others_cpu / each.load.seconds for each in self.measurements])

    def _by_round(
        self, contender: str, fsync: str, clients: int, value: Callable[[Load], float]
    ) -> dict[int, float]:
        return {
            each.round: value(each.load)
            for each in self.measurements
            if (each.contender, each.fsync, each.load.clients) == (contender, fsync, clients)
        }


def page(results: Results, circumstances: Sequence[str]) -> str:
    """Markdown that reads well in a terminal too."""
    parts = ["# Submitting: POST /v1/emails", "", *circumstances, ""]
    for fsync in results.fsyncs:
        parts += [f"## AOF {fsync}", "", *table(_contender_rows(results, fsync)), ""]
    parts += ["## Goals", "", *table(_goal_rows(results))]
    return "\n".join(parts) + "\n"


def _contender_rows(results: Results, fsync: str) -> list[list[str]]:
    rows = [
        [
            "", "requests/s, 64 clients", "p50 ms", "p99 ms", "p50 ms, one client",
            "p99 ms, one client", "web CPU µs/request", "cores: web + Valkey + clients",
        ]
    ]  # fmt: skip
    for contender in CONTENDERS:

        def many(value: Callable[[Load], float], name: str = contender.name) -> Figure:
            return results.figure(name, fsync, MANY_CLIENTS, value)

        def one(value: Callable[[Load], float], name: str = contender.name) -> Figure:
            return results.figure(name, fsync, 1, value)

        cores = [
            many(lambda load: load.web_cpu / load.seconds).middle,
            many(lambda load: load.valkey_cpu / load.seconds).middle,
            many(lambda load: load.client_cpu / load.seconds).middle,
        ]
        rows.append(
            [
                contender.label,
                many(_rate).text(),
                many(_p50).text(".1f", 1e-3),
                many(lambda load: load.p99_us).text(".1f", 1e-3),
                one(_p50).text(".2f", 1e-3),
                one(lambda load: load.p99_us).text(".2f", 1e-3),
                many(_web_cpu).text(),
                " + ".join(f"{share:.2f}" for share in cores),
            ]
        )
    return rows


def _goal_rows(results: Results) -> list[list[str]]:
    rows = [["ours to theirs", "goal", "AOF", "measured, by round", "by web CPU", "reached"]]
    for goal in GOALS:
        for fsync in results.fsyncs:
            ratio = results.ratio(goal, fsync)
            by_cpu = f"{results.cpu_ratio(goal, fsync):.2f}" if goal.at_least else "–"
            bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}"
            reached = "yes" if goal.met(ratio.middle) else "no"
            rows.append([goal.text, bound, fsync, ratio.text(".2f"), by_cpu, reached])
    return rows
