"""How fast submissions are taken, against five peers: `python -m benchmarks.submit`.

One round gives each contender a burst of 64 clients and one of a single client, in an order
that moves on by one each round; only figures of one run may be compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from benchmarks import plot, processes, report
from benchmarks.circumstances import circumstances, leave
from benchmarks.contenders import CONTENDERS, Contender, installed, versions
from benchmarks.load import Load, LoadError, burst, require_wrk, write_body
from benchmarks.processes import FSYNC, Server, StartError
from benchmarks.report import MANY_CLIENTS, Measurement, Results

WARM_UP_SECONDS = 2
# What serves HTTP, for all.
SERVING = ("uvicorn", "uvloop", "httptools", "hiredis")


def main() -> None:
    """Measure, print the page, and write it with its picture and raw data."""
    options = _options()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, leave)
    try:
        require_wrk()
        pythons = {each.name: installed(each.peer, options.cache) for each in CONTENDERS}
        measurements = list(_measure(options, pythons))
    except (LoadError, StartError) as error:
        raise SystemExit(f"benchmark: {error}") from error
    results = Results(measurements)
    lines = circumstances("benchmarks.submit", _about(options, results, pythons))
    text = report.page(results, lines)
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "submit.md").write_text(text)
    (options.output / "submit.svg").write_text(plot.draw(results, lines[0].lstrip("- ")))
    raw = [asdict(each) for each in measurements]
    (options.cache / "submit.json").write_text(json.dumps(raw, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submit", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="three short rounds, AOF everysec only"
    )
    parser.add_argument("--rounds", type=int, help="rounds for each way of writing (5)")
    parser.add_argument("--seconds", type=int, help="length of each burst, whole seconds (4)")
    parser.add_argument("--fsync", choices=FSYNC, action="append", help="repeatable (all three)")
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
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 4)
    options.fsync = options.fsync or (["everysec"] if options.quick else list(FSYNC))
    options.output = options.output or options.cache
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


def _measure(options: argparse.Namespace, pythons: dict[str, Path]) -> Iterator[Measurement]:
    for fsync in options.fsync:
        with _staged(options.cache, fsync, pythons) as stage:
            for contender in CONTENDERS:
                stage.burst(contender, 1, WARM_UP_SECONDS)
            for number in range(options.rounds):
                for contender in _rotated(number):
                    for clients in (MANY_CLIENTS, 1):
                        load = stage.burst(contender, clients, options.seconds)
                        yield Measurement(contender.name, fsync, number, load)
                        _say(contender, fsync, number, load)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A Valkey, and all contenders running on it."""

    valkey: Server
    client: redis.Redis
    webs: dict[str, Server]
    body: Path

    def burst(self, contender: Contender, clients: int, seconds: int) -> Load:
        """One burst on an empty Valkey, which must then hold every job that was accepted."""
        processes.emptied(self.client)
        web = self.webs[contender.name]
        load = burst(
            f"http://127.0.0.1:{web.port}/v1/emails",
            self.body,
            clients=clients,
            seconds=seconds,
            web_pid=web.pid,
            valkey_pid=self.valkey.pid,
        )
        if contender.jobs is not None:
            found = contender.jobs(self.client)
            # wrk leaves without waiting for its last answers, so some of the burst before may
            # have come late.
            if not load.requests <= found <= load.requests + 2 * MANY_CLIENTS:
                raise LoadError(
                    f"{contender.label} accepted {load.requests} jobs, and Valkey has {found}"
                )
        return load


@contextmanager
def _staged(cache: Path, fsync: str, pythons: dict[str, Path]) -> Iterator[_Stage]:
    with ExitStack() as stack:
        # Not the system's folder for temporary files, which may be in memory.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache)))
        valkey = stack.enter_context(processes.valkey(folder, fsync))
        client = stack.enter_context(redis.Redis(port=valkey.port))
        webs = {
            each.name: stack.enter_context(_started(each, pythons[each.name], valkey, folder))
            for each in CONTENDERS
        }
        yield _Stage(valkey, client, webs, write_body(folder))


def _started(
    contender: Contender, python: Path, valkey: Server, folder: Path
) -> AbstractContextManager[Server]:
    port = processes.free_port()
    return processes.web(
        contender.command(python, port),
        contender.folder,
        contender.environment(f"redis://127.0.0.1:{valkey.port}/0", port, folder),
        port,
        folder / f"{contender.name}.log",
    )


def _rotated(number: int) -> Sequence[Contender]:
    start = number % len(CONTENDERS)
    return CONTENDERS[start:] + CONTENDERS[:start]


def _say(contender: Contender, fsync: str, number: int, load: Load) -> None:
    print(
        f"AOF {fsync:<8} round {number + 1}  {contender.label:<26} {load.clients:>2} clients"
        f" {load.rate:>7,.0f}/s  p50 {load.p50_us / 1e3:>6.2f} ms"
        f"  others busy {load.others_cpu / load.seconds:.2f}",
        file=sys.stderr,
        flush=True,
    )


def _about(options: argparse.Namespace, results: Results, pythons: dict[str, Path]) -> list[str]:
    lines = [
        f"- medians of {options.rounds} interleaved rounds (lowest–highest),"
        f" {options.seconds} s each; body 1,024 bytes, HTTP keep-alive, no workers running",
        f"- other programs kept {results.others_busy().text('.2f')} cores busy meanwhile",
        f"- {_wrk_version()}",
    ]
    for contender in CONTENDERS:
        if contender.shown:
            found = versions((*contender.shown, *SERVING), pythons[contender.name])
            named = ", ".join(f"{name} {version}" for name, version in found.items())
            lines.append(f"- {contender.label}: {named}")
    return lines


def _wrk_version() -> str:
    # It has no option for that: asked wrongly, it introduces itself.
    found = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return " ".join((found.stdout + found.stderr).split()[:2])


if __name__ == "__main__":
    main()
