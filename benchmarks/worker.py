"""How fast jobs are run, against eight peers: `python -m benchmarks.worker`.

In each round everybody has one turn, in an order that moves on by one; only figures of one run
may be compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

import redis

from benchmarks import bursts, depths, processes, worker_report
from benchmarks.bursts import Burst, BurstError, Stage
from benchmarks.circumstances import circumstances, leave
from benchmarks.contenders import installed, versions
from benchmarks.processes import StartError
from benchmarks.work_contenders import (
    ARQ,
    CELERY,
    EVERYBODY,
    RECADO,
    RECADO_DEFAULTS,
    RQ,
    SAQ,
    WorkContender,
)
from benchmarks.worker_results import FAST_MS, HALF, IDLE, SLOW_MS, WorkerResults

PARTS = ("noop", "mail", "latency", "depth", "workers")
IDLE_RATE = 50.0
# Sent in a second, at most: the first burst of mails is as long as that.
MAILS = {SLOW_MS: 300, FAST_MS: 1500}
DEPTHS = (1_000, 100_000, 500_000)
QUICK_DEPTHS = (1_000, 50_000)


def main() -> None:
    """Measure, print the page, and write it with its picture and raw data."""
    options = _options()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, leave)
    results = WorkerResults()
    try:
        pythons = {each.name: installed(each.peer, options.cache) for each in EVERYBODY}
        with _staged(options.cache, pythons) as stage:
            run = _Run(options, stage, results)
            for part in options.only:
                getattr(run, part)()
    except (BurstError, StartError) as error:
        raise SystemExit(f"benchmark: {error}") from error
    lines = circumstances("benchmarks.worker", _about(options, run, pythons))
    text = worker_report.page(results, lines)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "worker.md").write_text(text)
    if results.noop or results.mail or results.latency:
        (options.output / "worker.svg").write_text(
            worker_report.draw(results, lines[0].lstrip("- "))
        )
    (options.cache / "worker.json").write_text(json.dumps(run.raw, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, shallow queues")
    parser.add_argument("--only", choices=PARTS, action="append", help="repeatable (all five)")
    parser.add_argument("--rounds", type=int, help="rounds of each part (5)")
    parser.add_argument("--seconds", type=float, help="length of each burst, about (5)")
    parser.add_argument(
        "--output", type=Path, help="folder of the page and the plot (the cache folder)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache" / "recado-bench",
        help="folder of the peers' environments and the raw data",
    )
    options = parser.parse_args()
    options.only = [part for part in PARTS if options.only is None or part in options.only]
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (4.0 if options.quick else 5.0)
    options.output = options.output or options.cache
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


@contextmanager
def _staged(cache: Path, pythons: dict[str, Path]) -> Iterator[Stage]:
    with ExitStack() as stack:
        # Not the system's folder for temporary files, which may be in memory.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache)))
        valkey = stack.enter_context(processes.valkey(folder, "everysec"))
        client = stack.enter_context(redis.Redis(port=valkey.port))
        yield Stage(valkey, client, folder, pythons)


class _Run:
    """One run of all parts. A burst is as long as the one before of the same was fast."""

    def __init__(self, options: argparse.Namespace, stage: Stage, results: WorkerResults) -> None:
        self._options = options
        self._stage = stage
        self._results = results
        self._rates = {each.name: float(each.guess) for each in EVERYBODY}
        self.raw: list[dict[str, object]] = []

    @property
    def others_cores(self) -> list[float]:
        return [float(str(each["others_cores"])) for each in self.raw if "others_cores" in each]

    def noop(self) -> None:
        for _, contender in self._turns(EVERYBODY):
            found = self._noop(contender)
            self._results.noop.setdefault(contender.name, []).append(found)
            self._keep("noop", found)

    def mail(self) -> None:
        rates = {(name, ms): count for name in ("recado", "saq") for ms, count in MAILS.items()}
        for _, contender in self._turns((RECADO_DEFAULTS, SAQ)):
            for milliseconds in MAILS:
                key = (contender.name, milliseconds)
                jobs = _whole(rates[key] * self._options.seconds)
                found = bursts.mail_burst(self._stage, contender, jobs, milliseconds)
                rates[key] = int(found.rate)
                self._results.mail.setdefault(key, []).append(found)
                self._keep(f"mail {milliseconds} ms", found)

    def latency(self) -> None:
        for number, contender in self._turns((RECADO, SAQ, ARQ)):
            if number == 0 and contender.name not in self._results.noop:
                self._noop(contender)  # half of what?
            for load, rate in ((IDLE, IDLE_RATE), (HALF, self._rates[contender.name] / 2)):
                found = bursts.latency(self._stage, contender, rate, self._options.seconds)
                self._results.latency.setdefault((contender.name, load), []).append(found)
                self._keep(f"latency, {load}", found)

    def depth(self) -> None:
        quick = self._options.quick
        self._results.depths = depths.measure(
            QUICK_DEPTHS if quick else DEPTHS, 100 if quick else 500, self._stage.folder
        )
        for each in self._results.depths:
            self._keep("depth", each)
        for contender in (RECADO, RQ, ARQ, CELERY):
            processes.emptied(self._stage.client)
            self._stage.fill(contender, "mail", 1)
            before, jobs = depths.used_bytes(self._stage.client), 2000 if quick else 10_000
            self._stage.fill(contender, "mail", jobs)
            used = depths.used_bytes(self._stage.client) - before
            self._results.bytes_a_job[contender.name] = used / jobs
            _say("bytes", contender.label, f"{used / jobs:,.0f}")

    def workers(self) -> None:
        for _ in range(self._options.rounds):
            for count in (1, 2):
                jobs = int(self._rates["recado"] * count * self._options.seconds)
                found = bursts.burst(self._stage, RECADO, jobs, workers=count)
                self._results.workers.setdefault(count, []).append(found)
                self._keep(f"{count} workers", found)

    def _noop(self, contender: WorkContender) -> Burst:
        jobs = int(self._rates[contender.name] * self._options.seconds)
        found = bursts.burst(self._stage, contender, jobs)
        self._rates[contender.name] = found.rate
        return found

    def _turns(self, contenders: Sequence[WorkContender]) -> Iterator[tuple[int, WorkContender]]:
        for number in range(self._options.rounds):
            start = number % len(contenders)
            for contender in (*contenders[start:], *contenders[:start]):
                yield number, contender

    def _keep(self, part: str, found: object) -> None:
        facts = asdict(found)  # type: ignore[call-overload]
        self.raw.append({"part": part, **facts})
        _say(part, "", "  ".join(f"{name} {_short(value)}" for name, value in facts.items()))


def _whole(jobs: float) -> int:
    """Waves of 64: an incomplete one would look slow."""
    return max(bursts.TOGETHER * 5, round(jobs / bursts.TOGETHER) * bursts.TOGETHER)


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _say(*words: str) -> None:
    print(*words, file=sys.stderr, flush=True)


def _about(options: argparse.Namespace, run: _Run, pythons: dict[str, Path]) -> list[str]:
    lines = [
        f"- medians of {options.rounds} interleaved rounds (lowest–highest), bursts of about"
        f" {options.seconds:g} s; AOF everysec; logs at warning but where it says otherwise"
    ]
    if run.others_cores:
        lines.append(
            f"- other programs kept {median(run.others_cores):.2f} cores busy meanwhile"
            f" ({min(run.others_cores):.2f}–{max(run.others_cores):.2f})"
        )
    for contender in EVERYBODY:
        if contender.shown:
            found = versions(contender.shown, pythons[contender.name])
            named = ", ".join(f"{name} {version}" for name, version in found.items())
            lines.append(f"- {contender.label}: {named}")
    return lines


if __name__ == "__main__":
    main()
